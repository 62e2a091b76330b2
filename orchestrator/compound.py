"""Nodes that hold graphs or nodes: subgraph, branch, loop, select, gather, team; and the one that asks a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from ..engines.base import Teamwork
from .graph import Edge, Graph, Input, Items, Map, Node, Think
from .joins import Join, all_of, any_of, settled

if TYPE_CHECKING:
    from .graph import Argument, Target
    from .template import Template

Flow: TypeAlias = Literal["none", "one", "many"]

CONDITION = "?"
"""The argument of a branch on which its arms depend; no value that a user names can be called so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subgraph(Node):
    """A graph as a node; its inputs are the arguments."""

    kind: ClassVar[str] = "subgraph"
    graph: Graph[Any]


@dataclass(frozen=True, slots=True)
class Arm:
    """A graph that a branch takes where its condition equals `value`; `label` names it in paths."""

    value: Any
    graph: Graph[Any]

    @property
    def label(self) -> str:
        return str(getattr(self.value, "name", self.value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch(Node):
    """One of several graphs, by the value of the argument CONDITION. An arm takes the arguments that it names."""

    kind: ClassVar[str] = "branch"
    arms: tuple[Arm, ...]
    otherwise: Graph[Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop(Node):
    """A graph run again on its own result, in the argument `carried`, until `until` says so or `at_most` times."""

    kind: ClassVar[str] = "loop"
    body: Graph[Any]
    carried: str
    at_most: int
    until: Target | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Select(Node):
    """The candidate in the argument `over` to which `by` gives the greatest score; the first of equals."""

    kind: ClassVar[str] = "select"
    by: Target
    over: str
    join: Join = all_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Gather(Node):
    """Waits for its arguments as the join says. Nodes that only a loser needs are cancelled with it."""

    kind: ClassVar[str] = "gather"
    join: Join = all_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Team(Node):
    """Thoughts that see each other while they are written; the value is the list of theirs."""

    kind: ClassVar[str] = "team"
    members: tuple[Think, ...]
    teamwork: Teamwork


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask(Node):
    """A question to a person."""

    kind: ClassVar[str] = "ask"
    template: Template


# ---- the graphs in a node


def graphs_in(node: Node) -> Iterator[tuple[str, Graph[Any]]]:
    """The graphs that a node holds, each with the label that tells it from the node's others."""
    match node:
        case Subgraph():
            yield "graph", node.graph
        case Branch():
            for index, arm in enumerate(node.arms):
                yield f"arm {index}", arm.graph
            if node.otherwise is not None:
                yield "otherwise", node.otherwise
        case Loop():
            yield "body", node.body
            if isinstance(node.until, Graph):
                yield "until", node.until
        case Select(by=Graph() as graph) | Map(target=Graph() as graph):
            yield "each", graph


def shown_label(node: Node, label: str) -> str:
    """The label of a graph in a node as it is shown to people: a branch's arms by their values."""
    kind, _, index = label.partition(" ")
    return f"arm {node.arms[int(index)].label}" if isinstance(node, Branch) and kind == "arm" else label


def passes_contexts(node: Node) -> Iterator[tuple[str, Graph[Any]]]:
    """The graphs in a node whose inputs are its arguments as they are, with the contexts that come with them."""
    if isinstance(node, Subgraph | Branch | Loop):
        for label, graph in graphs_in(node):
            if label != "until":
                yield label, graph


def continued_inputs(graph: Graph[Any]) -> Mapping[str, Node]:
    """The inputs whose contexts the graph goes on from, each with a node that does."""
    names = {node.name for node in graph.inputs}
    found: dict[str, Node] = {}
    for node in graph.nodes:
        if node.after in names:
            found.setdefault(node.after, node)
        for _, inner in passes_contexts(node):
            for name in continued_inputs(inner):
                argument = node.arguments.get(name)
                if isinstance(argument, Edge) and argument.node in names:
                    found.setdefault(argument.node, node)
    return found


# ---- which values come with a context


def flow(graph: Graph[Any], argument: Argument) -> Flow:
    """The contexts that come with a value. An input has the one that the graph is given with it."""
    if isinstance(argument, Items):
        return "many" if all(flow(graph, item) == "one" for item in argument.items) else "none"
    if not isinstance(argument, Edge) or argument.path:
        return "none"
    node = graph.find(argument.node)
    match node:
        case Think():
            if (node.samples == 1 and node.join == all_of) or node.join == any_of:
                return "one"
            return "none" if node.join == settled else "many"
        case Team():
            return "many"
        case Select():
            return "one" if flow(graph, node.arguments[node.over]) == "many" else "none"
        case Subgraph() | Branch() | Loop():
            flows = {_flow_through(graph, node, inner) for _, inner in passes_contexts(node)}
            return flows.pop() if len(flows) == 1 else "none"
        case Input():
            return "one"
    return "none"


def _flow_through(graph: Graph[Any], node: Node, inner: Graph[Any]) -> Flow:
    """The contexts that come with the result of a graph in a node."""
    result = inner.result
    if isinstance(result, Edge) and not result.path and isinstance(inner.find(result.node), Input):
        argument = node.arguments.get(result.node)
        return "none" if argument is None else flow(graph, argument)
    return flow(inner, result)

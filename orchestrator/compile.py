"""The compiler: from a graph and an engine to the plan of a run (DESIGN.md §6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..engines.base import Capabilities, Engine
from ..errors import GraphError
from .graph import Call, Drive, Graph, Map, Node, Think
from .nodes import runs_in_place
from .ref import describe_node


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does: who waits for whom, and who reads whose context last.

    `sources` are the nodes that a node waits for, `readers` those that wait for it, `continued` those that continue its
    context: it is released when the last of them has run. `in_place` are plain functions, which need no task.
    """

    graph: Graph[Any]
    engine: str
    nodes: Mapping[str, Node]
    sources: Mapping[str, tuple[str, ...]]
    readers: Mapping[str, tuple[str, ...]]
    continued: Mapping[str, tuple[str, ...]]
    in_place: frozenset[str]

    @property
    def needs_engine(self) -> bool:
        return needs_engine(self.graph)

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON values: the graph, its contexts and the calls that can be foretold."""
        return {
            "graph": self.graph.as_dict(),
            "engine": self.engine,
            "contexts": [
                {"node": node.name, "after": node.after, "continued_by": list(self.continued[node.name])}
                for node in self.nodes.values()
                if isinstance(node, Think)
            ],
            "calls": {
                "think": sum(node.samples for node in self.nodes.values() if isinstance(node, Think)),
                "tool": sum(isinstance(node, Call) for node in self.nodes.values()),
                "per_item": [node.name for node in self.nodes.values() if isinstance(node, Map)],
                "grown": [node.name for node in self.nodes.values() if isinstance(node, Drive)],
            },
        }

    def describe(self) -> str:
        """The plan as text."""
        return "\n".join(_describe(self))


def compile_graph(graph: Graph[Any], engine: Engine | None) -> Plan:
    """Plan a run of the graph on the engine. Raises GraphError where the engine can't do what a node needs."""
    nodes = {node.name: node for node in graph.nodes}
    for node in graph.nodes:
        _check_needs(graph, node, engine)
    sources = {node.name: tuple(sorted(node.sources)) for node in graph.nodes}
    readers: dict[str, list[str]] = {name: [] for name in nodes}
    continued: dict[str, list[str]] = {name: [] for name in nodes}
    for node in graph.nodes:
        for source in sources[node.name]:
            readers[source].append(node.name)
        if node.after:
            continued[node.after].append(node.name)
    return Plan(
        graph=graph,
        engine=engine.name if engine else "",
        nodes=nodes,
        sources=sources,
        readers={name: tuple(found) for name, found in readers.items()},
        continued={name: tuple(found) for name, found in continued.items()},
        in_place=frozenset(node.name for node in graph.nodes if runs_in_place(node)),
    )


def needs_engine(graph: Graph[Any]) -> bool:
    return any(isinstance(node, Think | Drive) for node in graph.nodes)


def offers(capabilities: Capabilities) -> list[str]:
    """What an engine can do, as nodes ask for it."""
    named = {
        "grammar": capabilities.grammars,
        "prune": capabilities.prune,
        "splice": capabilities.splice,
        "team": capabilities.team,
    }
    plain = [name for name in ("streaming", "seeds", "shared_prefix", "score") if getattr(capabilities, name)]
    return plain + [f"{name}:{option}" for name, options in named.items() for option in sorted(options)]


def _check_needs(graph: Graph[Any], node: Node, engine: Engine | None) -> None:
    if engine is None:
        if isinstance(node, Think):
            raise GraphError(f"graph '{graph.name}': {describe_node(node)} needs an engine; pass engine='local', say")
        return
    offered = offers(engine.capabilities)
    for need in node.needs:
        if need not in offered:
            raise GraphError(
                f"graph '{graph.name}': {describe_node(node)} needs '{need}', which engine '{engine.name}' can't do; "
                f"it offers: {', '.join(offered) or 'nothing beyond plain text'}"
            )


def _describe(plan: Plan) -> Iterator[str]:
    graph = plan.graph
    yield f"graph {graph.name} on engine {plan.engine or 'none'}: {len(graph.nodes)} nodes"
    for node in graph.nodes:
        parts = [f"  {node.kind:8} {node.name}"]
        sources = sorted(node.sources - {node.after})
        if sources:
            parts.append(f"← {', '.join(sources)}")
        if node.after:
            parts.append(f"continues the context of {node.after}")
        yield "  ".join(parts) + f"  ({node.where})"
    held = [f"{name} until {', '.join(by)} ran" for name, by in plan.continued.items() if by]
    yield f"contexts kept: {'; '.join(held) or 'none beyond their node'}"
    yield f"calls foreseen: {', '.join(_calls(plan)) or 'none'}"


def _calls(plan: Plan) -> Iterator[str]:
    calls = plan.as_dict()["calls"]
    if calls["think"]:
        yield f"{calls['think']} generations"
    if calls["tool"]:
        yield f"{calls['tool']} tool calls"
    for name in calls["per_item"]:
        yield f"one for each item of {name}"
    for name in calls["grown"]:
        yield f"what {name} grows"

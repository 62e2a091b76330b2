"""The compiler: from a graph and an engine to the plan of a run (DESIGN.md §6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from ..engines.base import Engine
from ..engines.kinds import able, offers_of
from ..engines.speed import Speed
from ..errors import GraphError
from ..tools import Tool
from .checks import ordered
from .compound import Ask, Loop, Select, Subgraph, Team, continued_inputs, graphs_in, passes_contexts, shown_label
from .forecast import Forecast, forecast, tokens_of
from .graph import Argument, Call, Drive, Edge, Foreseen, Graph, Map, Node, Think, edges_of
from .nodes import runs_in_place
from .prefixes import Prefix, find_prefixes
from .ref import describe_node
from .regions import Region, find_regions

NO_INPUTS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does: who waits for whom, and who reads whose context last.

    `sources` are the nodes that a node waits for, `readers` those that wait for it. `continued` are the nodes that read
    its context ("" is the graph's result): it is released when the last of them has run; `contexts` are the nodes whose
    context a node reads. `in_place` are plain functions, which need no task. `inner` are the plans of the graphs that a
    node holds, `regions` what an item of a gather alone needs. `prefixes` are what several thoughts begin with: the
    first encodes it, the others wait for that and find it there.
    """

    graph: Graph[Any]
    engine: str
    nodes: Mapping[str, Node]
    sources: Mapping[str, tuple[str, ...]]
    readers: Mapping[str, tuple[str, ...]]
    continued: Mapping[str, tuple[str, ...]]
    contexts: Mapping[str, tuple[str, ...]]
    in_place: frozenset[str]
    inner: Mapping[str, Mapping[str, Plan]]
    regions: Mapping[str, Region]
    prefixes: tuple[Prefix, ...] = ()
    speed: Speed | None = None
    """The engine's, where it was measured."""

    @property
    def needs_engine(self) -> bool:
        return needs_engine(self.graph)

    def forecast(self, inputs: Mapping[str, Any] = NO_INPUTS) -> Forecast:
        """What a run with these inputs is expected to use."""
        return forecast(self.graph, inputs, self.speed)

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON values: the graph, its contexts, prefixes and teams, and what can be foretold."""
        nodes = list(every_node(self.graph))
        return {
            "graph": self.graph.as_dict(),
            "engine": self.engine,
            "contexts": [
                {"node": node.name, "after": node.after, "continued_by": list(self.continued[node.name])}
                for node in self.nodes.values()
                if isinstance(node, Think)
            ],
            "prefixes": [
                {"system": prefix.system, "text": prefix.text, "nodes": list(prefix.paths)} for prefix in self.prefixes
            ],
            "teams": [
                {"node": node.name, "layout": node.teamwork.layout, "members": [one.name for one in node.members]}
                for node in nodes
                if isinstance(node, Team)
            ],
            "calls": {
                "think": _generations(self.graph),
                "tool": sum(isinstance(node, Call) for node in self.nodes.values()),
                "per_item": [node.name for node in self.nodes.values() if isinstance(node, Map)],
                "grown": [
                    node.name for node in self.nodes.values() if isinstance(node, Drive) and node.foreseen is None
                ],
                "asked": [node.name for node in nodes if isinstance(node, Ask)],
            },
            "forecast": self.forecast().as_dict(),
        }

    def describe(self) -> str:
        """The plan as text."""
        return "\n".join(_describe(self))


def compile_graph(graph: Graph[Any], engine: Engine | str | None, *, speed: Speed | None = None) -> Plan:
    """Plan a run of the graph on the engine, or on one of a name, which is not opened.

    `speed` is what was measured of it: the plan then foretells seconds too.
    Raises GraphError where the engine can't do what a node needs; of a name, where no engine of its kind can.
    """
    if isinstance(engine, str):
        name, offered = engine, offers_of(engine).offered
    else:
        name, offered = (engine.name, engine.capabilities.offered) if engine is not None else ("", ())
    _check_needs(graph, name, offered)
    for name, node in continued_inputs(graph).items():
        raise GraphError(
            f"graph '{graph.name}': {describe_node(node)} continues the context that comes with input '{name}', which "
            "has none when the graph is run by itself; use the graph in another (g.subgraph, g.loop, g.branch)"
        )
    return replace(_plan(graph, name, gives_context=False), prefixes=find_prefixes(graph), speed=speed)


def _plan(graph: Graph[Any], engine: str, *, gives_context: bool) -> Plan:
    nodes = {node.name: node for node in graph.nodes}
    sources = {node.name: tuple(sorted(node.sources)) for node in graph.nodes}
    readers: dict[str, list[str]] = {name: [] for name in nodes}
    for node in graph.nodes:
        for source in sources[node.name]:
            readers[source].append(node.name)
    in_order = ordered(graph)
    continued = _context_readers(graph, in_order, gives_context)
    contexts: dict[str, list[str]] = {name: [] for name in nodes}
    for source, found in continued.items():
        for name in filter(None, found):
            contexts[name].append(source)
    return Plan(
        graph=graph,
        engine=engine,
        nodes=nodes,
        sources=sources,
        readers={name: tuple(found) for name, found in readers.items()},
        continued={name: tuple(found) for name, found in continued.items()},
        contexts={name: tuple(found) for name, found in contexts.items() if found},
        in_place=frozenset(node.name for node in graph.nodes if runs_in_place(node)),
        inner={
            node.name: {
                label: _plan(inner, engine, gives_context=_gives_context(node, label, bool(continued[node.name])))
                for label, inner in held
            }
            for node in graph.nodes
            if (held := list(graphs_in(node)))
        },
        regions=find_regions(graph, in_order),
    )


def _context_readers(graph: Graph[Any], in_order: Sequence[Node], gives_context: bool) -> dict[str, list[str]]:
    """Who reads the context of each node, found from the end: what nobody continues is not kept."""
    found: dict[str, list[str]] = {node.name: [] for node in graph.nodes}

    def read(argument: Argument | None, reader: str) -> None:
        for edge in edges_of(argument) if argument is not None else ():
            if not edge.path and reader not in found[edge.node]:
                found[edge.node].append(reader)

    if gives_context:
        read(graph.result, "")
    for node in reversed(in_order):
        if node.after:
            read(Edge(node.after), node.name)
        if isinstance(node, Select) and found[node.name]:
            read(node.arguments[node.over], node.name)
        for label, inner in passes_contexts(node):
            for name in _wanted(inner, _gives_context(node, label, bool(found[node.name]))):
                read(node.arguments.get(name), node.name)
    return found


def _gives_context(node: Node, label: str, continued: bool) -> bool:
    """Whether the context of an inner graph's result is read: by who continues the node, or in a loop's next round."""
    if isinstance(node, Loop):
        return label == "body" and (continued or node.carried in continued_inputs(node.body))
    return continued and not isinstance(node, Select)


def _wanted(graph: Graph[Any], gives_context: bool) -> set[str]:
    """The inputs of a graph whose contexts it reads, or gives on."""
    wanted = set(continued_inputs(graph))
    if gives_context:
        wanted |= {edge.node for edge in edges_of(graph.result) if not edge.path} & {node.name for node in graph.inputs}
    return wanted


def needs_engine(graph: Graph[Any]) -> bool:
    return any(isinstance(node, Think | Drive | Team) for node in every_node(graph))


def _generations(graph: Graph[Any]) -> int:
    """How many generations a graph has, as far as it is written down."""
    found = 0
    for node in graph.nodes:
        match node:
            case Think():
                found += node.samples
            case Drive(foreseen=Foreseen() as told):
                found += told.generations
            case Subgraph():
                found += _generations(node.graph)
    return found


def check_answered(graph: Graph[Any]) -> None:
    """For a run that has nobody to ask: raise GraphError where a node asks."""
    for node in every_node(graph):
        if isinstance(node, Ask) or _calls_by_leave(node):
            raise GraphError(
                f"graph '{graph.name}': {describe_node(node)} asks a person, but the run has nobody to ask; "
                "pass answer=, a function of the question"
            )


def _calls_by_leave(node: Node) -> bool:
    """Whether a node calls a tool that a person has to approve, or that asks one."""
    match node:
        case Call(tool=tool) | Map(target=Tool() as tool) | Select(by=Tool() as tool):
            return tool.approve or tool.asks
    return False


def every_node(graph: Graph[Any]) -> Iterator[Node]:
    """The nodes of a graph and of the graphs in it."""
    for node in graph.nodes:
        yield node
        for _, inner in graphs_in(node):
            yield from every_node(inner)


def _check_needs(graph: Graph[Any], engine: str, offered: Sequence[str]) -> None:
    for node in graph.nodes:
        if not engine and isinstance(node, Think | Team):
            raise GraphError(f"graph '{graph.name}': {describe_node(node)} needs an engine; pass engine='local', say")
        for need in node.needs:
            if engine and need not in offered:
                raise GraphError(
                    f"graph '{graph.name}': {describe_node(node)} needs '{need}', which engine '{engine}' can't do; "
                    f"it offers: {', '.join(offered) or 'nothing beyond plain text'}; "
                    f"engines that can: {', '.join(able(need)) or 'none'}"
                )
        for _, inner in graphs_in(node):
            _check_needs(inner, engine, offered)


def _describe(plan: Plan) -> Iterator[str]:
    yield f"graph {plan.graph.name} on engine {plan.engine or 'none'}: {len(plan.graph.nodes)} nodes"
    yield from _describe_nodes(plan.graph, "  ")
    held = [f"{name} until {', '.join(filter(None, by))} ran" for name, by in plan.continued.items() if any(by)]
    yield f"contexts kept: {'; '.join(held) or 'none beyond their node'}"
    for prefix in plan.prefixes:
        size = tokens_of(prefix.system + prefix.text)
        again = ", again and again" if prefix.many else ""
        shown = (prefix.system + prefix.text)[:40]
        yield f"shared prefix: {shown!r}… (about {size} tokens), encoded once for {', '.join(prefix.paths)}{again}"
    for node in every_node(plan.graph):
        if isinstance(node, Team):
            members = ", ".join(member.name for member in node.members)
            yield f"team {node.name}: {members}, {node.teamwork.layout}"
    yield f"calls foreseen: {', '.join(_calls(plan)) or 'none'}"
    yield from _describe_forecast(plan.forecast(), plan.speed)


def _describe_nodes(graph: Graph[Any], indent: str) -> Iterator[str]:
    for node in graph.nodes:
        parts = [f"{indent}{node.kind:8} {node.name}"]
        sources = sorted(node.sources - {node.after})
        if sources:
            parts.append(f"← {', '.join(sources)}")
        if node.after:
            parts.append(f"continues the context of {node.after}")
        yield "  ".join(parts) + f"  ({node.where})"
        for label, inner in graphs_in(node):
            yield f"{indent}  {shown_label(node, label)}:"
            yield from _describe_nodes(inner, indent + "    ")


def _describe_forecast(told: Forecast, speed: Speed | None) -> Iterator[str]:
    usage = told.usage
    yield (
        f"tokens foreseen: about {usage.prefilled} prefilled and {usage.cached} cached, "
        f"at most {usage.generated} generated; critical path {usage.critical_path}"
    )
    if speed is not None and usage.seconds:
        yield (
            f"seconds foreseen: at least {usage.seconds:.3g} without tools (the longest chain "
            f"{speed.chain(usage):.3g}, all tokens {speed.work(usage):.3g}), at the speed measured on {speed.measured}"
        )
    if usage.cost:
        yield f"cost foreseen: {usage.cost:.4g}"
    if told.unforeseen:
        yield f"not foreseen: {'; '.join(told.unforeseen)}"


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

"""Checks of a whole graph: ends of edges, contexts, cycles, nodes that nothing uses."""

from __future__ import annotations

from typing import Any

from ..errors import GraphError
from .compound import Loop, continued_inputs, flow, passes_contexts
from .graph import Argument, Edge, Fixed, Graph, Node, edges_of
from .ref import describe_node


def check_graph(graph: Graph[Any]) -> None:
    """Raise GraphError that names the graph, both ends and their lines."""
    nodes: dict[str, Node] = {}
    for node in graph.nodes:
        if node.name in nodes:
            raise GraphError(
                f"graph '{graph.name}': two nodes are called '{node.name}' "
                f"({nodes[node.name].where} and {node.where}); give one of them another name="
            )
        nodes[node.name] = node
    for node in graph.nodes:
        _check_sources(graph, node, nodes)
    _check_order(graph, nodes)
    for node in graph.nodes:
        _check_contexts(graph, node)


def _check_sources(graph: Graph[Any], node: Node, nodes: dict[str, Node]) -> None:
    for source in sorted(node.sources - nodes.keys()):
        how = "comes after" if source == node.after else "reads the value of"
        raise GraphError(
            f"graph '{graph.name}': {describe_node(node)} {how} '{source}', which is no node of the graph; "
            f"nodes: {', '.join(nodes)}"
        )


def _check_contexts(graph: Graph[Any], node: Node) -> None:
    """Contexts come from thoughts, one to each who continues it."""
    if node.after:
        _check_after(graph, node, graph[node.after])
    for _, inner in passes_contexts(node):
        for name, reader in continued_inputs(inner).items():
            _check_context(graph, node, name, reader)
    if isinstance(node, Loop) and node.carried in continued_inputs(node.body):
        _check_carried(graph, node)


def _check_after(graph: Graph[Any], node: Node, parent: Node) -> None:
    """A node continues one context."""
    match flow(graph, Edge(parent.name)):
        case "none":
            raise GraphError(
                f"graph '{graph.name}': {describe_node(node)} comes after {describe_node(parent)}, which has no "
                "context to continue; only thoughts have; pass its value in braces instead"
            )
        case "many":
            count = getattr(parent, "samples", "several")
            raise GraphError(
                f"graph '{graph.name}': {describe_node(node)} comes after {describe_node(parent)}, which has "
                f"{count} contexts; continue a thought with one, or g.select one of them"
            )


def _check_context(graph: Graph[Any], node: Node, name: str, reader: Node) -> None:
    """A context flows into an input that is continued inside."""
    argument = node.arguments.get(name)
    if argument is None or flow(graph, argument) != "one":
        given = "its default" if argument is None else _describe(graph, argument)
        raise GraphError(
            f"graph '{graph.name}': {describe_node(reader)} continues the context that comes with input '{name}', "
            f"but {describe_node(node)} gives it {given}, which has no context; give it a thought"
        )


def _check_carried(graph: Graph[Any], node: Loop) -> None:
    """A context flows from round to round where the body continues it."""
    body = node.body
    if flow(body, body.result) != "one":
        raise GraphError(
            f"graph '{graph.name}': the body of {describe_node(node)} continues the context that comes with "
            f"'{node.carried}', but its result, {_describe(body, body.result)}, has none for the next round; "
            "return a thought"
        )


def _describe(graph: Graph[Any], argument: Argument) -> str:
    if isinstance(argument, Edge) and graph.find(argument.node):
        return describe_node(graph[argument.node])
    return f"the value {argument.value!r:.60}" if isinstance(argument, Fixed) else "a list"


def _check_order(graph: Graph[Any], nodes: dict[str, Node]) -> None:
    ends = {edge.node for edge in edges_of(graph.result)}
    missing = sorted(ends - nodes.keys())
    if missing:
        raise GraphError(f"graph '{graph.name}' ({graph.where}) returns '{missing[0]}', which is no node of the graph")
    used = set(ends)
    for node in reversed(ordered(graph)):
        if node.name in used:
            used |= node.sources
    for node in graph.nodes:
        if node.name not in used:
            raise GraphError(
                f"graph '{graph.name}': {describe_node(node)} is never used by the result of '{graph.name}' "
                f"({graph.where}); return it, pass it on, or remove it"
            )


def ordered(graph: Graph[Any]) -> list[Node]:
    """The nodes, each after those that it waits for; nearly always as they were written. Raises GraphError."""
    before: set[str] = set()
    for node in graph.nodes:
        if not node.sources <= before:
            return _sorted(graph, {node.name: node for node in graph.nodes})
        before.add(node.name)
    return list(graph.nodes)


def _sorted(graph: Graph[Any], nodes: dict[str, Node]) -> list[Node]:
    import networkx  # only where it is needed: it takes longer to import than all of plait

    net: networkx.DiGraph[str] = networkx.DiGraph()
    net.add_nodes_from(nodes)
    net.add_edges_from((source, node.name) for node in graph.nodes for source in sorted(node.sources))
    try:
        return [nodes[name] for name in networkx.topological_sort(net)]
    except networkx.NetworkXUnfeasible:
        cycle = [start for start, _ in networkx.find_cycle(net)]
        path = " → ".join(describe_node(nodes[name]) for name in [*cycle, cycle[0]])
        raise GraphError(f"graph '{graph.name}' has a cycle, so none of these can start: {path}") from None

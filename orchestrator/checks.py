"""Checks of a whole graph: ends of edges, contexts, cycles, nodes that nothing uses."""

from __future__ import annotations

from typing import Any

from ..errors import GraphError
from .graph import Graph, Node, Think, edges_of
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
        _check_ends(graph, node, nodes)
    _check_order(graph, nodes)


def _check_ends(graph: Graph[Any], node: Node, nodes: dict[str, Node]) -> None:
    for source in sorted(node.sources - nodes.keys()):
        how = "comes after" if source == node.after else "reads the value of"
        raise GraphError(
            f"graph '{graph.name}': {describe_node(node)} {how} '{source}', which is no node of the graph; "
            f"nodes: {', '.join(nodes)}"
        )
    if not node.after:
        return
    parent = nodes[node.after]
    if not isinstance(parent, Think):
        raise GraphError(
            f"graph '{graph.name}': {describe_node(node)} comes after {describe_node(parent)}, which has no context "
            "to continue; only thoughts have; pass its value in braces instead"
        )
    if parent.samples > 1:
        raise GraphError(
            f"graph '{graph.name}': {describe_node(node)} comes after {describe_node(parent)}, which has "
            f"{parent.samples} contexts (samples); continue a thought with one"
        )


def _check_order(graph: Graph[Any], nodes: dict[str, Node]) -> None:
    ends = {edge.node for edge in edges_of(graph.result)}
    missing = sorted(ends - nodes.keys())
    if missing:
        raise GraphError(f"graph '{graph.name}' ({graph.where}) returns '{missing[0]}', which is no node of the graph")
    used = set(ends)
    for node in reversed(_ordered(graph, nodes)):
        if node.name in used:
            used |= node.sources
    for node in graph.nodes:
        if node.name not in used:
            raise GraphError(
                f"graph '{graph.name}': {describe_node(node)} is never used by the result of '{graph.name}' "
                f"({graph.where}); return it, pass it on, or remove it"
            )


def _ordered(graph: Graph[Any], nodes: dict[str, Node]) -> list[Node]:
    """The nodes, each after those that it waits for; nearly always as they were written."""
    before: set[str] = set()
    for node in graph.nodes:
        if not node.sources <= before:
            return _sorted(graph, nodes)
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

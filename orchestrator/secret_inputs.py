"""Which inputs of a graph are secret: those that it gives to arguments which a tool keeps secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..tools import Tool
from .compound import Select, graphs_in
from .graph import Call, Graph, Map, Node, edges_of
from .redaction import Secrets


def secret_inputs(graph: Graph[Any]) -> set[str]:
    """The inputs that reach a secret argument as they are, or a part of them, through inner graphs too."""
    reached = {
        edge.node
        for node in graph.nodes
        for name in _secret_arguments(node) & node.arguments.keys()
        for edge in edges_of(node.arguments[name])
    }
    return reached & {node.name for node in graph.inputs}


def hide_inputs(graph: Graph[Any], values: Mapping[str, Any], secrets: Secrets) -> None:
    """Hide them from the beginning: what is shown before the tool is called may hold them already."""
    for name in sorted(secret_inputs(graph)):
        value = values[name]
        for index, text in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(text, str):
                secrets.add_known(f"{name}.{index}" if isinstance(value, list) else name, text)


def _secret_arguments(node: Node) -> set[str]:
    found: set[str] = set()
    match node:
        case Call(tool=tool) | Map(target=Tool() as tool) | Select(by=Tool() as tool):
            found.update(tool.secret)
    for _, inner in graphs_in(node):
        found |= secret_inputs(inner)
    return found

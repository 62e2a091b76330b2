"""Graphs as JSON values and as Mermaid."""

from __future__ import annotations

import inspect
import json
import math
from typing import Any

from ..tools import Tool
from .graph import Argument, Call, Constant, Drive, Edge, Fixed, Function, Graph, Input, Map, Node, Think, edges_of
from .types import name_of

VERSION = 1
"""Of the JSON form."""

_SHAPES = {
    "input": '(["{}"])',
    "constant": '(["{}"])',
    "think": '["{}"]',
    "call": '[["{}"]]',
    "map": '[/"{}"/]',
    "function": '("{}")',
    "drive": '{{{{"{}"}}}}',
    "subgraph": '[["{}"]]',
    "branch": '{{"{}"}}',
    "loop": '(["{}"])',
    "select": '[\\"{}"/]',
    "gather": '(("{}"))',
    "team": '[["{}"]]',
    "ask": '>"{}"]',
}


def graph_dict(graph: Graph[Any]) -> dict[str, Any]:
    """The structure of a graph; functions and tools by name."""
    return {
        "version": VERSION,
        "name": graph.name,
        "returns": name_of(graph.returns),
        "result": _argument(graph.result),
        "nodes": [_node(node) for node in graph.nodes],
    }


def mermaid(graph: Graph[Any]) -> str:
    """A flowchart: values flow along solid arrows, contexts along thick ones."""
    ids = {node.name: f"n{index}" for index, node in enumerate(graph.nodes)}
    lines = ["flowchart TD"]
    for node in graph.nodes:
        label = node.name if node.kind in node.name else f"{node.kind}: {node.name}"
        label = label.replace('"', "#quot;")
        lines.append(f"  {ids[node.name]}{_SHAPES[node.kind].format(label)}")
    for node in graph.nodes:
        for name, argument in node.arguments.items():
            lines += [f"  {ids[edge.node]} -->|{name}| {ids[node.name]}" for edge in edges_of(argument)]
        if node.after:
            lines.append(f"  {ids[node.after]} ==> {ids[node.name]}")
    lines.append('  result(("result"))')
    lines += [f"  {ids[edge.node]} --> result" for edge in edges_of(graph.result)]
    return "\n".join(lines)


def _node(node: Node) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": node.name, "kind": node.kind, "type": name_of(node.type), "where": str(node.where)}
    if node.arguments:
        entry["arguments"] = {name: _argument(argument) for name, argument in node.arguments.items()}
    if node.after:
        entry["after"] = node.after
    if node.timeout != math.inf:
        entry["timeout"] = node.timeout
    if node.needs:
        entry["needs"] = list(node.needs)
    return entry | _own(node)


def _own(node: Node) -> dict[str, Any]:
    match node:
        case Input() if node.default is not inspect.Parameter.empty:
            return {"default": _plain(node.default)}
        case Constant():
            return {"value": _plain(node.value)}
        case Think():
            options = {"max_tokens": node.max_tokens, "samples": node.samples, "temperature": node.sampling.temperature}
            return {"template": node.template.source, "system": node.system, "stop": list(node.stop), **options}
        case Call():
            return {"tool": node.tool.name}
        case Map():
            return {"target": _name(node.target), "over": node.over, "cap": node.cap}
        case Function():
            return {"function": _name(node.function)}
        case Drive():
            return {"driver": _name(node.driver)}
    return {}


def _argument(argument: Argument) -> dict[str, Any]:
    match argument:
        case Edge(name, path):
            return {"node": name, "path": list(path)} if path else {"node": name}
        case Fixed(value):
            return {"value": _plain(value)}
        case _:
            return {"items": [_argument(item) for item in argument.items]}


def _name(target: Any) -> str:
    if isinstance(target, Tool):
        return target.name
    return f"{getattr(target, '__module__', '')}:{getattr(target, '__qualname__', type(target).__name__)}"


def _plain(value: object) -> Any:
    """As JSON where it can be, else its repr."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError):
        return repr(value)

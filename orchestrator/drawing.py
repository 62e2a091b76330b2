"""Drawings of graphs, in Mermaid's and in Graphviz's language."""

from __future__ import annotations

import json
from typing import Any, Literal, Protocol, TypeAlias

from .compound import CONDITION, graphs_in, shown_label
from .graph import Graph, edges_of

Line: TypeAlias = Literal["value", "context", "inside"]
"""Values flow along plain arrows, contexts along thick ones; a dotted one leads to the graphs in a node."""


def mermaid(graph: Graph[Any]) -> str:
    """A Mermaid flowchart. Values flow along solid arrows, contexts along thick ones; a node's graphs are boxes."""
    return _draw(graph, _Mermaid())


def dot(graph: Graph[Any]) -> str:
    """A Graphviz digraph. Values flow along solid arrows, contexts along bold ones; a node's graphs are clusters."""
    return _draw(graph, _Dot(graph.name))


class _Pen(Protocol):
    """Writes one language."""

    def node(self, name: str, kind: str, label: str) -> None: ...
    def edge(self, start: str, end: str, line: Line, label: str = "") -> None: ...
    def open(self, name: str, label: str) -> None: ...
    def close(self) -> None: ...
    def text(self) -> str: ...


def _draw(graph: Graph[Any], pen: _Pen) -> str:
    ids = _draw_nodes(graph, pen, "n")
    pen.node("result", "result", "result")
    for edge in edges_of(graph.result):
        pen.edge(ids[edge.node], "result", "value")
    return pen.text()


def _draw_nodes(graph: Graph[Any], pen: _Pen, prefix: str) -> dict[str, str]:
    ids = {node.name: f"{prefix}{index}" for index, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        pen.node(ids[node.name], node.kind, node.name if node.kind in node.name else f"{node.kind}: {node.name}")
    for node in graph.nodes:
        for name, argument in node.arguments.items():
            for edge in edges_of(argument):
                pen.edge(ids[edge.node], ids[node.name], "value", name.strip(CONDITION))
        if node.after:
            pen.edge(ids[node.after], ids[node.name], "context")
        for index, (label, inner) in enumerate(graphs_in(node)):
            box = f"{ids[node.name]}_{index}"
            pen.open(box, f"{node.name}: {shown_label(node, label)}")
            _draw_nodes(inner, pen, f"{box}_")
            pen.close()
            if inner.nodes:
                pen.edge(ids[node.name], f"{box}_0", "inside")
    return ids


class _Mermaid:
    """Indented by the boxes that are open."""

    SHAPES = {  # noqa: RUF012
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
        "result": '(("{}"))',
    }
    ARROWS = {"value": "-->", "context": "==>", "inside": "-.->"}  # noqa: RUF012

    def __init__(self) -> None:
        self._lines = ["flowchart TD"]
        self._edges: list[str] = []
        self._depth = 1

    def node(self, name: str, kind: str, label: str) -> None:
        self._add(name + self.SHAPES[kind].format(_mermaid_text(label)))

    def edge(self, start: str, end: str, line: Line, label: str = "") -> None:
        shown = f"|{label}|" if label else ""
        self._edges.append(f"  {start} {self.ARROWS[line]}{shown} {end}")

    def open(self, name: str, label: str) -> None:
        self._add(f'subgraph {name}["{_mermaid_text(label)}"]')
        self._depth += 1

    def close(self) -> None:
        self._depth -= 1
        self._add("end")

    def text(self) -> str:
        return "\n".join(self._lines + self._edges)

    def _add(self, line: str) -> None:
        self._lines.append("  " * self._depth + line)


def _mermaid_text(label: str) -> str:
    return label.replace('"', "#quot;").replace("\n", " ")


class _Dot:
    """Indented by the clusters that are open; edges stand outside of all, so that they pull no node into one."""

    SHAPES = {  # noqa: RUF012
        "input": "ellipse",
        "constant": "ellipse",
        "branch": "diamond",
        "select": "invtrapezium",
        "gather": "invtriangle",
        "map": "parallelogram",
        "drive": "hexagon",
        "loop": "oval",
        "ask": "note",
        "result": "doublecircle",
    }
    STYLES = {"value": "solid", "context": "bold", "inside": "dotted"}  # noqa: RUF012

    def __init__(self, name: str) -> None:
        self._lines = [f"digraph {_quoted(name)} {{"]
        self._edges: list[str] = []
        self._depth = 1

    def node(self, name: str, kind: str, label: str) -> None:
        self._add(f"{name} [label={_quoted(label)}, shape={self.SHAPES.get(kind, 'box')}];")

    def edge(self, start: str, end: str, line: Line, label: str = "") -> None:
        self._edges.append(f"  {start} -> {end} [style={self.STYLES[line]}, label={_quoted(label)}];")

    def open(self, name: str, label: str) -> None:
        self._add(f"subgraph cluster_{name} {{")
        self._depth += 1
        self._add(f"label={_quoted(label)};")

    def close(self) -> None:
        self._depth -= 1
        self._add("}")

    def text(self) -> str:
        return "\n".join([*self._lines, *self._edges, "}"])

    def _add(self, line: str) -> None:
        self._lines.append("  " * self._depth + line)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)

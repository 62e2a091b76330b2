"""Symbolic references: what stands for a node's value while a graph is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import GraphError
from .graph import Edge
from .types import field_type, name_of

if TYPE_CHECKING:
    from .graph import Node
    from .writing import Writer


class Ref:
    """The value of a node that has not run, or a field of it (`verdict.larger`).

    It can be passed to other nodes and returned; anything that needs the value itself is a GraphError.
    """

    __slots__ = ("_builder", "_node", "_path", "_type")

    def __init__(self, builder: Writer, node: Node, type_: Any, path: tuple[str, ...] = ()) -> None:
        self._builder = builder
        self._node = node
        self._type = type_
        self._path = path

    def __getattr__(self, name: str) -> Ref:
        if name.startswith("_"):
            raise AttributeError(name)
        found = field_type(self._type, name)
        if found is None:
            raise GraphError(f"{describe(self)} is of type {name_of(self._type)}, which has no field '{name}'")
        return Ref(self._builder, self._node, found, (*self._path, name))

    def __repr__(self) -> str:
        return f"<Ref {'.'.join((self._node.name, *self._path))}: {name_of(self._type)}>"

    def _misused(self, *_: object) -> NoReturn:
        raise GraphError(
            f"{describe(self)} was used as a value while the graph is written, but it has none before the run; "
            "pass it to a node (g.think('… {x}', x=x), g.function(f, x=x), g.map(f, x)) instead"
        )

    __bool__ = __iter__ = __len__ = __str__ = __format__ = __int__ = __float__ = __index__ = _misused
    __getitem__ = __contains__ = __add__ = __radd__ = __sub__ = __mul__ = __call__ = _misused
    __lt__ = __le__ = __gt__ = __ge__ = _misused


def edge_of(ref: Ref) -> Edge:
    return Edge(ref._node.name, ref._path)


def describe(ref: Ref) -> str:
    """A reference as messages name it: node, field and line."""
    field = f"field '{'.'.join(ref._path)}' of " if ref._path else ""
    return f"{field}{describe_node(ref._node)}"


def describe_node(node: Node) -> str:
    what = "input" if node.kind == "input" else f"{node.kind} node"
    return f"{what} '{node.name}' ({node.where})"

"""Lineage: where a context was forked from another (DESIGN.md §4, splice).

It says which tokens two contexts have in common because one comes of the other, or both of a third. Neither equal
tokens nor shared pages say that: pages are given up and found again as the pool has room, and lineage stays.
"""

from __future__ import annotations


class Lineage:
    """Of a context of `length` tokens, the first `shared` are those of its `parent`."""

    __slots__ = ("length", "parent", "shared")

    def __init__(self, length: int, parent: Lineage | None = None, shared: int = 0) -> None:
        self.length = length
        self.parent = parent
        self.shared = shared

    def common(self, other: Lineage) -> int:
        """Tokens of the longest prefix that both have from one context."""
        mine = dict(self._ancestors())
        return next((min(mine[node], held) for node, held in other._ancestors() if node in mine), 0)

    def _ancestors(self) -> list[tuple[Lineage, int]]:
        """Itself and those before it, latest first, each with how much of it is still there."""
        found, node, held = list[tuple[Lineage, int]](), self, self.length
        while True:
            found.append((node, held))
            if node.parent is None:
                return found
            node, held = node.parent, min(held, node.shared)

"""The call graph: which calls of a trajectory need the results of which others (Divide-Then-Aggregate, 2025)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import networkx as nx

from ...errors import DataError

_EDGE = re.compile(r"\s*(\d+)\s*->\s*(\d+)\s*")


@dataclass(frozen=True, slots=True)
class CallGraph:
    """Nodes 1 to `size`; an edge (a, b) says that b needs a's result. The last node is the answer, the only sink.

    Raises DataError for an edge to a node that isn't there, for a cycle, and for any sink but the last node.
    """

    size: int
    edges: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "edges", tuple(sorted(set(self.edges))))
        for edge in self.edges:
            if not all(1 <= node <= self.size for node in edge):
                raise DataError(f"edge {_text([edge])} is of no node; the nodes are 1 to {self.size}")
        drawn = self._drawn()
        if not nx.is_directed_acyclic_graph(drawn):
            circle = _text(nx.find_cycle(drawn))
            raise DataError(f"the calls need each other in a circle: {circle}; cut one of these edges")
        sinks = [node for node, degree in drawn.out_degree() if not degree]
        if sinks != [self.size]:
            shown = ", ".join(map(str, sinks)) or "none"
            raise DataError(
                f"the only node that nothing needs must be the answer, {self.size}; here it is {shown}: {self.text!r}"
            )

    @classmethod
    def parse(cls, text: str, size: int) -> Self:
        """The graph of an edge string such as "1->3,2->3" (one node alone has none). Raises DataError."""
        edges = []
        for part in text.split(",") if text.strip() else ():
            found = _EDGE.fullmatch(part)
            if not found:
                raise DataError(f"{part.strip()!r} is no edge; write them as 1->2,2->3")
            edges.append((int(found[1]), int(found[2])))
        return cls(size, tuple(edges))

    @classmethod
    def closed(cls, size: int, edges: Iterable[tuple[int, int]]) -> Self:
        """The graph of edges among calls, with an edge to the answer from each call that no other needs."""
        known = list(edges)
        used = {before for before, _ in known}
        return cls(size, (*known, *((node, size) for node in range(1, size) if node not in used)))

    @property
    def text(self) -> str:
        """The edge string; `parse` reads it."""
        return _text(self.edges)

    @property
    def levels(self) -> tuple[tuple[int, ...], ...]:
        """The nodes by how long a chain of calls leads to them: those of a level need nothing of each other."""
        return tuple(tuple(sorted(level)) for level in nx.topological_generations(self._drawn()))

    def _drawn(self) -> nx.DiGraph[int]:
        drawn: nx.DiGraph[int] = nx.DiGraph()
        drawn.add_nodes_from(range(1, self.size + 1))
        drawn.add_edges_from(self.edges)
        return drawn


def _text(edges: Iterable[tuple[int, ...]]) -> str:
    return ",".join(f"{before}->{after}" for before, after, *_ in edges)

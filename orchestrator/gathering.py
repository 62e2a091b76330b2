"""A gather while it waits: which of its items have come, and which can't."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .faults import failure_of
from .graph import Node, edges_of, value_of
from .joins import Join
from .together import Ended


class Gathering:
    """Counts the items of a gather as they come. `closed` once the gather has been given leave to end."""

    def __init__(self, node: Node, run: str) -> None:
        self.name = node.name
        self.closed = False
        self._run = run
        self._arguments = [node.arguments[str(index)] for index in range(len(node.arguments))]
        self._waits = [{edge.node for edge in edges_of(argument)} for argument in self._arguments]
        self._join: Join = node.join  # type: ignore[attr-defined]
        self.ended = Ended[Any](len(self._arguments), self._join)
        self._read_by: dict[str, list[int]] = {}
        for index, sources in enumerate(self._waits):
            for source in sources:
                self._read_by.setdefault(source, []).append(index)
            if not sources:
                self.ended.add(index, value_of(self._arguments[index], {}))

    def arrived(self, source: str, values: Mapping[str, Any]) -> None:
        """The value of a node is there."""
        for index in self._read_by[source]:
            self._waits[index].discard(source)
            if not self._waits[index]:
                self.ended.add(index, value_of(self._arguments[index], values))

    def value(self) -> Any:
        """What the join makes of it. Raises its error where too many have failed."""
        return self.ended.value(lambda index, error: failure_of(error, self._run, f"{self.name}/{index + 1}"))

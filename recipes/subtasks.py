"""The subtask buffer: which finished lists of subtasks a trace still attends to (TIM and TIMRUN, 2025)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from .settings import at_least


class TextSpan(NamedTuple):
    """Characters [start, stop) of a trace."""

    start: int
    stop: int


@dataclass(slots=True)
class SubtaskBuffer:
    """Keeps the `size` lists that finished last; the earliest of more has to go.

    A list inside another finishes before it, so it never outlives it here.
    """

    size: int
    kept: deque[TextSpan] = field(default_factory=deque)

    def __post_init__(self) -> None:
        at_least(0, buffer=self.size)

    def push(self, finished: TextSpan) -> list[TextSpan]:
        """Take a list that has just finished; the list that has to go for it, if one has."""
        self.kept.append(finished)
        return [self.kept.popleft()] if len(self.kept) > self.size else []

    def flush(self) -> list[TextSpan]:
        """All lists that are kept, the earliest first: they have to go now."""
        gone, self.kept = list(self.kept), deque()
        return gone

"""Meters: usage by scope (DESIGN.md §7), with a logical clock for the longest chain of tokens."""

from __future__ import annotations

import time
from dataclasses import fields
from typing import NamedTuple

from ..usage import Usage

_SUMMED = tuple(
    field.name for field in fields(Usage) if field.name not in {"peak_live", "steps", "critical_path", "seconds"}
)


class Clock(NamedTuple):
    """How long the chain of tokens is that led here: sampled ones, and all."""

    steps: int = 0
    tokens: int = 0

    def latest(self, other: Clock) -> Clock:
        """Where both must have been reached: the longer chain, measure by measure."""
        return Clock(max(self.steps, other.steps), max(self.tokens, other.tokens))


START = Clock()


class Meter:
    """Counts what a scope uses. Counts go to all scopes around it at once, chains when it is joined.

    A child starts at its parent's clock; at a join the parent's clock becomes the latest of both. So the critical path
    is the parent's plus the longest child's, whatever the children's order.
    """

    __slots__ = ("_began", "_counts", "_parent", "_peak", "_start", "clock")

    def __init__(self, parent: Meter | None = None, start: Clock = START) -> None:
        self._parent = parent
        self._start = self.clock = start
        self._began = time.perf_counter()
        self._counts: dict[str, float] = {}
        self._peak = 0.0

    def record(self, usage: Usage) -> None:
        """Add what one operation has used."""
        self.clock = Clock(self.clock.steps + usage.steps, self.clock.tokens + usage.critical_path)
        amounts = [(name, amount) for name in _SUMMED if (amount := getattr(usage, name))]
        meter: Meter | None = self
        while meter is not None:
            counts = meter._counts
            for name, amount in amounts:
                counts[name] = counts.get(name, 0) + amount
            meter._peak = max(meter._peak, counts.get("live", 0), usage.peak_live)
            meter = meter._parent

    def join(self, clock: Clock) -> None:
        """Go on after what ended at that clock."""
        self.clock = self.clock.latest(clock)

    def count(self, name: str) -> float:
        """One of the counts so far."""
        return self._counts.get(name, 0)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began

    @property
    def amounts(self) -> dict[str, float]:
        """The usage without what is zero."""
        chain = {"steps": self.clock.steps - self._start.steps, "critical_path": self.clock.tokens - self._start.tokens}
        return {**self._counts, **{name: count for name, count in chain.items() if count}, "seconds": self.seconds}

    @property
    def usage(self) -> Usage:
        return Usage(
            **self._counts,  # type: ignore[arg-type]
            peak_live=int(self._peak),
            steps=self.clock.steps - self._start.steps,
            critical_path=self.clock.tokens - self._start.tokens,
            seconds=self.seconds,
        )

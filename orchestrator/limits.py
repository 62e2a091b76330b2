"""Limits on what a run does at the same time, and the gates that hold it to them (DESIGN.md §6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import anyio

from ..errors import InputError, RunError

if TYPE_CHECKING:
    from ..tools import Tool


@dataclass(frozen=True, slots=True)
class Limits:
    """How many operations (generations and tool calls) may be in flight; 0 means no limit.

    `run` bounds all of them, `engine` the generations, `tools` (by name) lowers or raises a tool's own cap.
    """

    run: int = 0
    engine: int = 0
    tools: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in {"run": self.run, "engine": self.engine, **self.tools}.items():
            if value < 0:
                raise InputError(f"limit {name}={value} is negative; use 0 for no limit")


UNLIMITED = Limits()


class Gates:
    """The limiters of one run. Waiting is first come, first served."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._run = _limiter(limits.run)
        self._engine = _limiter(limits.engine)
        self._tools: dict[str, anyio.CapacityLimiter | None] = {}

    def for_generation(self) -> Pass:
        return Pass((self._engine, self._run))

    def cap(self, tool: Tool) -> int:
        """How many calls of a tool may be in flight; 0 for no limit."""
        return self._limits.tools.get(tool.name, tool.cap)

    def for_call(self, tool: Tool) -> Pass:
        if tool.name not in self._tools:
            self._tools[tool.name] = _limiter(self.cap(tool))
        return Pass((self._tools[tool.name], self._run))

    def check_integrity(self) -> None:
        """Nobody holds a place."""
        held = [gate.borrowed_tokens for gate in (self._run, self._engine, *self._tools.values()) if gate is not None]
        if any(held):
            raise RunError(f"{sum(held)} places are still held")


class Pass:
    """Leave to do one operation, held in `async with`, or until `release`.

    The narrow gate is passed before the wide one: who waits for a tool does not keep others from the run's places.
    """

    __slots__ = ("_gates", "_held")

    def __init__(self, gates: Sequence[anyio.CapacityLimiter | None]) -> None:
        self._gates = gates
        self._held: list[anyio.CapacityLimiter] = []

    async def __aenter__(self) -> Self:
        try:
            for gate in self._gates:
                if gate is not None:
                    await gate.acquire_on_behalf_of(self)
                    self._held.append(gate)
        except BaseException:
            self.release()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.release()

    def release(self) -> None:
        """Idempotent."""
        while self._held:
            self._held.pop().release_on_behalf_of(self)


def _limiter(places: int) -> anyio.CapacityLimiter | None:
    return anyio.CapacityLimiter(places) if places else None

"""Limits on what a run does at the same time, and the gates that hold it to them (DESIGN.md §6)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self
from weakref import WeakKeyDictionary

import anyio
import anyio.lowlevel
from anyio.lowlevel import RunVar

from ..engines.roles import engines_in, names_of
from ..errors import InputError, RunError

if TYPE_CHECKING:
    from ..engines.base import Engine
    from ..tools import Tool
    from .graph import Graph


@dataclass(frozen=True, slots=True)
class Limits:
    """How many operations (generations and tool calls) may be in flight; 0 means no limit.

    `run` bounds all of them, `nodes` (by path) those of a node and of all that it holds, `tools` (by name) lowers or
    raises a tool's own cap. `engine` bounds the generations on the engine, those of all runs in the event loop that
    share it counted: a run that finds so many in flight waits, and runs that wait take turns, however much each has to
    do. `engines` (by name) bounds in the same way those on one engine of several (`engines.Roles`). All limits hold at
    once.
    """

    run: int = 0
    engine: int = 0
    tools: Mapping[str, int] = field(default_factory=dict)
    nodes: Mapping[str, int] = field(default_factory=dict)
    engines: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in {"run": self.run, "engine": self.engine, **self.tools, **self.nodes, **self.engines}.items():
            if value < 0:
                raise InputError(f"limit {name}={value} is negative; use 0 for no limit")

    def check(self, graph: Graph[Any]) -> None:
        """Raise InputError for a limit of a node that the graph has not."""
        for path in self.nodes:
            if graph.find(path.partition("/")[0]) is None:
                known = ", ".join(node.name for node in graph.nodes)
                raise InputError(f"limits name node '{path}', which graph '{graph.name}' has not; it has {known}")

    def check_engines(self, engine: Engine | None) -> None:
        """Raise InputError for a limit of an engine that the run has not."""
        known = names_of(engine) if engine is not None else []
        for name in self.engines:
            if name not in known:
                raise InputError(
                    f"limits name engine '{name}', which the run has not; it has {', '.join(known) or 'none'}"
                )


UNLIMITED = Limits()


class Gate(Protocol):
    """A limiter: who holds a place is told apart by an object."""

    @property
    def borrowed_tokens(self) -> int: ...
    async def acquire_on_behalf_of(self, borrower: object) -> None: ...
    def release_on_behalf_of(self, borrower: object) -> None: ...


class Gates:
    """The limiters of one run. Waiting is first come, first served, but for the engine's, where runs take turns."""

    def __init__(self, limits: Limits, engine: Engine | None = None) -> None:
        self._limits = limits
        self._run = _limiter(limits.run)
        self._engine = self._gate_of(engine, limits.engine) if engine is not None else None
        self._others: dict[str, EngineGate | None] = {}
        for other in engines_in(engine) if engine is not None and limits.engines else ():
            if other is not engine:
                self._others[other.name] = self._gate_of(other)
        self._tools: dict[str, Gate | None] = {}
        inner_first = sorted(limits.nodes, key=lambda path: -path.count("/"))
        self._nodes = {path: _limiter(limits.nodes[path]) for path in inner_first}

    def for_generation(self, path: str, engine: Engine) -> Pass:
        """Leave for a generation on an engine of the run's by the node at `path`."""
        return Pass((*self._around(path), self._others.get(engine.name), self._engine, self._run))

    def cap(self, tool: Tool) -> int:
        """How many calls of a tool may be in flight; 0 for no limit."""
        return self._limits.tools.get(tool.name, tool.cap)

    def for_call(self, tool: Tool, path: str) -> Pass:
        """Leave for a call by the node at `path`."""
        if tool.name not in self._tools:
            self._tools[tool.name] = _limiter(self.cap(tool))
        return Pass((*self._around(path), self._tools[tool.name], self._run))

    def check_integrity(self) -> None:
        """Nobody holds a place."""
        gates = (self._run, self._engine, *self._others.values(), *self._tools.values(), *self._nodes.values())
        held = [gate.borrowed_tokens for gate in gates if gate is not None]
        if any(held):
            raise RunError(f"{sum(held)} places are still held")

    def _gate_of(self, engine: Engine, places: int = 0) -> EngineGate | None:
        limits = [limit for limit in (places, self._limits.engines.get(engine.name, 0)) if limit]
        return EngineGate(engine, min(limits)) if limits else None

    def _around(self, path: str) -> Sequence[Gate | None]:
        """The gates of the node at a path and of those that hold it, inner ones first."""
        if not self._nodes:
            return ()
        return [gate for node, gate in self._nodes.items() if path == node or path.startswith(f"{node}/")]


class Pass:
    """Leave to do one operation, held in `async with`, or until `release`.

    The narrow gate is passed before the wide one: who waits for a node or a tool does not keep others from the run's
    places. All pass them in this one order, so that no two wait for each other.
    """

    __slots__ = ("_gates", "_held")

    def __init__(self, gates: Sequence[Gate | None]) -> None:
        self._gates = gates
        self._held: list[Gate] = []

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


class EngineGate:
    """One run's way to an engine that others use too: at most `places` generations in flight there when one begins."""

    def __init__(self, engine: Engine, places: int) -> None:
        self._queue = _queue_of(engine)
        self._places = places
        self.borrowed_tokens = 0

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        await self._queue.enter(self, self._places)
        self.borrowed_tokens += 1

    def release_on_behalf_of(self, borrower: object) -> None:
        self.borrowed_tokens -= 1
        self._queue.leave()


class _EngineQueue:
    """Generations in flight on one engine, and those that wait, by run. Who waits next is the run longest unserved."""

    def __init__(self) -> None:
        self._flying = 0
        self._waiting: dict[EngineGate, deque[anyio.Event]] = {}

    async def enter(self, run: EngineGate, places: int) -> None:
        await anyio.lowlevel.checkpoint_if_cancelled()
        if self._flying < places and not self._waiting:
            self._flying += 1
            return
        turn = anyio.Event()
        self._waiting.setdefault(run, deque()).append(turn)
        self._admit()
        try:
            await turn.wait()
        except BaseException:
            if turn.is_set():  # it was its turn all the same: the next may have it
                self.leave()
            else:
                self._forget(run, turn)
            raise

    def leave(self) -> None:
        self._flying -= 1
        self._admit()

    def _admit(self) -> None:
        """Let in whom there is room for; a run that was served goes to the end of the line."""
        while run := next((run for run in self._waiting if self._flying < run._places), None):
            turns = self._waiting.pop(run)
            self._flying += 1
            turns.popleft().set()
            if turns:
                self._waiting[run] = turns

    def _forget(self, run: EngineGate, turn: anyio.Event) -> None:
        turns = self._waiting[run]
        turns.remove(turn)
        if not turns:
            del self._waiting[run]
        self._admit()


_queues: RunVar[WeakKeyDictionary[Engine, _EngineQueue]] = RunVar("plait_engine_queues")


def _queue_of(engine: Engine) -> _EngineQueue:
    queues = _queues.get(None)
    if queues is None:
        queues = WeakKeyDictionary()
        _queues.set(queues)
    return queues.setdefault(engine, _EngineQueue())


def _limiter(places: int) -> anyio.CapacityLimiter | None:
    return anyio.CapacityLimiter(places) if places else None

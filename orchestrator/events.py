"""What a run reports while it goes on: one ordered stream of typed events (DESIGN.md §6)."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import anyio

from ..usage import Usage
from .redaction import Secrets

_log = logging.getLogger("plait.orchestrator")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """`sequence` counts a run's events from 0, `at` is seconds since it began."""

    sequence: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    run: str
    graph: str
    engine: str
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStarted(Event):
    """`parent` is the path of the node that grew this one; empty for a written node."""

    path: str
    kind: str
    title: str
    parent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeText(Event):
    """Text that a node generated just now."""

    path: str
    text: str
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeNote(Event):
    """Whatever else a driver has to say."""

    path: str
    name: str
    data: object


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFinished(Event):
    """`summary` is the value as text, cut short."""

    path: str
    summary: str
    usage: Usage
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFailed(Event):
    path: str
    error: str
    message: str
    usage: Usage
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCancelled(Event):
    """A node was stopped because another failed, a join had enough, or the run was left."""

    path: str
    usage: Usage
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSpent(Event):
    """A budget has ended a driver, which goes on with the answer that it offered, if it has (`answered`)."""

    path: str
    message: str
    answered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished(Event):
    run: str
    summary: str
    usage: Usage
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFailed(Event):
    run: str
    error: str
    message: str
    usage: Usage
    seconds: float


class EventLog:
    """Gives events their numbers and hands them to listeners, which must not block. Costs nothing without any."""

    def __init__(self, secrets: Secrets | None = None) -> None:
        """`secrets` are hidden in all texts."""
        self._secrets = secrets if secrets is not None else Secrets({})
        self._listeners: list[Callable[[Event], None]] = []
        self._count = 0
        self._began = time.perf_counter()

    @property
    def active(self) -> bool:
        return bool(self._listeners)

    def listen(self, listener: Callable[[Event], None]) -> None:
        self._listeners.append(listener)

    def emit(self, event_type: type[Event], /, **fields: Any) -> None:
        if not self._listeners:
            return
        shown = self._secrets.hide_in(fields)
        event = event_type(sequence=self._count, at=time.perf_counter() - self._began, **shown)
        self._count += 1
        for listener in list(self._listeners):
            try:
                listener(event)
            except Exception:  # a run does not fail because someone who watches it does
                _log.exception("a listener failed on %s and is not called again", event_type.__name__)
                self._listeners.remove(listener)


class EventQueue:
    """A listener that keeps events until they are read by `async for`; text is merged while the reader is behind."""

    MERGE_FROM = 1024
    """Events waiting from which on a node's consecutive texts become one event."""

    def __init__(self) -> None:
        self._waiting: deque[Event] = deque()
        self._wake: anyio.Event | None = None
        self._closed = False

    def __call__(self, event: Event) -> None:
        last = self._waiting[-1] if len(self._waiting) >= self.MERGE_FROM else None
        if isinstance(event, NodeText) and isinstance(last, NodeText) and last.path == event.path:
            self._waiting[-1] = NodeText(
                sequence=event.sequence,
                at=event.at,
                path=event.path,
                text=last.text + event.text,
                tokens=last.tokens + event.tokens,
            )
        else:
            self._waiting.append(event)
        self._notify()

    def close(self) -> None:
        """No more events will come; those waiting can still be read."""
        self._closed = True
        self._notify()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            self._wake = anyio.Event()
            await self._wake.wait()
        return self._waiting.popleft()

    def _notify(self) -> None:
        if self._wake is not None:
            self._wake.set()
            self._wake = None

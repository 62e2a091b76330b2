"""The run: an event-driven ready queue. A node starts when its own inputs are there, never at a layer's barrier."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from inspect import iscoroutine
from itertools import count
from typing import Any, Generic, Self, TypeVar

import anyio
import anyio.lowlevel

from ..engines.base import Context, Engine
from ..engines.catalog import open_engine
from ..errors import NodeError, RunError
from ..usage import Usage
from .compile import Plan, compile_graph, needs_engine
from .events import Event, EventLog, EventQueue, RunFailed, RunFinished, RunStarted
from .graph import Constant, Graph, value_of
from .inputs import check_inputs
from .limits import Gates, Limits
from .meter import START, Clock
from .nodes import Done, run_node
from .scope import Scope, Shared, origin, summarise

T = TypeVar("T")

BREATH = 64
"""Nodes run in place between two turns of the event loop."""


class Run(Generic[T]):
    """One execution of a plan: an async iterator of its events, then `value` and `usage`."""

    def __init__(self, plan: Plan, engine: Engine | None, inputs: Mapping[str, Any], seed: int, limits: Limits) -> None:
        self.id = secrets.token_hex(6)
        self.plan = plan
        self.events = EventLog()
        self._seed = seed
        self._shared = Shared(self.id, engine, self.events, Gates(limits), seed)
        self._scope = Scope(self._shared)
        self._queue = EventQueue()
        self._values: dict[str, Any] = dict(inputs)
        self._contexts: dict[str, Context] = {}
        self._clocks: dict[str, Clock] = {}
        self._waits = {name: len(sources) for name, sources in plan.sources.items()}
        self._unread = {name: len(by) for name, by in plan.continued.items() if by}
        self._error: Exception | None = None
        self._result: T | None = None
        self._done = False

    @property
    def value(self) -> T:
        """The graph's value. Raises the run's error, and RunError before its end."""
        if self._error is not None:
            raise self._error
        if not self._done:
            raise RunError(f"run {self.id} of graph '{self.plan.graph.name}' has no value: it was not run to its end")
        return self._result  # type: ignore[return-value]

    @property
    def usage(self) -> Usage:
        """What the run has used so far."""
        return self._scope.usage

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        try:
            return await anext(self._queue)
        except StopAsyncIteration:
            if self._error is not None:
                raise self._error from self._error.__cause__
            raise

    async def execute(self) -> None:
        """Run to the end. A failure is kept for `value`; cancellation is passed on."""
        engine = self._shared.engine
        self.events.emit(
            RunStarted, run=self.id, graph=self.plan.graph.name, engine=engine.name if engine else "", seed=self._seed
        )
        try:
            async with anyio.create_task_group() as group:
                self._group = group
                first = [name for name in self.plan.nodes if not self._waits[name]]
                await self._work(deque(first))
            if self._error is None:
                self._result = value_of(self.plan.graph.result, self._values)
                self._done = True
        finally:
            self._shared.release_all()
            self._report()
            self._queue.close()

    def check_integrity(self) -> None:
        """When a run has ended: no place is held, no context kept, and each node of a finished one has run once."""
        self._shared.gates.check_integrity()
        unfinished = any(self._waits.values()) or self._values.keys() != self.plan.nodes.keys()
        if self._done and (unfinished or self._contexts):
            raise RunError(f"run {self.id} ended with nodes that wait or contexts that are kept")

    # ---- the queue

    async def _work(self, ready: deque[str]) -> None:
        """Run what is ready: nodes that wait get a task of their own, plain functions run in place."""
        in_place = 0
        while ready:
            name = ready.popleft()
            if name in self._values or name in self.plan.in_place or isinstance(self.plan.nodes[name], Constant):
                if not self._run_in_place(name):
                    return
                ready.extend(self._now_ready(name))
                in_place += 1
                if in_place % BREATH == 0:
                    await anyio.lowlevel.checkpoint()
            else:
                self._group.start_soon(self._run_task, name)

    async def _run_task(self, name: str) -> None:
        """Run a node that waits, then those that its end makes ready."""
        for length in count(1):
            if not await self._run_waiting(name):
                return
            ready = self._now_ready(name)
            if len(ready) != 1 or ready[0] in self.plan.in_place:
                await self._work(deque(ready))
                return
            name = ready[0]  # a chain goes on in its task
            if length % BREATH == 0:
                await anyio.lowlevel.checkpoint()

    def _now_ready(self, name: str) -> list[str]:
        ready = []
        waits = self._waits
        for reader in self.plan.readers[name]:
            waits[reader] -= 1
            if not waits[reader]:
                ready.append(reader)
        return ready

    def _run_in_place(self, name: str) -> bool:
        """Run a plain function, or take a value that is there."""
        if name in self._values:
            self._clocks[name] = START
            return True
        node = self.plan.nodes[name]
        if isinstance(node, Constant):
            self._values[name] = node.value
            self._clocks[name] = START
            return True
        scope = self._open(name) if self.events.active else None
        try:
            values = {key: value_of(argument, self._values) for key, argument in node.arguments.items()}
            value = self._values[name] = node.function(**values)  # type: ignore[attr-defined]
            if iscoroutine(value):
                value.close()
                raise RunError("a plain function returned a coroutine; pass the async function itself to g.function")
        except Exception as error:
            self._fail(name, scope or self._open(name), error)
            return False
        if scope is not None:
            scope.finish(value)
            self._clocks[name] = scope.meter.clock
        else:
            self._clocks[name] = self._start_clock(name)
        return True

    async def _run_waiting(self, name: str) -> bool:
        node, scope = self.plan.nodes[name], self._open(name)
        try:
            values = {key: value_of(argument, self._values) for key, argument in node.arguments.items()}
            done = await run_node(node, scope, values, self._contexts.get(node.after))
        except Exception as error:
            self._fail(name, scope, error)
            return False
        except BaseException:
            scope.cancel()
            raise
        scope.finish(done.value)
        self._values[name] = done.value
        self._clocks[name] = scope.meter.clock
        self._settle_contexts(name, node.after, done)
        return True

    def _open(self, name: str) -> Scope:
        node = self.plan.nodes[name]
        return Scope(self._shared, name, node.kind, node.title, self._scope, self._start_clock(name)).opened()

    def _start_clock(self, name: str) -> Clock:
        clock = START
        for source in self.plan.sources[name]:
            ended = self._clocks[source]
            if ended is not START:
                clock = clock.latest(ended)
        return clock

    def _settle_contexts(self, name: str, after: str, done: Done) -> None:
        """Keep the context if others continue it; release the parent's after its last reader."""
        if done.context is not None:
            if name in self._unread:
                self._contexts[name] = done.context
            else:
                done.context.release()
        if after:
            self._unread[after] -= 1
            if not self._unread[after]:
                self._contexts.pop(after).release()

    def _fail(self, name: str, scope: Scope, error: Exception) -> None:
        """The first failure ends the run: it cancels all that is under way."""
        scope.fail(error)
        if self._error is None:
            self._error = error if isinstance(error, NodeError) else NodeError(origin(error, self.id, name), error)
        self._group.cancel_scope.cancel()

    def _report(self) -> None:
        usage = self.usage
        if self._done:
            summary = summarise(self._result) if self.events.active else ""
            self.events.emit(RunFinished, run=self.id, summary=summary, usage=usage, seconds=usage.seconds)
        else:
            kind = type(self._error).__name__ if self._error else "Cancelled"
            message = str(self._error) if self._error else "the run was cancelled"
            self.events.emit(RunFailed, run=self.id, error=kind, message=message, usage=usage, seconds=usage.seconds)


# ---- entry points


async def run_graph(
    graph: Graph[T],
    inputs: Sequence[object],
    *,
    engine: Engine | str | None,
    seed: int,
    limits: Limits,
    listeners: Sequence[Callable[[Event], None]],
) -> T:
    """Run a graph and give its value; see Graph.run."""
    async with _prepared(graph, inputs, engine, seed, limits, listeners) as run:
        await run.execute()
        return run.value


@asynccontextmanager
async def stream_graph(
    graph: Graph[T],
    inputs: Sequence[object],
    *,
    engine: Engine | str | None,
    seed: int,
    limits: Limits,
    listeners: Sequence[Callable[[Event], None]],
) -> AsyncIterator[Run[T]]:
    """Run a graph in the background of the block; see Graph.stream."""
    async with _prepared(graph, inputs, engine, seed, limits, listeners) as run:
        run.events.listen(run._queue)
        raised: Exception | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(run.execute)
            try:
                yield run
            except Exception as error:  # not raised in the group, which would wrap it
                raised = error
            group.cancel_scope.cancel()
        if raised is not None:
            raise raised


@asynccontextmanager
async def _prepared(
    graph: Graph[T],
    inputs: Sequence[object],
    engine: Engine | str | None,
    seed: int,
    limits: Limits,
    listeners: Sequence[Callable[[Event], None]],
) -> AsyncIterator[Run[T]]:
    """A run that is ready to start; an engine given by name is open as long."""
    values = check_inputs(graph, inputs)
    async with AsyncExitStack() as stack:
        if isinstance(engine, str):
            engine = await stack.enter_async_context(open_engine(engine)) if needs_engine(graph) else None
        run: Run[T] = Run(compile_graph(graph, engine), engine, values, seed, limits)
        for listener in listeners:
            run.events.listen(listener)
        yield run

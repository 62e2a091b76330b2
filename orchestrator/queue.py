"""The ready queue: a node starts when its own inputs are there, never at a layer's barrier (DESIGN.md §6)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from inspect import iscoroutine
from itertools import count
from typing import Any

import anyio
import anyio.lowlevel

from ..engines.base import Context
from ..errors import RunError
from .compile import Plan
from .graph import Constant, value_of
from .meter import Clock
from .nodes import Done, run_node
from .scope import Scope, Shared

BREATH = 64
"""Nodes run in place between two turns of the event loop."""


class Queue:
    """Runs one plan in one scope: the run's own, or that of a node which holds a graph.

    A node's path is the scope's and its name. The first failure cancels all that is under way.
    """

    def __init__(self, plan: Plan, shared: Shared, scope: Scope, inputs: Mapping[str, Any]) -> None:
        self.plan = plan
        self._shared = shared
        self._scope = scope
        self._start = scope.meter.clock
        self._values: dict[str, Any] = dict(inputs)
        self._contexts: dict[str, Context] = {}
        self._clocks: dict[str, Clock] = {}
        self._waits = {name: len(sources) for name, sources in plan.sources.items()}
        self._unread = {name: len(by) for name, by in plan.continued.items() if by}
        self._error: Exception | None = None

    async def execute(self) -> Any:
        """Run to the end and give the graph's value. Raises what the first node that failed raised."""
        async with anyio.create_task_group() as group:
            self._group = group
            await self._work(deque(name for name in self.plan.nodes if not self._waits[name]))
        if self._error is not None:
            raise self._error
        return value_of(self.plan.graph.result, self._values)

    def check_integrity(self) -> None:
        """When all is done: no context is kept, and each node has run once."""
        if any(self._waits.values()) or self._values.keys() != self.plan.nodes.keys() or self._contexts:
            raise RunError(f"graph '{self.plan.graph.name}' ended with nodes that wait or contexts that are kept")

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
            self._clocks[name] = self._start
            return True
        node = self.plan.nodes[name]
        if isinstance(node, Constant):
            self._values[name] = node.value
            self._clocks[name] = self._start
            return True
        scope = self._open(name) if self._shared.events.active else None
        try:
            values = {key: value_of(argument, self._values) for key, argument in node.arguments.items()}
            value = self._values[name] = node.function(**values)  # type: ignore[attr-defined]
            if iscoroutine(value):
                value.close()
                raise RunError("a plain function returned a coroutine; pass the async function itself to g.function")
        except Exception as error:
            self._fail(scope or self._open(name), error)
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
            self._fail(scope, error)
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
        node, above = self.plan.nodes[name], self._scope
        path = f"{above.path}/{name}" if above.path else name
        return Scope(self._shared, path, node.kind, node.title, above, self._start_clock(name)).opened()

    def _start_clock(self, name: str) -> Clock:
        clock = self._start
        for source in self.plan.sources[name]:
            ended = self._clocks[source]
            if ended is not self._start:
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

    def _fail(self, scope: Scope, error: Exception) -> None:
        """The first failure ends the run: it cancels all that is under way."""
        scope.fail(error)
        if self._error is None:
            self._error = error
        self._group.cancel_scope.cancel()

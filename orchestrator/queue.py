"""The ready queue: a node starts when its own inputs are there, never at a layer's barrier (DESIGN.md §6)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from inspect import Parameter, iscoroutine
from itertools import count
from types import MappingProxyType
from typing import Any

import anyio
import anyio.lowlevel

from ..errors import RunError
from .compile import Plan
from .compound import Gather
from .contexts import Held, each
from .gathering import Gathering
from .graph import Argument, Constant, Edge, Items, Node, edges_of, value_of
from .meter import Clock
from .nodes import Done, Inside, run_node
from .regions import Region
from .scope import MISSING, Scope, Shared

NO_CONTEXTS: Mapping[str, Held] = MappingProxyType({})
NO_PLANS: Mapping[str, Plan] = MappingProxyType({})

BREATH = 64
"""Nodes run in place between two turns of the event loop."""


class Queue:
    """Runs one plan in one scope: the run's own, or that of a node which holds a graph.

    A node's path is the scope's and its name. The first failure cancels all that is under way, but for that of a node
    which only one item of a gather needs: then the gather's join decides.
    """

    def __init__(
        self,
        plan: Plan,
        shared: Shared,
        scope: Scope,
        inputs: Mapping[str, Any],
        contexts: Mapping[str, Held] = NO_CONTEXTS,
    ) -> None:
        self.plan = plan
        self._shared = shared
        self._scope = scope
        self._start = scope.meter.clock
        self._values: dict[str, Any] = dict(inputs)
        self._lent = contexts
        self._contexts: dict[str, Held] = {}
        self._clocks: dict[str, Clock] = {}
        self._waits = {name: len(sources) for name, sources in plan.sources.items()}
        self._unread = {name: len(by) for name, by in plan.continued.items() if by}
        self._gathers: dict[str, Gathering] = {}
        self._left_out: set[str] = set()
        self._stops: dict[str, anyio.CancelScope] = {}
        self._error: Exception | None = None

    async def execute(self) -> Done:
        """Run to the end and give the graph's value, and the context of its result if the plan is to give one.

        Raises what the first node that failed raised.
        """
        first = [name for name in self.plan.nodes if not self._waits[name]]
        try:
            async with anyio.create_task_group() as group:
                self._group = group
                await self._work(deque(first))
            if self._error is not None:
                raise self._error
            return Done(value_of(self.plan.graph.result, self._values), self._result_contexts())
        finally:
            for held in self._contexts.values():
                self._scope.drop(held)
            self._contexts.clear()

    def check_integrity(self) -> None:
        """When all is done: no context is kept, and each node has run once, or was left out by a gather."""
        ended = self._values.keys() | self._left_out
        if ended != self.plan.nodes.keys() or self._contexts or self._stops:
            raise RunError(f"graph '{self.plan.graph.name}' ended with nodes that wait or contexts that are kept")

    def _result_contexts(self) -> Held:
        """The contexts that come with the result, with a hold on each for whoever takes them."""
        ends = [edge.node for edge in edges_of(self.plan.graph.result) if "" in self.plan.continued[edge.node]]
        held = self._held(self.plan.graph.result) if ends else None
        return self._scope.hold(held)

    def _held(self, argument: Argument) -> Held:
        """The contexts that come with a value."""
        if isinstance(argument, Items):
            found = [self._held(item) for item in argument.items]
            return tuple(context for held in found for context in each(held))
        if not isinstance(argument, Edge) or argument.path:
            return None
        return self._contexts.get(argument.node) or self._lent.get(argument.node)

    # ---- the queue

    async def _work(self, ready: deque[str]) -> None:
        """Run what is ready: nodes that wait get a task of their own, plain functions run in place."""
        in_place = 0
        while ready:
            name = ready.popleft()
            if name in self._left_out:
                continue
            if name in self._values or name in self.plan.in_place or self._is_ready_made(name):
                ready.extend(self._run_in_place(name))
                if self._error is not None:
                    return
                in_place += 1
                if in_place % BREATH == 0:
                    await anyio.lowlevel.checkpoint()
            else:
                self._group.start_soon(self._run_task, name)

    async def _run_task(self, name: str) -> None:
        """Run a node that waits, then those that its end makes ready."""
        for length in count(1):
            ready = await self._run_waiting(name)
            if self._error is not None:
                return
            if len(ready) != 1 or ready[0] in self.plan.in_place or self._is_ready_made(ready[0]):
                await self._work(deque(ready))
                return
            name = ready[0]  # a chain goes on in its task
            if length % BREATH == 0:
                await anyio.lowlevel.checkpoint()

    def _now_ready(self, name: str) -> list[str]:
        ready = []
        waits = self._waits
        for reader in self.plan.readers[name]:
            if isinstance(self.plan.nodes[reader], Gather):
                ready += self._arrived(reader, name)
                continue
            waits[reader] -= 1
            if not waits[reader] and reader not in self._left_out:
                ready.append(reader)
        return ready

    def _is_ready_made(self, name: str) -> bool:
        return name in self._values or isinstance(self.plan.nodes[name], Constant | Gather)

    def _run_in_place(self, name: str) -> list[str]:
        """Run a plain function, or take a value that is there; then those that its end makes ready."""
        node = self.plan.nodes[name]
        if name in self._values or isinstance(node, Constant):
            if isinstance(node, Constant):
                self._values[name] = node.value
            self._clocks[name] = self._start
            return self._now_ready(name)
        scope = self._open(name) if self._shared.watched else None
        try:
            value = self._values[name] = self._value_in_place(node, scope)
        except Exception as error:
            return self._fail(name, scope or self._open(name), error)
        if scope is not None:
            scope.finish(value)
            self._clocks[name] = scope.meter.clock
        else:
            self._clocks[name] = self._start_clock(name)
        return self._now_ready(name)

    def _value_in_place(self, node: Node, scope: Scope | None) -> Any:
        if isinstance(node, Gather):
            return self._gathering(node.name).value()
        values = {key: value_of(argument, self._values) for key, argument in node.arguments.items()}
        if scope is not None and (known := scope.recall(node, node.type, values)) is not MISSING:
            return known
        value = node.function(**values)  # type: ignore[attr-defined]
        if iscoroutine(value):
            value.close()
            raise RunError("a plain function returned a coroutine; pass the async function itself to g.function")
        return value

    async def _run_waiting(self, name: str) -> list[str]:
        """Run a node in its task; then those that its end makes ready."""
        if name not in self.plan.regions:
            return await self._run_node(name)
        if name in self._left_out:
            return []
        with anyio.CancelScope() as stop:
            self._stops[name] = stop
            try:
                return await self._run_node(name)
            finally:
                del self._stops[name]
        return []

    async def _run_node(self, name: str) -> list[str]:
        node, scope = self.plan.nodes[name], self._open(name)
        try:
            values = {key: value_of(argument, self._values) for key, argument in node.arguments.items()}
            done = await run_node(node, scope, values, self._inside(node))
        except Exception as error:
            return self._fail(name, scope, error)
        except BaseException:
            scope.cancel()
            raise
        scope.finish(done.value)
        if name in self._left_out:  # its last step and the end of the join fell together
            self._scope.drop(done.context)
            return []
        self._values[name] = done.value
        self._clocks[name] = scope.meter.clock
        self._keep(name, done.context)
        self._read_contexts(name)
        return self._now_ready(name)

    def _inside(self, node: Node) -> Inside:
        """What a node is given beside its values."""
        name = node.name
        parent = self._held(Edge(node.after)) if node.after else None
        contexts = {}
        if name in self.plan.contexts:
            contexts = {key: self._held(argument) for key, argument in node.arguments.items()}
        plans = self.plan.inner.get(name, NO_PLANS)
        return Inside(next(each(parent), None), contexts, name in self._unread, plans, self._run_inner)

    async def _run_inner(
        self, plan: Plan, scope: Scope, values: Mapping[str, Any], contexts: Mapping[str, Held]
    ) -> Done:
        """Run the plan of a graph in a node."""
        given = {node.name: node.default for node in plan.graph.inputs if node.default is not Parameter.empty}
        return await Queue(plan, self._shared, scope, {**given, **values}, contexts).execute()

    def _open(self, name: str) -> Scope:
        node = self.plan.nodes[name]
        return self._scope.written(name, node.kind, node.title, self._start_clock(name))

    def _start_clock(self, name: str) -> Clock:
        clock = self._start
        for source in self.plan.sources[name]:
            ended = self._clocks.get(source, clock)  # a gather does not wait for all
            if ended is not self._start:
                clock = clock.latest(ended)
        return clock

    # ---- contexts

    def _keep(self, name: str, held: Held) -> None:
        """Keep a node's contexts if others read them."""
        if held is None:
            return
        if name in self._unread:
            self._contexts[name] = held
        else:
            self._scope.drop(held)

    def _read_contexts(self, name: str) -> None:
        """A node has run, or never will: release the contexts of which it was the last reader."""
        for source in self.plan.contexts.get(name, ()):
            self._unread[source] -= 1
            if not self._unread[source]:
                self._scope.drop(self._contexts.pop(source, None))

    # ---- failures and gathers

    def _fail(self, name: str, scope: Scope, error: Exception) -> list[str]:
        """A node failed: so does the item of the gather that alone needs it, or the run. Gives what is ready then."""
        scope.fail(error)
        region = self.plan.regions.get(name)
        if name in self._left_out:
            return []
        if region is not None:
            self._leave_out(region)
            gathering = self._gathering(region.gather)
            gathering.ended.fail(region.index, error)
            return self._over(gathering)
        if self._error is None:
            self._error = error
        self._group.cancel_scope.cancel()
        return []

    def _gathering(self, name: str) -> Gathering:
        if name not in self._gathers:
            self._gathers[name] = Gathering(self.plan.nodes[name], self._shared.run)
        return self._gathers[name]

    def _arrived(self, gather: str, source: str) -> list[str]:
        """A value that a gather waits for is there."""
        gathering = self._gathering(gather)
        gathering.arrived(source, self._values)
        return self._over(gathering)

    def _over(self, gathering: Gathering) -> list[str]:
        """What is ready once a gather has what it waits for, or never will: itself, without what losers need."""
        name = gathering.name
        if not gathering.ended.over or name in self._values or name in self._left_out or gathering.closed:
            return []
        gathering.closed = True
        for region in {id(region): region for region in self.plan.regions.values()}.values():
            if region.gather == name and region.index not in gathering.ended.values:
                self._leave_out(region)
        return [name]

    def _leave_out(self, region: Region) -> None:
        """Cancel what runs of a region, and start nothing more of it."""
        for name in region.nodes:
            if name not in self._values and name not in self._left_out:
                self._left_out.add(name)
                self._read_contexts(name)
                if name in self._stops:
                    self._stops[name].cancel()
            self._scope.drop(self._contexts.pop(name, None))

"""The run: one execution of a plan, with its events, its value and what it used."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any, Generic, Self, TypeVar

import anyio

from ..engines.base import Engine, HoldsKeys
from ..engines.catalog import open_engine
from ..engines.replicas import AFFINITY
from ..engines.roles import names_of
from ..errors import NodeError, RunError
from ..usage import Usage
from .budget import UNBOUNDED, Accounts, Budget
from .compile import Plan, check_answered, compile_graph, needs_engine
from .events import Event, EventLog, EventQueue, RunFailed, RunFinished, RunStarted
from .faults import origin
from .forecast import Forecast
from .graph import Graph
from .inputs import check_inputs
from .journal import Journal
from .limits import Gates, Limits
from .past import Past, record_run
from .prefixes import Leads
from .question import Answer
from .queue import Queue
from .recording import Recording
from .redaction import Secrets
from .scope import Scope, Shared
from .secret_inputs import hide_inputs
from .values import write_value
from .wording import summarise

T = TypeVar("T")


class Run(Generic[T]):
    """One execution of a plan: an async iterator of its events, then `value` and `usage`."""

    def __init__(
        self,
        plan: Plan,
        engine: Engine | None,
        inputs: Mapping[str, Any],
        *,
        seed: int,
        limits: Limits,
        answer: Answer | None,
        secrets: Secrets,
        recording: Recording | None,
        budget: Budget,
    ) -> None:
        self.id = recording.run if recording is not None else token_hex(6)
        self.plan = plan
        self.events = EventLog(secrets)
        self._seed = seed
        leads = Leads(prefix.key for prefix in plan.prefixes)
        self._inputs = dict(inputs)
        self._shared = Shared(
            self.id,
            engine,
            self.events,
            Gates(limits, engine),
            seed,
            answer,
            leads,
            recording,
            None if budget == UNBOUNDED else Accounts(budget, names_of(engine) if engine is not None else ()),
            secrets,
        )
        self._scope = Scope(self._shared) if recording is None else _recorded_scope(self._shared)
        self._nodes = Queue(plan, self._shared, self._scope, inputs)
        self._queue = EventQueue()
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

    @property
    def forecast(self) -> Forecast:
        """What the run was expected to use, to be read beside `usage`."""
        return self.plan.forecast(self._inputs)

    @property
    def exhausted(self) -> tuple[str, ...]:
        """What the budgets have said that ended a driver or the run; its value is then the best that there was."""
        return tuple(self._shared.exhausted)

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
        engine, recording = self._shared.engine, self._shared.recording
        if recording is not None:
            recording.begin()
        affinity = AFFINITY.set(self.id)
        self.events.emit(
            RunStarted, run=self.id, graph=self.plan.graph.name, engine=engine.name if engine else "", seed=self._seed
        )
        try:
            with anyio.move_on_after(self._scope.seconds_left):
                self._result = (await self._nodes.execute()).value
                self._done = True
            if not self._done:
                raise self._scope.out_of_time()
        except Exception as error:
            self._shared.secrets.hide_error(error)
            self._error = (
                error
                if isinstance(error, NodeError)
                else NodeError(origin(error, self.id, self.plan.graph.name), error)
            )
        finally:
            AFFINITY.reset(affinity)
            self._shared.release_all()
            self._record_end()
            self._report()
            self._queue.close()

    def check_integrity(self) -> None:
        """When a run has ended: no place is held, no context kept, and each node of a finished one has run once."""
        self._shared.gates.check_integrity()
        if self._done:
            self._nodes.check_integrity()
            self._shared.holds.check_integrity()

    def _record_end(self) -> None:
        recording = self._shared.recording
        if recording is None:
            return
        if self._done:
            recording.end("done", write_value(self.plan.graph.returns, self._result) or "", self.usage)
        elif self._error is not None:
            recording.void(self._error)
            recording.end("failed", json.dumps([type(self._error).__name__, str(self._error)]), self.usage)
        else:
            recording.end("cancelled", "", self.usage)

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


@dataclass(frozen=True, slots=True)
class Options:
    """How a graph is run; see Graph.run."""

    engine: Engine | str | None
    seed: int
    limits: Limits
    answer: Answer | None
    listeners: Sequence[Callable[[Event], None]]
    journal: Journal | Past | str | Path | None
    cache: str
    source: Mapping[str, Any]
    budget: Budget


async def run_graph(graph: Graph[T], inputs: Sequence[object], options: Options) -> T:
    """Run a graph and give its value; see Graph.run."""
    async with _prepared(graph, inputs, options) as run:
        await run.execute()
        return run.value


@asynccontextmanager
async def stream_graph(graph: Graph[T], inputs: Sequence[object], options: Options) -> AsyncIterator[Run[T]]:
    """Run a graph in the background of the block; see Graph.stream."""
    async with _prepared(graph, inputs, options) as run:
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
async def _prepared(graph: Graph[T], inputs: Sequence[object], options: Options) -> AsyncIterator[Run[T]]:
    """A run that is ready to start; what is given by name, an engine or a journal, is open as long."""
    secrets, journal, seed = Secrets(), options.journal, options.seed
    async with AsyncExitStack() as stack:
        if isinstance(journal, str | Path):
            journal = stack.enter_context(Journal(journal))
        if isinstance(journal, Past):
            values, seed = journal.inputs(graph, inputs, secrets.restore), journal.run.seed
        else:
            values = check_inputs(graph, inputs)
        engine = await _opened(graph, options.engine, journal, stack)
        if isinstance(engine, HoldsKeys):
            for name, key in engine.keys.items():
                secrets.add_known(name, key)
        plan = compile_graph(graph, engine)
        options.limits.check(graph)
        if not (isinstance(journal, Past) and journal.replay):
            options.limits.check_engines(engine)
        options.budget.check(graph, names_of(engine) if engine is not None else ())
        hide_inputs(graph, values, secrets)
        if options.answer is None and not (isinstance(journal, Past) and journal.replay):
            check_answered(graph)
        recording = None
        if journal is not None:
            recording = record_run(
                graph,
                journal,
                values,
                engine=engine,
                seed=seed,
                cache=options.cache,
                source=options.source,
                secrets=secrets,
            )
        run: Run[T] = Run(
            plan,
            engine,
            values,
            seed=seed,
            limits=options.limits,
            answer=options.answer,
            secrets=secrets,
            recording=recording,
            budget=options.budget,
        )
        for listener in options.listeners:
            run.events.listen(listener)
        yield run


async def _opened(
    graph: Graph[Any], engine: Engine | str | None, journal: Journal | Past | None, stack: AsyncExitStack
) -> Engine | None:
    if isinstance(journal, Past) and journal.replay:
        return journal.engine()
    if isinstance(engine, str):
        if not needs_engine(graph):
            return None
        compile_graph(graph, engine)  # what no engine of this kind can do is refused before one is opened
        return await stack.enter_async_context(open_engine(engine))
    return engine


def _recorded_scope(shared: Shared) -> Scope:
    from .recorded_scope import RecordedScope  # only where it is used: most runs have no journal

    return RecordedScope(shared)

"""The scope of a running node: all that it may do. Written nodes and drivers run through the same one."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Final, Self, TypeAlias, TypeVar, cast, overload
from weakref import WeakSet

from ..engines.base import (
    GREEDY,
    Context,
    Engine,
    Generation,
    GenerationStream,
    Grammar,
    GrammarState,
    Member,
    Mode,
    Placement,
    Prompt,
    Sampling,
    Stop,
    TeamStream,
    Teamwork,
    prefix,
)
from ..errors import BudgetError, RunError, ToolError, ToolRefusedError
from ..tools import Tool, render
from ..usage import Usage
from .budget import Accounts, Ledger, Reservation
from .contexts import Held, Holds
from .events import BudgetSpent, EventLog, NodeCancelled, NodeFailed, NodeFinished, NodeNote, NodeStarted, NodeText
from .faults import blame, failure_of
from .joins import AllOf, AllSettled, AnyOf, Join, KOf, Settled, all_of
from .limits import Gates
from .meter import START, Clock, Meter
from .prefixes import Leads
from .question import Answer, Question, put
from .redaction import Secrets
from .stream import ScopeStream
from .team import ScopeTeam
from .together import together, until_joined
from .tree import ITEMS
from .wording import derive_seed, show_call, slug, summarise

if TYPE_CHECKING:
    from .recording import Recording

T = TypeVar("T")
Child: TypeAlias = "Callable[[Scope], Awaitable[T]]"

MISSING: Final = object()
"""What `recall` gives for a node that has to run."""


@dataclass(slots=True)
class Shared:
    """What all scopes of one run have in common. `contexts` are those made so far that may still hold tokens."""

    run: str
    engine: Engine | None
    events: EventLog
    gates: Gates
    seed: int
    answer: Answer | None = None
    leads: Leads = field(default_factory=Leads)
    recording: Recording | None = None
    accounts: Accounts | None = None
    secrets: Secrets = field(default_factory=Secrets)
    exhausted: list[str] = field(default_factory=list)
    contexts: WeakSet[Any] = field(default_factory=WeakSet)
    holds: Holds = field(default_factory=Holds)

    @property
    def watched(self) -> bool:
        """Whether anybody wants to know of each node: then even a plain function has a scope."""
        return self.events.active or self.recording is not None

    def release_all(self) -> None:
        for context in list(self.contexts):
            context.release()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a tool call ended: a value, or the error as a value. `text` is what a model is shown."""

    value: Any
    error: ToolError | None
    seconds: float
    text: str


class Scope:
    """A running node. `path` names it in the run, `kind` and `title` describe it.

    Every operation is counted in `usage`, reported as an event, and held to the run's limits. A scope that closes
    closes the children that it left open. One chain of thought a scope: what runs side by side gets a scope each, from
    `grow`, `settle` or `gather`.
    """

    __slots__ = (
        "_begun",
        "_children",
        "_generations",
        "_grown",
        "_ledgers",
        "_offered",
        "_open",
        "_parent",
        "_settled",
        "_shared",
        "kind",
        "meter",
        "path",
        "title",
    )

    def __init__(
        self,
        shared: Shared,
        path: str = "",
        kind: str = "run",
        title: str = "",
        parent: Scope | None = None,
        start: Clock = START,
    ) -> None:
        self._shared = shared
        self._parent = parent
        self._children: dict[str, Scope] = {}
        self._grown = 0
        self._generations = 0
        self._open = True
        self._begun = False
        self.path = path
        self.kind = kind
        self.title = title
        self.meter: Meter = Meter(parent.meter if parent else None, start)
        self._offered: Any = MISSING
        self._settled = False
        self._ledgers: tuple[Ledger, ...] = parent._ledgers if parent else ()
        if shared.accounts is not None:
            self._ledgers += shared.accounts.of_node(path, self.meter)

    @property
    def engine(self) -> Engine:
        """The run's engine. Raises RunError in a run without one."""
        if self._shared.engine is None:
            raise RunError(f"node '{self.path}' asks for an engine, but the run has none; pass engine=…")
        return self._shared.engine

    @property
    def seed(self) -> int:
        """The node's own seed, the same in every run with the same seed."""
        return derive_seed(self._shared.seed, self.path)

    @property
    def usage(self) -> Usage:
        return self.meter.usage

    @property
    def journaled(self) -> bool:
        """Whether what happens is recorded, so that the run can be resumed."""
        return self._shared.recording is not None

    def supported(self, grammar: Grammar, *, in_pieces: bool = False) -> Grammar | None:
        """The grammar, if the engine can hold a generation to it, or `in_pieces` several that go on from one another;
        else None, and the driver must read what comes."""
        can = self.engine.capabilities
        held = type(grammar).__name__ in can.grammars and (can.grammar_states or not in_pieces)
        return grammar if held else None

    # ---- contexts

    async def start(self, prompt: Prompt, *, adapter: str = "") -> Context:
        """A new context that holds the prompt; `adapter` as in `Engine.start`."""
        self.check_budget()
        return self._made(await self.engine.start(prompt, adapter=adapter))

    def behind_first(self, prefix: str) -> AbstractAsyncContextManager[None]:
        """Wait while another node of the run encodes a prefix that is shared, by its key, for the first time."""
        return self._shared.leads.follow(prefix)

    async def extend(self, context: Context, prompt: Prompt) -> Context:
        """The context with text or messages appended."""
        self.check_budget()
        return self._made(await context.extend(prompt))

    async def prune(self, context: Context, start: int, stop: int, *, mode: Mode) -> Context:
        """The context without the tokens [start, stop)."""
        return self._made(await context.prune(start, stop, mode=mode))

    async def splice(self, context: Context, others: Sequence[Context], *, at: Placement, mode: Mode) -> Context:
        """The context with what the others hold beyond their common prefix with it."""
        return self._made(await context.splice(others, at=at, mode=mode))

    async def score(self, context: Context, continuations: Sequence[str]) -> list[float]:
        """Summed log-probability of each continuation."""
        async with self._shared.gates.for_generation(self.path, context.engine):
            return await context.score(continuations)

    def stream(
        self,
        context: Context,
        *,
        title: str = "",
        max_tokens: int = 512,
        stop: Sequence[Stop] = (),
        grammar: Grammar | GrammarState | None = None,
        sampling: Sampling = GREEDY,
    ) -> ScopeStream:
        """Generate: `async with scope.stream(context) as s: async for chunk in s: …; s.result`.

        With a title the generation is a node of its own. Sampling is seeded from the run's seed, this node's path and
        the number of generations before in it.
        """
        scope = self.grow("think", title) if title else self
        index, self._generations = self._generations, self._generations + 1
        seeded = replace(sampling, seed=derive_seed(self._shared.seed, self.path, index, sampling.seed))
        opened = partial(
            scope.generation, context=context, max_tokens=max_tokens, stop=stop, grammar=grammar, sampling=seeded
        )
        leave = self._shared.gates.for_generation(scope.path, context.engine)
        return ScopeStream(opened, max_tokens, scope, leave, grown=bool(title))

    async def generate(
        self,
        context: Context,
        *,
        title: str = "",
        max_tokens: int = 512,
        stop: Sequence[Stop] = (),
        grammar: Grammar | GrammarState | None = None,
        sampling: Sampling = GREEDY,
    ) -> Generation:
        """`stream` to its end."""
        async with self.stream(
            context, title=title, max_tokens=max_tokens, stop=stop, grammar=grammar, sampling=sampling
        ) as stream:
            async for _ in stream:
                pass
        return stream.result

    def stream_team(self, members: Sequence[Member], work: Teamwork, *, title: str = "team") -> ScopeTeam:
        """Let a team generate: `async with scope.stream_team(…) as s: async for chunk in s: …; s.results`.

        The team is a node, and each member a node in it. Sampling is seeded from the run's seed, this node's path, the
        number of generations before in it, and the member.
        """
        index, self._generations = self._generations, self._generations + 1
        seeds = [
            derive_seed(self._shared.seed, self.path, index, place, member.sampling.seed)
            for place, member in enumerate(members)
        ]
        seeded = [
            replace(member, sampling=replace(member.sampling, seed=seed))
            for member, seed in zip(members, seeds, strict=True)
        ]
        team = self.grow("team", title)
        inner = team.teamwork(seeded, work)
        scopes = [team.grow("think", member.name or f"member {place}") for place, member in enumerate(members)]
        tokens = sum(member.max_tokens for member in members)
        engine = members[0].context.engine if members else self.engine
        return ScopeTeam(inner, team, scopes, tokens, self._shared.gates.for_generation(team.path, engine))

    async def team(self, members: Sequence[Member], work: Teamwork, *, title: str = "team") -> list[Generation]:
        """`stream_team` to its end: the finished generations, in the members' order."""
        async with self.stream_team(members, work, title=title) as stream:
            async for _ in stream:
                pass
        return stream.results

    # ---- children

    def grow(self, kind: str, title: str) -> Scope:
        """Open a child node; close it with `finish` or `fail`, or use it in `with`."""
        return self._grow(kind, title, slug(title))

    async def call(self, tool: Tool[..., T], arguments: Mapping[str, object], *, title: str = "") -> T:
        """Call a tool as a child node, under the caps. Raises ToolError."""
        return await self._call(self._grow_call(tool, arguments, title), tool, arguments)

    def cap(self, tool: Tool) -> int:
        """How many calls of a tool may be in flight in the run; 0 for no limit."""
        return self._shared.gates.cap(tool)

    async def settle(self, calls: Sequence[tuple[Tool, Mapping[str, object]]]) -> list[Outcome]:
        """Call all at once, under the caps. Outcomes stand in the calls' order; a failed call is an outcome too."""
        self.emit(ITEMS, len(calls))
        children = [self._grow_call(tool, arguments, "") for tool, arguments in calls]
        jobs = [
            partial(self._settle, child, tool, partial(_given, arguments))
            for child, (tool, arguments) in zip(children, calls, strict=True)
        ]
        return await self._side_by_side(children, jobs)

    def begin_call(
        self,
        tool: Tool,
        arguments: Mapping[str, object],
        *,
        known: Callable[[], Awaitable[Mapping[str, object]]] | None = None,
    ) -> Callable[[], Awaitable[Outcome]]:
        """Open the node of a call; what this gives makes the call, as `settle` does, in a task of its own.

        So calls can start one by one, and have their nodes in this order all the same. `known` gives the arguments
        where some of them are still waited for; a ToolError that it raises is the outcome. Where a run that is resumed
        has another text than before, an idempotent call in the place of another is made.
        """
        child = self._grow_call(tool, arguments, "")
        child._begun = True
        return partial(self._settle, child, tool, known or partial(_given, arguments))

    @overload
    async def gather(
        self, children: Sequence[tuple[str, Child[T]]], *, kind: str = "thread", join: AllOf | KOf = all_of
    ) -> list[T]: ...
    @overload
    async def gather(self, children: Sequence[tuple[str, Child[T]]], *, kind: str = "thread", join: AnyOf) -> T: ...
    @overload
    async def gather(
        self, children: Sequence[tuple[str, Child[T]]], *, kind: str = "thread", join: AllSettled
    ) -> list[Settled[T]]: ...
    @overload
    async def gather(self, children: Sequence[tuple[str, Child[Any]]], *, kind: str = "thread", join: Join) -> Any: ...
    async def gather(
        self, children: Sequence[tuple[str, Child[Any]]], *, kind: str = "thread", join: Join = all_of
    ) -> Any:
        """Run `(title, async function of a scope)` pairs side by side, each as a child node; results in order.

        `join` says how many must succeed: all, unless it is given, so that the first failure cancels the others and is
        raised.
        """
        scopes = [self.grow(kind, title) for title, _ in children]
        jobs = [partial(run_in, scope, function) for scope, (_, function) in zip(scopes, children, strict=True)]
        try:
            return await self.joined(jobs, join)
        finally:
            for scope in scopes:  # one that has not started can't close itself
                scope.cancel()

    async def joined(self, jobs: Sequence[Callable[[], Awaitable[Any]]], join: Join, *, at_once: int = 0) -> Any:
        """What a join makes of jobs, run side by side, at most `at_once` of them at a time (0: all)."""
        self.emit(ITEMS, len(jobs))
        ended = await until_joined(jobs, join, at_once=at_once)
        return ended.value(lambda index, error: failure_of(error, self._shared.run, f"{self.path}/{index + 1}"))

    async def ask(self, question: str, kind: Any = str) -> Any:
        """Ask a person; the answer is of the type `kind`. Raises RunError in a run that has nobody to ask."""
        if self._shared.answer is None:
            raise RunError(f"node '{self.path}' asks a person, but the run has nobody to ask; pass answer=…")
        self.emit("question", question)
        return await put(Question(self.path, question, kind), self._shared.answer)

    async def fact(self, name: str, find: Callable[[], T]) -> T:
        """What is found out of the engine, as a JSON value: a run that goes on from its journal finds the same."""
        return find()

    async def shortened(self, text: str, tokens: int) -> str:
        """A text cut after so many tokens, with a note of what is missing; whole where it is no longer."""
        if len(text.encode("utf-8", "replace")) <= tokens:  # no token is shorter than a byte
            return text
        kept = await self.fact("shortened", lambda: min(len(text), prefix(self.engine, text, tokens)))
        missing = len(text) - kept
        return text if not missing else f"{text[:kept]} … [{missing} of {len(text)} characters left out]"

    # ---- reports

    def text(self, text: str, tokens: int = 0) -> None:
        """Report text as generated by this node."""
        if self._shared.events.active:
            self._shared.events.emit(NodeText, path=self.path, text=text, tokens=tokens)

    def offer(self, answer: object) -> None:
        """What a driver's value is to be if a budget ends before it is done: its best answer so far."""
        self._offered = answer

    def emit(self, name: str, data: object = None) -> None:
        """Report anything else."""
        self._shared.events.emit(NodeNote, path=self.path, name=name, data=data)

    def opened(self) -> Self:
        """Report the start. `grow` does this."""
        if self._shared.events.active:
            parent = self._parent.path if self._parent else ""
            self._shared.events.emit(NodeStarted, path=self.path, kind=self.kind, title=self.title, parent=parent)
        return self

    def finish(self, value: object = None) -> None:
        """Close the node, and children left open. Idempotent."""
        if self._close(Scope.finish):
            self._join_parent()
            self._report(NodeFinished, summary=summarise(value) if self._shared.events.active else "")

    def fail(self, error: BaseException) -> None:
        """Close the node as failed; children left open are cancelled. Idempotent."""
        if self._close(Scope.cancel):
            self._join_parent()
            blame(error, self._shared.run, self.path)
            self._report(NodeFailed, error=type(error).__name__, message=str(error))

    def cancel(self) -> None:
        """Close the node as cancelled. Idempotent."""
        if self._close(Scope.cancel):
            self._report(NodeCancelled)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finish()
        elif isinstance(error, Exception):
            self.fail(error)
        else:
            self.cancel()

    # ---- parts

    def recall(self, definition: object, returns: Any, values: Mapping[str, object]) -> Any:
        """The node's value where a journal has it; MISSING where the node has to run. `returns` is its type; None for
        what the function `definition` promises."""
        return MISSING

    def generation(
        self,
        allowed: int,
        context: Context,
        *,
        max_tokens: int,
        stop: Sequence[Stop],
        grammar: Grammar | GrammarState | None,
        sampling: Sampling,
    ) -> GenerationStream:
        """The generation itself; a budget may allow less than the `max_tokens` asked for."""
        return context.stream(max_tokens=allowed, stop=stop, grammar=grammar, sampling=sampling)

    def teamwork(self, members: Sequence[Member], work: Teamwork) -> TeamStream:
        """The team's work itself, asked of the team's own scope."""
        return self.engine.stream_team(members, work)

    def _made(self, context: Context) -> Context:
        return self.keep(context, context.usage)

    def keep(self, context: Context, usage: Usage) -> Context:
        """Count what a context has cost, and see to it that it is released when the run ends."""
        self.meter.record(self.priced(context, usage))
        with suppress(TypeError):  # an engine's contexts need not be weakly referable; then the collector releases them
            self._shared.contexts.add(context)
        return context

    def hold(self, held: Held) -> Held:
        """Hold contexts that others will read; they are released when all holds on them were dropped."""
        self._shared.holds.hold(held)
        return held

    def drop(self, held: Held) -> None:
        """Drop a hold on each of the contexts."""
        self._shared.holds.drop(held)

    def _grow(self, kind: str, title: str, label: str) -> Scope:
        self._grown += 1
        path = "/".join(part for part in (self.path, f"{self._grown}-{label}") if part)
        child = type(self)(self._shared, path, kind, title, self, self.meter.clock)
        self._children[path] = child
        return child.opened()

    def written(self, name: str, kind: str, title: str, start: Clock) -> Scope:
        """Open the scope of a written node, which is closed by who runs it."""
        path = f"{self.path}/{name}" if self.path else name
        return type(self)(self._shared, path, kind, title, self, start).opened()

    def _grow_call(self, tool: Tool, arguments: Mapping[str, object], title: str) -> Scope:
        return self._grow("call", title or show_call(tool, arguments), slug(tool.name))

    async def _call(self, child: Scope, tool: Tool[..., T], arguments: Mapping[str, object]) -> T:
        with child:
            value = await child.invoke(tool, arguments)
            child.finish(value)
            return value

    async def invoke(self, tool: Tool[..., T], arguments: Mapping[str, object]) -> T:
        """Call a tool as this node itself, under the caps, where a tool says so after a person has agreed. Raises
        ToolError, and RunError where a person is needed in a run that has nobody to ask."""
        self._hide_arguments(tool, arguments)
        if tool.asks:
            checked = tool.signature.check_arguments(arguments)
            return cast(T, await self.ask(str(checked["question"])))
        if tool.approve and not await self.ask(f"May {show_call(tool, arguments)} be called?", bool):
            raise ToolRefusedError(f"tool '{tool.name}': a person refused this call; do without it, or ask otherwise")
        return await self._invoke_allowed(tool, arguments)

    async def _invoke_allowed(self, tool: Tool[..., T], arguments: Mapping[str, object]) -> T:
        return await self._invoke(tool, arguments, _nothing)

    def _hide_arguments(self, tool: Tool, arguments: Mapping[str, object]) -> None:
        for name in tool.secret:
            self._shared.secrets.add(f"{tool.name}.{name}", dict(arguments).get(name))

    async def _invoke(
        self, tool: Tool[..., T], arguments: Mapping[str, object], about_to: Callable[[], Awaitable[None]]
    ) -> T:
        """Call a tool under the caps; `about_to` is awaited when nothing else stands before the call."""
        with await self._reserve_call(tool):
            async with self._shared.gates.for_call(tool, self.path):
                await about_to()
                self._charge_call(tool)
                return await tool.invoke(arguments)

    def _charge_call(self, tool: Tool) -> None:
        usage = Usage(calls=1, cost=tool.cost)
        self.meter.record(usage)
        if self._shared.accounts is not None:
            for ledger in self._shared.accounts.of_tool(tool):
                ledger.meter.record(usage)

    async def _reserve_call(self, tool: Tool) -> AbstractContextManager[object]:
        accounts = self._shared.accounts
        if accounts is None:
            return nullcontext()
        return await accounts.reserve_call((*self._ledgers, *accounts.of_tool(tool)), tool.cost)

    async def reserve_tokens(self, wanted: int, *, whole: bool = False) -> Reservation | None:
        """Leave to sample tokens, under the budgets of this node and of those around it; None without a budget."""
        accounts = self._shared.accounts
        return await accounts.reserve_tokens(self._ledgers, wanted, whole=whole) if accounts is not None else None

    def spend(self, usage: Usage) -> None:
        """Count what an operation has used whose context is not known, at the price of the dearest engine."""
        self.meter.record(usage if self._shared.accounts is None else self._shared.accounts.priced(usage, ""))

    def priced(self, context: Context, usage: Usage) -> Usage:
        """The usage of an operation that made a context, at the price of the context's engine."""
        accounts = self._shared.accounts
        return usage if accounts is None else accounts.priced(usage, context.engine.name)

    def check_budget(self) -> None:
        """Raise BudgetError where a budget has nothing left to begin anything with."""
        if self._shared.accounts is not None:
            for ledger in self._ledgers:
                ledger.check()

    @property
    def seconds_left(self) -> float:
        """Seconds until the budget that this node opens ends."""
        return self._ledgers[-1].left_seconds if self._own_ledger else math.inf

    @property
    def _own_ledger(self) -> bool:
        return bool(self._ledgers) and self._ledgers[-1].meter is self.meter

    def out_of_time(self) -> BudgetError:
        return self._ledgers[-1].spent("seconds")

    def settle_for_offer(self, error: BudgetError) -> Any:
        """The best answer that the driver has offered, now that a budget has ended; raises the error without one."""
        answered = self._offered is not MISSING
        self._shared.exhausted.append(str(error))
        self._shared.events.emit(BudgetSpent, path=self.path, message=str(error), answered=answered)
        if not answered:
            raise error
        self._settled = True
        return self._offered

    async def _side_by_side(self, scopes: Sequence[Scope], jobs: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
        try:
            return await together(jobs)
        except BaseException:
            for scope in scopes:  # one that has not started can't close itself
                scope.cancel()
            raise

    async def _settle(self, child: Scope, tool: Tool, known: Callable[[], Awaitable[Mapping[str, object]]]) -> Outcome:
        try:
            with child:
                value = await child.invoke(tool, await known())
                child.finish(value)
            return Outcome(value, None, child.meter.seconds, render(value))
        except ToolError as error:
            return Outcome(None, error, child.meter.seconds, f"error: {error}")

    def _close(self, rest: Callable[[Scope], None]) -> bool:
        if not self._open:
            return False
        self._open = False
        for child in list(self._children.values()):
            rest(child)
        if self._parent is not None:
            self._parent._children.pop(self.path, None)
        return True

    def _join_parent(self) -> None:
        """What waited for this node, or for its failure, goes on after it."""
        if self._parent is not None:
            self._parent.meter.join(self.meter.clock)

    def _report(self, kind: type[NodeFinished | NodeFailed | NodeCancelled], **fields: object) -> None:
        if self._shared.events.active:
            usage = self.meter.usage
            self._shared.events.emit(kind, path=self.path, usage=usage, seconds=usage.seconds, **fields)


Driver: TypeAlias = Callable[Concatenate[Scope, ...], Awaitable[T]]


async def _nothing() -> None:
    pass


async def _given(arguments: Mapping[str, object]) -> Mapping[str, object]:
    return arguments


async def run_in(scope: Scope, function: Child[T]) -> T:
    """Run an async function of a scope in it, and close it with the value."""
    with scope:
        value = await function(scope)
        scope.finish(value)
        return value

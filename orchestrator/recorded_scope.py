"""The scope of a node in a journaled run: what is recorded is answered from the journal, what is new is added to it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar, cast

from ..engines.base import (
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
)
from ..engines.roles import playing
from ..errors import BudgetError, PlaitError, ReplayError, ToolArgumentError, UncertainCallError
from ..tools import Tool
from ..usage import Usage
from .fingerprint import UNKNOWN, fingerprint
from .fingerprint import definition as definition_of
from .recorded import (
    Asked,
    LiveStream,
    Made,
    Make,
    Origin,
    RecordedContext,
    RecordedGrammar,
    RecordedStream,
    Said,
    recall,
)
from .recorded_team import LiveTeam, RecordedTeam, TeamAgain, TeamSaid
from .recording import Recording, as_mapping, read_error, write_error
from .records import NODE, Record, State
from .scope import MISSING, Scope
from .values import read_value, write_value
from .wording import show_call, summarise

T = TypeVar("T")

SUMMARY = "~"
"""Begins the value of a node that is known by its operations: what is shown of it."""
_BY_OPERATION = frozenset({"ask", "call", "sample", "team", "think"})
"""Kinds of nodes that are done when their operation is."""


class RecordedScope(Scope):
    """A scope whose operations are kept in the run's journal, each under the node's path and its number."""

    __slots__ = ("_input", "_returns", "_reuse", "_samples", "_whole")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._samples = 0
        self._whole = False
        self._input = self._reuse = ""
        self._returns: Any = None

    @property
    def _recording(self) -> Recording:
        assert self._shared.recording is not None
        return self._shared.recording

    # ---- the node as a whole

    def recall(self, definition: object, returns: Any, values: Mapping[str, object]) -> Any:
        recording = self._recording
        returns = recording.returns(definition) if returns is None else returns
        self._whole, self._returns = True, returns
        self._input = fingerprint(definition_of(definition), dict(values))
        self._reuse = recording.reuse("node", self._shared.seed, definition, dict(values))
        record = recording.find(self.path, NODE, self._input, self._reuse)
        if record is None or not record.value:
            return MISSING
        try:
            value = read_value(returns, recording.read(record))
        except ValueError:
            return MISSING
        self.meter.record(Usage(**record.usage))  # type: ignore[arg-type]
        return value

    def finish(self, value: object = None) -> None:
        if self._open and not (self._samples and self.kind in _BY_OPERATION):
            text = (write_value(self._returns, value) or "") if self._whole else SUMMARY + summarise(value)
            self._keep_node("left" if self._settled else "done", text)
        super().finish(value)

    def fail(self, error: BaseException) -> None:
        self._recording.failing(error)
        if self._open:
            self._keep_node("failed", json.dumps([type(error).__name__, str(error)]))
        super().fail(error)

    def cancel(self) -> None:
        if self._open:
            self._keep_node("cancelled", "")
        super().cancel()

    def _keep_node(self, state: State, value: str) -> None:
        usage = self.meter.amounts
        self._recording.keep(
            Record(
                path=self.path,
                sample=NODE,
                state=state,
                kind=self.kind,
                title=self.title,
                input=self._input,
                value=value,
                reuse=self._reuse if self._whole and value else "",
                usage=usage,
            )
        )

    # ---- contexts

    async def start(self, prompt: Prompt, *, adapter: str = "") -> Context:
        async def make(below: Context | None, charge: object) -> Made:
            self.check_budget()
            return await self.engine.start(prompt, adapter=adapter), None

        name, engine = fingerprint("start", prompt, adapter), playing(self.engine, adapter)
        return await self._made_by(name, None, make, engine, said=prompt)

    async def extend(self, context: Context, prompt: Prompt) -> Context:
        async def make(below: Context | None, charge: object) -> Made:
            assert below is not None
            self.check_budget()
            return await below.extend(prompt), None

        name = fingerprint("extend", _origin(context).name, prompt)
        return await self._made_by(name, context, make, said=prompt)

    async def prune(self, context: Context, start: int, stop: int, *, mode: Mode) -> Context:
        async def make(below: Context | None, charge: object) -> Made:
            assert below is not None
            return await below.prune(start, stop, mode=mode), None

        return await self._made_by(fingerprint("prune", _origin(context).name, start, stop, mode), context, make)

    async def splice(self, context: Context, others: Sequence[Context], *, at: Placement, mode: Mode) -> Context:
        origins = [_origin(other) for other in others]

        async def make(below: Context | None, charge: Callable[[Usage], None]) -> Made:
            assert below is not None
            return await below.splice([await origin.real(charge) for origin in origins], at=at, mode=mode), None

        names = [origin.name for origin in origins]
        return await self._made_by(fingerprint("splice", _origin(context).name, names, at, mode), context, make)

    async def score(self, context: Context, continuations: Sequence[str]) -> list[float]:
        async def ask() -> list[float]:
            real = await _recorded(context).real(self.meter.record)
            return await Scope.score(self, real, continuations)

        input_ = fingerprint("score", _origin(context).name, list(continuations))
        return cast(list[float], json.loads(await self._once("score", input_, lambda scores: json.dumps(scores), ask)))

    async def ask(self, question: str, kind: Any = str) -> Any:
        async def put() -> Any:
            return await Scope.ask(self, question, kind)

        def write(answer: Any) -> str:
            return write_value(kind, answer) or ""

        return read_value(kind, await self._once("ask", fingerprint("ask", question, kind), write, put))

    async def fact(self, name: str, find: Callable[[], T]) -> T:
        async def found() -> T:
            return find()

        return cast(T, json.loads(await self._once("fact", fingerprint("fact", name), json.dumps, found)))

    async def _made_by(
        self, name: str, parent: Context | None, make: Make, engine: Engine | None = None, *, said: Prompt = ""
    ) -> Context:
        """The context that an operation makes, or made when it was recorded, on the parent's engine or this one.

        Messages that it takes stand in the record as they were `said`: their text alone is the chat template's.
        """
        origin = Origin(name, _origin(parent) if parent is not None else None, make)
        before = parent.text if parent is not None else ""

        async def ask() -> Context:
            real = await _recorded(parent).real(self.meter.record) if parent is not None else None
            made, _ = await make(real, self.meter.record)
            origin.know(made)
            return made

        made: list[Context] = []  # keeps the engine's context alive until the recorded one holds it

        def write(real: Context) -> str:
            made.append(real)
            text = real.text
            shared = len(before) if text.startswith(before) else 0
            kept = [real.length, shared, text[shared:], as_mapping(self.priced(real, real.usage))]
            messages = [] if isinstance(said, str) else [[[message.role, message.content] for message in said]]
            return json.dumps(kept + messages)

        length, shared, rest, usage, *_ = json.loads(await self._once("context", name, write, ask))
        on = parent.engine if parent is not None else engine or self.engine
        context = RecordedContext(on, origin, length=length, text=before[:shared] + rest, usage=Usage(**usage))
        return self.keep(context, context.usage)

    async def _once(self, kind: str, input_: str, write: Callable[[T], str], ask: Callable[[], Awaitable[T]]) -> str:
        """What an operation gave, as text: from its record, or asked now and recorded. Errors are recorded too."""
        recording, sample = self._recording, self._next_sample()
        record = recording.find(self.path, sample, input_)
        if record is not None and record.state == "failed":
            raise self._noted(sample, read_error(record.value))
        if record is not None:
            return recording.read(record)
        row = Record(path=self.path, sample=sample, state="done", kind=kind, input=input_)
        try:
            text = write(await ask())
        except PlaitError as error:
            self._keep_error(row, error)
            raise
        recording.keep(replace(row, value=text))
        return text

    # ---- generations

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
        recording, sample = self._recording, self._next_sample()
        asked = Asked(max_tokens, tuple(stop), grammar, sampling)
        origin = _origin(context)
        input_ = fingerprint("generate", origin.name, asked.name)
        seed = self._shared.seed if sampling.temperature else None
        reuse = recording.reuse("generate", self.engine.name, origin.name, asked.name, seed)
        record = recording.find(self.path, sample, input_, reuse)
        if record is None:
            row = Record(
                path=self.path, sample=sample, state="done", kind="think", title=self.title, input=input_, reuse=reuse
            )
            held = replace(asked, max_tokens=allowed)
            return LiveStream(
                _recorded(context),
                held,
                self.meter.record,
                partial(self._keep_generation, row, context, asked, allowed),
            )
        if record.state == "failed":
            return RecordedStream(Said("", [], []), None, self._noted(sample, read_error(record.value)))
        said = Said.read(recording.read(record))
        if record.state == "left":
            return RecordedStream(said, None)
        made = self._generated(origin, asked, input_, said)
        used = Usage(**record.usage)  # type: ignore[arg-type]
        result = self._result(context.engine, made, said, used, context.text + said.text)
        return RecordedStream(said, result)

    def _generated(self, below: Origin, asked: Asked, input_: str, said: Said) -> Origin:
        async def make(real: Context | None, charge: Callable[[Usage], None]) -> Made:
            assert real is not None
            grammar = asked.grammar
            if isinstance(grammar, RecordedGrammar):
                grammar = await grammar.real(charge)
            return await recall(real, said, grammar, same_engine=self._recording.same_engine)

        return Origin(fingerprint(input_, said.text, list(said.tokens)), below, make)

    def _keep_generation(
        self,
        row: Record,
        below: Context,
        asked: Asked,
        allowed: int,
        said: Said | PlaitError,
        written: Generation | None,
    ) -> Generation | None:
        if isinstance(said, PlaitError):
            self._keep_error(row, said)
            return None
        if written is None:
            usage = Usage(generated=sum(said.counts), steps=sum(said.counts), critical_path=sum(said.counts))
            self._recording.keep(replace(row, state="left", value=said.write(), reuse="", usage=as_mapping(usage)))
            return None
        made = self._generated(_origin(below), asked, row.input, said)
        made.know(written.context, written.grammar)
        usage = self.priced(written.context, written.usage)
        if allowed == asked.max_tokens or written.finish != "length":  # one that a budget cut is asked for again
            self._recording.keep(replace(row, value=said.write(), usage=as_mapping(usage)))
        return self._result(below.engine, made, said, usage, below.text + said.text)

    def _result(self, engine: Engine, made: Origin, said: Said, usage: Usage, text: str) -> Generation:
        context = RecordedContext(engine, made, length=said.length, text=text, usage=usage)
        grammar = RecordedGrammar(made, said.complete) if said.complete is not None else None
        return said.generation(context, usage, grammar)

    # ---- calls

    async def _invoke_allowed(self, tool: Tool[..., T], arguments: Mapping[str, object]) -> T:
        recording, sample = self._recording, self._next_sample()
        input_ = fingerprint("call", definition_of(tool), dict(arguments))
        reuse = recording.reuse("call", tool, dict(arguments)) if tool.idempotent else ""
        record = self._find_call(tool, sample, input_, reuse)
        if record is not None and (record.value or not tool.idempotent):
            self._charge_call(tool)
            return self._answer(tool, sample, record)
        row = Record(
            path=self.path,
            sample=sample,
            state="begun",
            kind="call",
            title=show_call(tool, arguments),
            input=input_,
            idempotent=tool.idempotent,
            reuse=reuse,
            usage={"calls": 1, "cost": tool.cost},
        )
        return await self._call_now(row, tool, arguments)

    def _find_call(self, tool: Tool[..., Any], sample: int, input_: str, reuse: str) -> Record | None:
        """The record of a call. One that was begun before the text around it was recorded may be another now."""
        try:
            return self._recording.find(self.path, sample, input_, reuse)
        except ReplayError:
            if not (self._begun and tool.idempotent) or self._recording.only_replay:
                raise
            return None

    async def _call_now(self, row: Record, tool: Tool[..., T], arguments: Mapping[str, object]) -> T:
        recording = self._recording

        async def about_to() -> None:
            if tool.idempotent:
                return
            recording.keep(row)
            try:
                await recording.durable()
            except BaseException:  # cancelled before the call: it has certainly not happened
                recording.keep(replace(row, state="void", idempotent=True))
                raise

        try:
            value = await self._invoke(tool, arguments, about_to)
        except PlaitError as error:
            self._keep_error(replace(row, idempotent=tool.idempotent or isinstance(error, ToolArgumentError)), error)
            raise
        recording.keep(replace(row, state="done", value=write_value(tool.returns, value) or ""))
        return value

    def _answer(self, tool: Tool[..., T], sample: int, record: Record) -> T:
        if record.state == "failed":
            raise self._noted(sample, read_error(record.value))
        if record.state == "done" and record.value:
            value = read_value(tool.returns, self._recording.read(record))
            return cast(T, tool.signature.check_result(value))
        self._recording.uncertain.append(self.path)
        run = self._recording.run
        why = (
            "was begun when the run was cut off, and may have happened"
            if record.state == "begun"
            else f"was made, but its result ({tool.returns}) can't be kept as text"
        )
        raise UncertainCallError(
            f"the call {record.title} at '{self.path}' {why}. '{tool.name}' is not idempotent, so it isn't repeated. "
            f"Say what became of it: plait resume {run} with --assume-done '{self.path}=VALUE', "
            f"--assume-failed '{self.path}' or --call-again '{self.path}' (Journal.resolve)"
        )

    # ---- teams

    def teamwork(self, members: Sequence[Member], work: Teamwork) -> TeamStream:
        """Asked of the team's own scope."""
        recording, sample = self._recording, self._next_sample()
        asked = [Asked(member.max_tokens, tuple(member.stop), member.grammar, member.sampling) for member in members]
        names = [
            [_origin(member.context).name, member.name, member.joins, each.name]
            for member, each in zip(members, asked, strict=True)
        ]
        input_ = fingerprint("team", names, work)
        record = recording.find(self.path, sample, input_)
        origins = [_origin(member.context) for member in members]
        engine = members[0].context.engine if members else self.engine
        again = TeamAgain(engine, members, origins, work)
        if record is not None and record.state == "failed":
            return RecordedTeam(TeamSaid(), [], self._noted(sample, read_error(record.value)))
        if record is not None:
            team = TeamSaid.read(recording.read(record))
            made = [
                again.origin(place, fingerprint(input_, place, said.text)) for place, said in enumerate(team.members)
            ]
            again.texts = [said.text for said in team.members]
            results = [
                self._result(again.engine, origin, said, Usage(**usage), text)
                for origin, said, usage, text in zip(made, team.members, team.usages, team.texts, strict=True)
            ]
            return RecordedTeam(team, results)
        row = Record(path=self.path, sample=sample, state="done", kind="team", title=self.title, input=input_)
        return LiveTeam(again, self.meter.record, partial(self._keep_team, row, again))

    def _keep_team(
        self,
        row: Record,
        again: TeamAgain,
        team: TeamSaid | PlaitError,
        written: Sequence[Generation],
    ) -> list[Generation]:
        if isinstance(team, PlaitError):
            self._keep_error(row, team)
            return []
        results = []
        for place, (said, generation) in enumerate(zip(team.members, written, strict=True)):
            origin = again.origin(place, fingerprint(row.input, place))
            origin.know(generation.context, generation.grammar)
            results.append(self._result(again.engine, origin, said, generation.usage, team.texts[place]))
        usage = as_mapping(sum((generation.usage for generation in written), Usage()))
        self._recording.keep(replace(row, value=team.write(), usage=usage))
        return results

    # ---- parts

    def _next_sample(self) -> int:
        sample, self._samples = self._samples, self._samples + 1
        return sample

    def _keep_error(self, row: Record, error: PlaitError) -> None:
        """An error that a driver handles is the same when it runs again. A budget's is not: it may be raised."""
        if isinstance(error, BudgetError):
            return
        self._noted(row.sample, error)
        self._recording.keep(replace(row, state="failed", value=write_error(error), reuse=""))

    def _noted(self, sample: int, error: PlaitError) -> PlaitError:
        """The error with a note of the operation that it comes from; if it ends the run, that is taken back."""
        self._recording.failing(error, self.path, sample)
        return error


def _recorded(context: Context) -> RecordedContext:
    """A context of this run; one that was made past the scope has no record."""
    if isinstance(context, RecordedContext):
        return context
    origin = Origin(UNKNOWN + fingerprint(context.text), None, _unmakeable)
    origin.know(context)
    return RecordedContext(context.engine, origin, length=context.length, text=context.text, usage=context.usage)


def _member_name(member: Member) -> str:
    """All that a member of a team is asked for."""
    asked = Asked(member.max_tokens, tuple(member.stop), member.grammar, member.sampling)
    return fingerprint(_origin(member.context).name, member.name, member.joins, asked.name)


def _origin(context: Context) -> Origin:
    return _recorded(context).origin


async def _unmakeable(below: Context | None, charge: object) -> Made:
    raise PlaitError("a context that was not made through the scope can't be made again; use scope.start and extend")

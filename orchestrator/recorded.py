"""Contexts and generations of a journaled run: known by what made them, made in the engine when that is needed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from typing import Any, Self, TypeAlias
from weakref import ref

import anyio

from ..engines.base import (
    GREEDY,
    Chunk,
    Context,
    Engine,
    Generation,
    GenerationStream,
    Grammar,
    GrammarState,
    Likely,
    Member,
    Mode,
    Placement,
    Pooling,
    Prompt,
    Recalls,
    Sampling,
    Stop,
    TeamStream,
    Teamwork,
    TokenLogprobs,
)
from ..errors import PlaitError, ReplayError
from ..usage import Usage
from .fingerprint import fingerprint

Charge: TypeAlias = Callable[[Usage], None]
Made: TypeAlias = tuple[Context, GrammarState | None]
Make: TypeAlias = Callable[[Context | None, Charge], Awaitable[Made]]
"""Makes a context from its parent's, in the engine."""


class Origin:
    """How a context was made: by one operation on another origin. It keeps no context alive.

    `name` is the fingerprint of all operations that lead here; `grammar` where the grammar of the generation that made
    it stands in the engine, once it was made.
    """

    __slots__ = ("_lock", "_make", "_parent", "_real", "grammar", "name")

    def __init__(self, name: str, parent: Origin | None, make: Make) -> None:
        self.name = name
        self.grammar: GrammarState | None = None
        self._parent = parent
        self._make = make
        self._real: ref[Context] | None = None
        self._lock = anyio.Lock()

    async def real(self, charge: Charge) -> Context:
        """The engine's context, made now if need be, after those that it goes on from."""
        chain, origin = [self], self
        while origin.known is None and origin._parent is not None:
            origin = origin._parent
            chain.append(origin)
        below: Context | None = None
        for origin in reversed(chain):
            below = await origin._made(below, charge)
        assert below is not None
        return below

    @property
    def known(self) -> Context | None:
        """The engine's context, if there is one."""
        return self._real() if self._real is not None else None

    def know(self, context: Context | None, grammar: GrammarState | None = None) -> None:
        """Take note of what was made, or released."""
        self.grammar = grammar
        self._real = None
        if context is not None:
            with suppress(TypeError):  # an engine's contexts need not be weakly referable; then it is made each time
                self._real = ref(context)

    async def _made(self, below: Context | None, charge: Charge) -> Context:
        async with self._lock:
            context = self.known
            if context is None:
                context, grammar = await self._make(below, charge)
                charge(_again(context.usage))
                self.know(context, grammar)
            return context


class RecordedContext:
    """A context whose past is known. In a run that goes on from its journal it is made in the engine only when
    something that is not recorded needs it; what making it again costs is `recomputed`.
    """

    __slots__ = ("__weakref__", "_engine", "_real", "_text", "length", "origin", "usage")

    def __init__(self, engine: Engine, origin: Origin, *, length: int, text: str, usage: Usage) -> None:
        self._engine = engine
        self._real = origin.known
        self._text = text
        self.origin = origin
        self.length = length
        self.usage = usage

    @property
    def engine(self) -> Engine:
        """The one that has made it, where it was made, else the run's."""
        return self._engine if self._real is None else self._real.engine

    @property
    def text(self) -> str:
        return self._text

    async def real(self, charge: Charge) -> Context:
        """The engine's own context, made now if need be."""
        if self._real is None:
            self._real = await self.origin.real(charge)
        return self._real

    def release(self) -> None:
        """Give up what the engine holds."""
        real, self._real = self._real, None
        if real is not None:
            self.origin.know(None, self.origin.grammar)
            real.release()

    # ---- the rest of the protocol: what is asked of a context itself, past the scope, is not recorded

    async def extend(self, prompt: Prompt) -> Context:
        return await (await self.real(_unpaid)).extend(prompt)

    def stream(
        self,
        *,
        max_tokens: int = 512,
        stop: Sequence[Stop] = (),
        grammar: Grammar | GrammarState | None = None,
        sampling: Sampling = GREEDY,
    ) -> GenerationStream:
        return LiveStream(self, Asked(max_tokens, tuple(stop), grammar, sampling), _unpaid, _unkept)

    async def generate(
        self,
        *,
        max_tokens: int = 512,
        stop: Sequence[Stop] = (),
        grammar: Grammar | GrammarState | None = None,
        sampling: Sampling = GREEDY,
    ) -> Generation:
        async with self.stream(max_tokens=max_tokens, stop=stop, grammar=grammar, sampling=sampling) as stream:
            async for _ in stream:
                pass
        return stream.result

    async def samples(
        self,
        count: int,
        *,
        max_tokens: int = 512,
        stop: Sequence[Stop] = (),
        grammar: Grammar | GrammarState | None = None,
        sampling: Sampling = GREEDY,
    ) -> list[Generation]:
        real = await self.real(_unpaid)
        if isinstance(grammar, RecordedGrammar):
            grammar = await grammar.real(_unpaid)
        return await real.samples(count, max_tokens=max_tokens, stop=stop, grammar=grammar, sampling=sampling)

    async def prune(self, start: int, stop: int, *, mode: Mode) -> Context:
        return await (await self.real(_unpaid)).prune(start, stop, mode=mode)

    async def splice(self, others: Sequence[Context], *, at: Placement, mode: Mode) -> Context:
        return await (await self.real(_unpaid)).splice(
            [await other.real(_unpaid) if isinstance(other, RecordedContext) else other for other in others],
            at=at,
            mode=mode,
        )

    async def embed(self, *, pooling: Pooling = "mean") -> list[float]:
        return await (await self.real(_unpaid)).embed(pooling=pooling)

    async def score(self, continuations: Sequence[str]) -> list[float]:
        return await (await self.real(_unpaid)).score(continuations)


class RecordedGrammar:
    """A grammar's state by the generation that left it and what was forced since."""

    __slots__ = ("_complete", "_forced", "_source", "_state", "name")

    def __init__(
        self, source: Origin, complete: bool | None, forced: tuple[str, ...] = (), state: GrammarState | None = None
    ) -> None:
        self._source = source
        self._complete = complete
        self._forced = forced
        self._state = state if state is not None or forced else source.grammar
        self.name = fingerprint(source.name, *forced)

    def force(self, text: str) -> RecordedGrammar:
        """Where the engine's own state is known, raises GrammarError for a text that is not allowed."""
        state = self._state.force(text) if self._state is not None else None
        return RecordedGrammar(self._source, None, (*self._forced, text), state)

    @property
    def complete(self) -> bool:
        if self._state is not None:
            return self._state.complete
        if self._complete is None:
            raise ReplayError(
                "whether a grammar is complete after a text was forced is not recorded; ask before forcing, or after "
                "the next generation"
            )
        return self._complete

    async def real(self, charge: Charge) -> GrammarState:
        """The engine's own state."""
        if self._state is None:
            await self._source.real(charge)
            state = self._source.grammar
            if state is None:
                raise ReplayError("the engine gives no grammar state for a recorded generation; fork the run before it")
            for text in self._forced:
                state = state.force(text)
            self._state = state
        return self._state


@dataclass(frozen=True, slots=True)
class Asked:
    """What a generation was asked for."""

    max_tokens: int
    stop: tuple[Stop, ...]
    grammar: Grammar | GrammarState | None
    sampling: Sampling

    @property
    def name(self) -> str:
        """All of it as a fingerprint, but for the sampling's seed, which the node's path gives."""
        grammar = self.grammar.name if isinstance(self.grammar, RecordedGrammar) else self.grammar
        sampling = {name: value for name, value in asdict(self.sampling).items() if name != "seed"}
        return fingerprint(self.max_tokens, list(self.stop), grammar, sampling)


@dataclass(slots=True)
class Said:
    """What a generation has said, as the journal keeps it: `sizes` and `counts` are each chunk's letters and tokens."""

    text: str
    sizes: list[int]
    counts: list[int]
    finish: Any = ""
    stop: Stop | None = None
    tokens: tuple[int, ...] = ()
    length: int = 0
    complete: bool | None = None
    logprobs: list[Any] = field(default_factory=list)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Said:
        return cls(**{**data, "tokens": tuple(data["tokens"])})

    @classmethod
    def read(cls, text: str) -> Said:
        return cls.from_data(json.loads(text))

    def take(self, written: Generation) -> None:
        """Note how it has ended."""
        self.text, self.finish, self.stop, self.tokens = written.text, written.finish, written.stop, written.tokens
        self.length = written.context.length
        self.complete = written.grammar.complete if written.grammar is not None else None
        self.logprobs = [asdict(entry) for entry in written.logprobs]

    def generation(self, context: Context, usage: Usage, grammar: GrammarState | None) -> Generation:
        """The generation as it was."""
        logprobs = tuple(
            TokenLogprobs(**{**entry, "best": tuple(Likely(**best) for best in entry["best"])})
            for entry in self.logprobs
        )
        return Generation(self.text, context, self.finish, usage, self.stop, grammar, self.tokens, logprobs)

    def write(self) -> str:
        return json.dumps(asdict(self))

    @property
    def chunks(self) -> list[Chunk]:
        ends = list(accumulate(self.sizes, initial=0))
        return [
            Chunk(self.text[start:end], count) for start, end, count in zip(ends, ends[1:], self.counts, strict=False)
        ]


Keep: TypeAlias = Callable[[Said | PlaitError, Generation | None], Generation | None]
"""Records what a generation has come to: all that it said and its result, or what it said before it was left (no
result), or its error. Gives the result with its context recorded."""


class LiveStream:
    """A generation by the engine, recorded when it ends."""

    def __init__(self, context: RecordedContext, asked: Asked, charge: Charge, keep: Keep) -> None:
        self._context = context
        self._asked = asked
        self._charge = charge
        self._keep = keep
        self._said = Said("", [], [])
        self._inner: GenerationStream | None = None
        self._chunks: AsyncIterator[Chunk] | None = None
        self._result: Generation | None = None
        self._failed = False

    async def __aenter__(self) -> Self:
        asked = self._asked
        real = await self._context.real(self._charge)
        grammar = asked.grammar
        if isinstance(grammar, RecordedGrammar):
            grammar = await grammar.real(self._charge)
        try:
            self._inner = real.stream(
                max_tokens=asked.max_tokens, stop=asked.stop, grammar=grammar, sampling=asked.sampling
            )
            await self._inner.__aenter__()
        except PlaitError as error:
            self._keep(error, None)
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._inner is None:
            return
        await self._inner.__aexit__(*exc)
        error = exc[1] if len(exc) > 1 else None
        if self._result is None and not self._failed and (error is None or isinstance(error, Exception)):
            self._keep(self._said, None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        assert self._inner is not None
        if self._chunks is None:
            self._chunks = aiter(self._inner)
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            if self._result is None:
                self._end(self._inner.result)
            raise
        except PlaitError as error:
            self._failed = True
            self._keep(error, None)
            raise
        self._said.text += chunk.text
        self._said.sizes.append(len(chunk.text))
        self._said.counts.append(chunk.tokens)
        return chunk

    @property
    def result(self) -> Generation:
        if self._result is None:
            assert self._inner is not None
            return self._inner.result
        return self._result

    def _end(self, written: Generation) -> None:
        self._said.take(written)
        self._result = self._keep(self._said, written)


class RecordedStream:
    """A generation that the journal answers, in the chunks in which it came."""

    def __init__(self, said: Said, result: Generation | None, failure: PlaitError | None = None) -> None:
        self._chunks = iter(said.chunks)
        self._result = result
        self._failure = failure

    async def __aenter__(self) -> Self:
        if self._failure is not None:
            raise self._failure
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        for chunk in self._chunks:
            return chunk
        await anyio.lowlevel.checkpoint()
        if self._result is None:
            raise ReplayError("a generation that was left early when it was recorded is now read further; fork the run")
        raise StopAsyncIteration

    @property
    def result(self) -> Generation:
        if self._result is None:
            raise ReplayError("a generation that was left early when it was recorded has no result; fork the run")
        return self._result


class AbsentEngine:
    """Stands for a run's engine where the run is only replayed."""

    def __init__(self, name: str, capabilities: Any) -> None:
        self.name = name
        self.capabilities = capabilities

    async def start(self, prompt: Prompt, *, adapter: str = "") -> Context:
        raise ReplayError(f"the record asks for engine '{self.name}', which a replay has not: it is not complete")

    def stream_team(self, members: Sequence[Member], work: Teamwork) -> TeamStream:
        raise ReplayError(f"the record asks for a team of engine '{self.name}', which a replay has not")

    async def team(self, members: Sequence[Member], work: Teamwork) -> list[Generation]:
        raise ReplayError(f"the record asks for a team of engine '{self.name}', which a replay has not")

    async def aclose(self) -> None:
        pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass


async def recall(context: Context, said: Said, grammar: Grammar | GrammarState | None, *, same_engine: bool) -> Made:
    """The context after a recorded generation: from its tokens where the engine can, else from its text."""
    if isinstance(context, Recalls):
        return await context.recall(said.text, said.tokens if same_engine else (), grammar=grammar)
    return await context.extend(said.text), None


def _again(usage: Usage) -> Usage:
    """What was paid for once is only computed again."""
    return Usage(recomputed=usage.prefilled + usage.recomputed, seconds=usage.seconds)


def _unpaid(usage: Usage) -> None:
    """What is asked of a context past its scope is charged to nobody."""


def _unkept(said: Said | PlaitError, written: Generation | None) -> Generation | None:
    return written

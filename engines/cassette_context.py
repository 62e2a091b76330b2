"""What a recorded engine hands out: contexts, generations and grammar states that are asked, or given as they were."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from ..errors import ContextError, EngineError, PlaitError
from ..usage import Usage
from .base import (
    GREEDY,
    Chunk,
    Context,
    Generation,
    Grammar,
    GrammarState,
    Likely,
    Mode,
    Placement,
    Pooling,
    Prompt,
    Sampling,
    Stop,
    TokenLogprobs,
    seeds,
)

if TYPE_CHECKING:
    from .cassette import CassetteEngine

Answer: TypeAlias = dict[str, Any]
"""What came of a question, as JSON values."""


class CassetteContext:
    """A context of a recorded engine; `inner` is the engine's own while it records."""

    def __init__(self, engine: CassetteEngine, key: str, answer: Answer, inner: Context | None) -> None:
        self._engine = engine
        self._answer = answer
        self._released = False
        self.key = key
        self.inner = inner
        self.usage = Usage(**answer["usage"])

    @property
    def engine(self) -> CassetteEngine:
        return self._engine

    @property
    def length(self) -> int:
        self.check()
        return int(self._answer["length"])

    @property
    def text(self) -> str:
        self.check()
        return str(self._answer["text"])

    async def extend(self, prompt: Prompt) -> CassetteContext:
        return await self._made(["extend", plain(prompt)], lambda inner: inner.extend(prompt))

    async def prune(self, start: int, stop: int, *, mode: Mode) -> CassetteContext:
        return await self._made(["prune", start, stop, mode], lambda inner: inner.prune(start, stop, mode=mode))

    async def splice(self, others: Sequence[Context], *, at: Placement, mode: Mode) -> CassetteContext:
        own = [other for other in others if isinstance(other, CassetteContext) and other.engine is self._engine]
        if len(own) != len(others):
            raise ContextError(f"a context of another engine can't be spliced into one of '{self._engine.name}'")
        parts = [other.inner for other in own if other.inner is not None]
        question = ["splice", [other.key for other in own], at, mode]
        return await self._made(question, lambda inner: inner.splice(parts, at=at, mode=mode))

    def stream(
        self,
        *,
        max_tokens: int = 512,
        stop: Sequence[Stop] = (),
        grammar: Grammar | GrammarState | None = None,
        sampling: Sampling = GREEDY,
    ) -> CassetteStream:
        self.check()
        return CassetteStream(self, max_tokens, tuple(stop), grammar, sampling)

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
        return [
            await self.generate(max_tokens=max_tokens, stop=stop, grammar=grammar, sampling=seeded)
            for seeded in seeds(sampling, count)
        ]

    async def score(self, continuations: Sequence[str]) -> list[float]:
        return list(await self._values(["score", *continuations], lambda inner: inner.score(continuations)))

    async def embed(self, *, pooling: Pooling = "mean") -> list[float]:
        return list(await self._values(["embed", pooling], lambda inner: inner.embed(pooling=pooling)))

    def release(self) -> None:
        self._released = True
        if self.inner is not None:
            self.inner.release()

    def check(self) -> None:
        if self._released:
            raise ContextError("this context is released; use it before release(), or keep a fork of it")

    async def _made(self, question: Sequence[Any], ask: Callable[[Context], Awaitable[Context]]) -> CassetteContext:
        self.check()
        return await self._engine.context(self.key, question, lambda: ask(self._asked()))

    async def _values(
        self, question: Sequence[Any], ask: Callable[[Context], Awaitable[Iterable[float]]]
    ) -> Iterable[float]:
        self.check()

        async def perform() -> Answer:
            return {"values": list(await ask(self._asked()))}

        _, answer = await self._engine.answer(self.key, question, perform)
        values: Iterable[float] = answer["values"]
        return values

    def _asked(self) -> Context:
        assert self.inner is not None, "only a recording asks"
        return self.inner


class CassetteStream:
    """A generation that is recorded as it comes, or given as it came."""

    def __init__(
        self,
        context: CassetteContext,
        max_tokens: int,
        stop: tuple[Stop, ...],
        grammar: Grammar | GrammarState | None,
        sampling: Sampling,
    ) -> None:
        self._context = context
        self._question = ["generate", max_tokens, list(stop), _grammar_key(grammar), plain(sampling)]
        self._grammar = grammar
        self._options: dict[str, Any] = {"max_tokens": max_tokens, "stop": stop, "sampling": sampling}
        self._chunks: AsyncGenerator[Chunk, None] | None = None
        self._result: Generation | None = None

    async def __aenter__(self) -> Self:
        self._chunks = self._asked() if self._context.inner is not None else self._found()
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._chunks is not None:
            await self._chunks.aclose()

    def __aiter__(self) -> AsyncGenerator[Chunk, None]:
        if self._chunks is None:
            raise EngineError("a stream is used as: async with context.stream() as stream: async for chunk in stream")
        return self._chunks

    @property
    def result(self) -> Generation:
        if self._result is None:
            raise EngineError("the generation has not ended: read its stream to the end before asking for the result")
        return self._result

    async def _asked(self) -> AsyncGenerator[Chunk, None]:
        """Ask the engine. A generation that is left early is not kept: it has no end to give again."""
        inner, context = self._context.inner, self._context
        assert inner is not None
        grammar = self._grammar.inner if isinstance(self._grammar, CassetteGrammar) else self._grammar
        said: list[tuple[str, int]] = []
        made: list[Generation] = []
        async with inner.stream(grammar=grammar, **self._options) as stream:
            chunks = aiter(stream)

            async def perform() -> Answer:
                made.append(stream.result)
                return _generation_answer(stream.result, said)

            try:
                async for chunk in chunks:
                    said.append((chunk.text, chunk.tokens))
                    yield chunk
            except PlaitError as error:
                await context.engine.answer(context.key, self._question, _raising(error))
            key, answer = await context.engine.answer(context.key, self._question, perform)
        self._finish(key, answer, made[0])

    async def _found(self) -> AsyncGenerator[Chunk, None]:
        key, answer = await self._context.engine.answer(self._context.key, self._question, _never)
        for text, tokens in answer["chunks"]:
            yield Chunk(text, tokens)
        self._finish(key, answer, None)

    def _finish(self, key: str, answer: Answer, made: Generation | None) -> None:
        context = CassetteContext(self._context.engine, key, answer["context"], made.context if made else None)
        grammar = None
        if answer["complete"] is not None:
            source = _grammar_key(self._grammar)
            inner = made.grammar if made else None
            grammar = CassetteGrammar(self._context.engine, [source, answer["said"]], inner, answer["complete"])
        self._result = Generation(
            text=answer["said"],
            context=context,
            finish=answer["finish"],
            usage=Usage(**answer["usage"]),
            stop=answer["stop"],
            grammar=grammar,
            tokens=tuple(answer["tokens"]),
            logprobs=tuple(
                TokenLogprobs(**{**entry, "best": tuple(Likely(**best) for best in entry["best"])})
                for entry in answer["logprobs"]
            ),
        )


class CassetteGrammar:
    """Where a generation stands in its grammar, known by what was said since it began."""

    def __init__(self, engine: CassetteEngine, key: list[Any], inner: GrammarState | None, complete: bool) -> None:
        self.key = key
        self.inner = inner
        self.complete = complete
        self._engine = engine

    def force(self, text: str) -> CassetteGrammar:
        return self._engine.force(self, text)


def context_answer(context: Context) -> Answer:
    return {"text": context.text, "length": context.length, "usage": plain(context.usage)}


def plain(value: Any) -> Any:
    """A value of the protocol as JSON has it, the same in every process."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _generation_answer(written: Generation, said: Sequence[tuple[str, int]]) -> Answer:
    return {
        "said": written.text,
        "chunks": list(said),
        "context": context_answer(written.context),
        "finish": written.finish,
        "stop": written.stop,
        "tokens": list(written.tokens),
        "usage": plain(written.usage),
        "logprobs": [plain(entry) for entry in written.logprobs],
        "complete": written.grammar.complete if written.grammar is not None else None,
    }


def _grammar_key(grammar: Grammar | GrammarState | None) -> Any:
    if isinstance(grammar, CassetteGrammar):
        return grammar.key
    return [type(grammar).__name__, plain(grammar)] if grammar is not None else None


def _raising(error: PlaitError) -> Callable[[], Awaitable[Answer]]:
    async def perform() -> Answer:
        raise error

    return perform


async def _never() -> Answer:
    raise EngineError("a replay asks nobody")

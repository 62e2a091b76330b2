"""Cassettes: what an engine answered, kept in a file, so that a test asks a real model once and never again.

A question is known by all that led to it: the chain of operations that made its context, and its own arguments. The
file holds the question as a hash, and the answer. A question asked again is answered in the order of the answers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any, Self, TextIO

import anyio

from .. import errors
from ..errors import (
    CapabilityError,
    CassetteError,
    ContextError,
    DataError,
    EngineError,
    PlaitError,
    TransientEngineError,
)
from ..usage import Usage
from .base import (
    GREEDY,
    Capabilities,
    Chunk,
    Context,
    Engine,
    Generation,
    Grammar,
    GrammarState,
    Likely,
    Member,
    Mode,
    Placement,
    Pooling,
    Prompt,
    Sampling,
    Stop,
    TeamStream,
    Teamwork,
    TokenLogprobs,
    seeds,
)

VERSION = 1
Answer = dict[str, Any]


class CassetteEngine:
    """An engine that records another, or that answers from what was recorded: `record` and `replay`.

    Teams are not recorded. An error that the engine raised is raised again.
    """

    def __init__(self, path: Path, name: str, capabilities: Capabilities, inner: Engine | None, tape: Tape) -> None:
        self._path = path
        self._name = name
        self._capabilities = capabilities
        self._tape = tape
        self.inner = inner

    @classmethod
    def record(cls, engine: Engine, path: str | Path) -> Self:
        """Ask `engine`, and write its answers to a new file. Closing this closes the engine."""
        capabilities = _without_teams(engine.capabilities)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        file = Path(path).open("w", encoding="utf-8", buffering=1)  # noqa: SIM115
        file.write(
            json.dumps({"cassette": VERSION, "engine": engine.name, "capabilities": _plain(capabilities)}) + "\n"
        )
        return cls(Path(path), engine.name, capabilities, engine, Tape(file, {}))

    @classmethod
    def replay(cls, path: str | Path) -> Self:
        """Answer from a file. Raises DataError if it can't be read."""
        try:
            lines = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
            if lines[0]["cassette"] != VERSION:
                raise DataError(f"cassette {path} is of version {lines[0]['cassette']}; this plait reads {VERSION}")
            values = lines[0]["capabilities"].items()
            listed: dict[str, Any] = {
                name: frozenset(value) if isinstance(value, list) else value for name, value in values
            }
            capabilities = replace(Capabilities(), **listed)
            answers: dict[str, list[Answer]] = {}
            for line in lines[1:]:
                answers.setdefault(line["question"], []).append(line["answer"])
            return cls(Path(path), lines[0]["engine"], capabilities, None, Tape(None, answers))
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise DataError(f"cassette {path} can't be read: {type(error).__name__} {error}; record it anew") from error

    @property
    def name(self) -> str:
        return self._name

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def start(self, prompt: Prompt, *, adapter: str = "") -> CassetteContext:
        inner = self.inner

        async def ask() -> Context:
            assert inner is not None
            return await inner.start(prompt, adapter=adapter)

        return await self.context("", ["start", _plain(prompt), adapter], ask)

    def stream_team(self, members: Sequence[Member], work: Teamwork) -> TeamStream:
        raise CapabilityError("teams are not recorded in cassettes; run them on the engine, or on a scripted one")

    async def team(self, members: Sequence[Member], work: Teamwork) -> list[Generation]:
        async with self.stream_team(members, work) as stream:
            return stream.results

    async def aclose(self) -> None:
        self._tape.close()
        if self.inner is not None:
            await self.inner.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    # ---- for contexts

    async def context(
        self, before: str, question: Sequence[Any], ask: Callable[[], Awaitable[Context]]
    ) -> CassetteContext:
        """The context that an operation makes."""
        made: list[Context] = []

        async def perform() -> Answer:
            made.append(await ask())
            return _context_answer(made[0])

        key, answer = await self.answer(before, question, perform)
        return CassetteContext(self, key, answer, made[0] if made else None)

    async def answer(
        self, before: str, question: Sequence[Any], perform: Callable[[], Awaitable[Answer]]
    ) -> tuple[str, Answer]:
        """The question's key, and its answer: asked and kept, or found. Raises what was raised."""
        key = _hash(before, question)
        if self.inner is None:
            await anyio.lowlevel.checkpoint()
            found = self._tape.find(key)
            if found is None:
                raise CassetteError(
                    f"cassette {self._path} holds no answer to '{question[0]}': what was asked before or its arguments "
                    "have changed since it was recorded; record it anew"
                )
            if "error" in found:
                raise _error_of(found)
            return key, found
        try:
            answer = await perform()
        except PlaitError as error:
            seconds = getattr(error, "retry_after", 0.0)
            self._tape.keep(key, {"error": type(error).__name__, "message": str(error), "retry_after": seconds})
            raise
        self._tape.keep(key, answer)
        return key, answer


@dataclass(slots=True)
class Tape:
    """Answers by question: written to a file as they come, or read from one."""

    file: TextIO | None
    answers: dict[str, list[Answer]]

    def keep(self, key: str, answer: Answer) -> None:
        if self.file is None or self.file.closed:
            raise CassetteError("this cassette is closed; keep its engine open until the last question")
        self.file.write(json.dumps({"question": key, "answer": answer}, ensure_ascii=False) + "\n")

    def find(self, key: str) -> Answer | None:
        """The next answer to a question; the last one serves for all that follow."""
        answers = self.answers.get(key)
        if not answers:
            return None
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


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
        return await self._made(["extend", _plain(prompt)], lambda inner: inner.extend(prompt))

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
        self._question = ["generate", max_tokens, list(stop), _grammar_key(grammar), _plain(sampling)]
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
            grammar = CassetteGrammar([source, answer["said"]], inner, answer["complete"])
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
    """A grammar's state, known by what was said since it began. `complete` is known where the engine told it."""

    def __init__(self, key: list[Any], inner: GrammarState | None, complete: bool) -> None:
        self.key = key
        self.inner = inner
        self.complete = complete

    def force(self, text: str) -> CassetteGrammar:
        inner = self.inner.force(text) if self.inner is not None else None
        return CassetteGrammar([*self.key, text], inner, inner.complete if inner is not None else self.complete)


def _without_teams(capabilities: Capabilities) -> Capabilities:
    return replace(capabilities, team=frozenset())


def _context_answer(context: Context) -> Answer:
    return {"text": context.text, "length": context.length, "usage": _plain(context.usage)}


def _generation_answer(written: Generation, said: Sequence[tuple[str, int]]) -> Answer:
    return {
        "said": written.text,
        "chunks": list(said),
        "context": _context_answer(written.context),
        "finish": written.finish,
        "stop": written.stop,
        "tokens": list(written.tokens),
        "usage": _plain(written.usage),
        "logprobs": [_plain(entry) for entry in written.logprobs],
        "complete": written.grammar.complete if written.grammar is not None else None,
    }


def _grammar_key(grammar: Grammar | GrammarState | None) -> Any:
    if isinstance(grammar, CassetteGrammar):
        return grammar.key
    return [type(grammar).__name__, _plain(grammar)] if grammar is not None else None


def _plain(value: Any) -> Any:
    """A value of the protocol as JSON has it, the same in every process."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _hash(before: str, question: Sequence[Any]) -> str:
    text = json.dumps([before, *question], ensure_ascii=False, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _error_of(answer: Answer) -> PlaitError:
    kind = getattr(errors, answer["error"], EngineError)
    error: PlaitError = kind(answer["message"]) if issubclass(kind, PlaitError) else EngineError(answer["message"])
    if isinstance(error, TransientEngineError):
        error.retry_after = answer.get("retry_after", 0.0)
    return error


def _raising(error: PlaitError) -> Callable[[], Awaitable[Answer]]:
    async def perform() -> Answer:
        raise error

    return perform


async def _never() -> Answer:
    raise EngineError("a replay asks nobody")

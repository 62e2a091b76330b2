"""The scripted engine: answers from a script instead of a model, for tests of graphs, drivers and recipes.

Same replies, same order, same counts each time, with latencies and failures where the script asks for them.
A token is a word or a punctuation mark with the white space before it; usage counts those.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from copy import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self, TypeAlias
from weakref import WeakSet

import anyio
import anyio.lowlevel

from ..errors import CapabilityError, ContextError, ContextLengthError, EngineClosedError, EngineError
from ..usage import Usage
from .base import (
    GREEDY,
    Capabilities,
    Chunk,
    Finish,
    Generation,
    GenerationStream,
    Grammar,
    GrammarState,
    Member,
    Mode,
    Placement,
    Pooling,
    Prompt,
    Sampling,
    Stop,
    TeamStream,
    Teamwork,
    seeds,
)
from .kinds import SCRIPTED
from .script import Reply, Rules, Script, ScriptedGrammar, follow, read_script, render_messages, tokenise

if TYPE_CHECKING:
    from pathlib import Path

    from .base import Context

Scorer: TypeAlias = Callable[[str, str], float]
"""`(context text, continuation) -> summed log-probability`."""
Embedder: TypeAlias = Callable[[str, Pooling], Sequence[float]]
"""`(context text, pooling) -> embedding`."""

ALL = SCRIPTED


@dataclass(frozen=True, slots=True)
class Asked:
    """One generation that was asked of the engine; `continued` says that it went on with a reply cut short before."""

    prompt: str
    reply: str
    max_tokens: int
    stop: tuple[Stop, ...]
    grammar: Grammar | GrammarState | None
    sampling: Sampling
    continued: bool


class ScriptedEngine:
    """Answers by `rules`: replies in order, a mapping from a piece of the prompt to replies, or a function.

    `Reply` says how it is slow, fails, and writes nonsense. A reply that does not fit its grammar is given as it is, so
    that malformed output can be tested; with `checks_grammar` it is a GrammarError.

    For tests: `asked` and `prompts` record what was asked, `calls` counts it, `active` and `peak_active` count
    generations in flight, `held` the contexts not yet released.
    """

    def __init__(
        self,
        rules: Rules,
        *,
        name: str = "scripted",
        capabilities: Capabilities = ALL,
        score: Scorer | None = None,
        embed: Embedder | None = None,
        checks_grammar: bool = False,
    ) -> None:
        self._script = Script(rules)
        self._scorer = score
        self._name = name
        self._embedder = embed
        self._capabilities = replace(
            capabilities, score=capabilities.score or bool(score), embed=capabilities.embed or bool(embed)
        )
        self._contexts: WeakSet[ScriptedContext] = WeakSet()
        self.checks_grammar = checks_grammar
        self.closed = False
        self.asked: list[Asked] = []
        self.active = 0
        self.peak_active = 0

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """A script in JSON: a list of replies, or a mapping from substrings of the prompt to replies.

        A reply is a text or `{"text": …, "latency": seconds, "error": message, "retry_after": seconds}`. Raises
        DataError.
        """
        return cls(read_script(path))

    @property
    def name(self) -> str:
        return self._name

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    @property
    def calls(self) -> int:
        return len(self.asked)

    @property
    def prompts(self) -> list[str]:
        """The text of the context that each generation began with, in order."""
        return [asked.prompt for asked in self.asked]

    @property
    def held(self) -> int:
        return sum(not context.released for context in self._contexts)

    async def start(self, prompt: Prompt, *, adapter: str = "") -> ScriptedContext:
        self._check_open()
        if adapter:
            raise CapabilityError(f"engine '{self._name}' takes no adapters ('{adapter}'); use engine 'local'")
        await anyio.lowlevel.checkpoint()
        return ScriptedContext(self, (), None, Usage())._append(prompt)

    def prefix(self, text: str, tokens: int) -> int:
        return len("".join(tokenise(text)[:tokens]))

    def stream_team(self, members: Sequence[Member], work: Teamwork) -> TeamStream:
        from .scripted_team import ScriptedTeam  # it is made of this module's streams

        self._check_open()
        return ScriptedTeam(self, members, work)

    async def team(self, members: Sequence[Member], work: Teamwork) -> list[Generation]:
        async with self.stream_team(members, work) as stream:
            async for _ in stream:
                pass
        return stream.results

    async def aclose(self) -> None:
        self.closed = True
        for context in list(self._contexts):
            context.release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def _check_open(self) -> None:
        if self.closed:
            raise EngineClosedError(f"engine '{self._name}' is closed")

    def _next_reply(self, prompt: str) -> Reply:
        return self._script.reply(prompt)

    def _score(self, text: str, continuation: str) -> float:
        if self._scorer is None:
            raise CapabilityError(f"engine '{self._name}' has no 'score'; pass score=… to ScriptedEngine")
        return self._scorer(text, continuation)

    def _embed(self, text: str, pooling: Pooling) -> list[float]:
        if self._embedder is None:
            raise CapabilityError(f"engine '{self._name}' has no 'embed'; pass embed=… to ScriptedEngine")
        return list(self._embedder(text, pooling))

    def check_integrity(self) -> None:
        """Nothing is in flight and no released context is counted."""
        if self.active:
            raise EngineError(f"engine '{self._name}' has {self.active} generations in flight")


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A run of tokens; contexts that share one came from the same fork."""

    tokens: tuple[str, ...]


class ScriptedContext:
    """Tokens in pieces, and what is left of a scripted reply that was cut short by a stop string or `max_tokens`."""

    def __init__(self, engine: ScriptedEngine, pieces: tuple[Piece, ...], rest: Reply | None, usage: Usage) -> None:
        self._engine = engine
        self.pieces = pieces
        self.rest = rest
        self.usage = usage
        self.released = False
        engine._contexts.add(self)

    @property
    def engine(self) -> ScriptedEngine:
        return self._engine

    @property
    def tokens(self) -> list[str]:
        self._check()
        return [token for piece in self.pieces for token in piece.tokens]

    @property
    def length(self) -> int:
        self._check()
        return sum(len(piece.tokens) for piece in self.pieces)

    @property
    def text(self) -> str:
        return "".join(self.tokens)

    async def extend(self, prompt: Prompt) -> ScriptedContext:
        self._check()
        await anyio.lowlevel.checkpoint()
        return self._append(prompt)

    def stream(
        self,
        *,
        max_tokens: int = 512,
        stop: Sequence[Stop] = (),
        grammar: Grammar | GrammarState | None = None,
        sampling: Sampling = GREEDY,
    ) -> GenerationStream:
        self._check()
        words = tuple(text for text in stop if isinstance(text, str))
        if len(words) < len(stop) or sampling.logprobs:
            raise CapabilityError(f"engine '{self._engine.name}' has no token ids or log-probabilities: stop at a text")
        return ScriptedStream(self, max_tokens, words, grammar, sampling)

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
        streams = [
            self.stream(max_tokens=max_tokens, stop=stop, grammar=grammar, sampling=seeded)
            for seeded in seeds(sampling, count)
        ]
        failures: list[Exception] = []

        async def read(stream: GenerationStream) -> None:
            try:
                async for _ in stream:
                    pass
            except Exception as error:
                failures.append(error)
                group.cancel_scope.cancel()

        async with AsyncExitStack() as stack:
            for stream in streams:  # they take their replies in this order
                await stack.enter_async_context(stream)
            async with anyio.create_task_group() as group:
                for stream in streams:
                    group.start_soon(read, stream)
            if failures:
                raise failures[0]
        return [stream.result for stream in streams]

    async def prune(self, start: int, stop: int, *, mode: Mode) -> ScriptedContext:
        self._check_mode("prune", self._engine.capabilities.prune, mode)
        if not 0 <= start <= stop <= self.length:
            raise ContextError(f"prune({start}, {stop}) does not fit a context of {self.length} tokens")
        await anyio.lowlevel.checkpoint()
        kept, position = [], 0
        for piece in self.pieces:
            end = position + len(piece.tokens)
            if end <= start or position >= stop:
                kept.append(piece)
            else:
                left = piece.tokens[: max(0, start - position)]
                right = piece.tokens[max(0, stop - position) :]
                kept += [Piece(tokens) for tokens in (left, right) if tokens]
            position = end
        cut, after = stop - start, position - stop
        usage = Usage(pruned=cut, live=-cut, peak_live=position, recomputed=after if mode == "exact" and cut else 0)
        return ScriptedContext(self._engine, tuple(kept), self.rest, usage)

    async def splice(self, others: Sequence[Context], *, at: Placement, mode: Mode) -> ScriptedContext:
        self._check_mode("splice", self._engine.capabilities.splice, mode)
        await anyio.lowlevel.checkpoint()
        pieces = list(self.pieces)
        for other in others:
            if not isinstance(other, ScriptedContext) or other._engine is not self._engine:
                raise ContextError(f"a context of another engine can't be spliced into one of '{self._engine.name}'")
            other._check()
            pieces += other.pieces[self._shared(other) :]
        usage = Usage(peak_live=sum(len(piece.tokens) for piece in pieces))
        return ScriptedContext(self._engine, tuple(pieces), self.rest, usage)

    async def recall(
        self, text: str, tokens: Sequence[int] = (), *, grammar: Grammar | GrammarState | None = None
    ) -> tuple[ScriptedContext, GrammarState | None]:
        """Takes the reply that the script has here, so that one which was cut short goes on."""
        self._check()
        await anyio.lowlevel.checkpoint()
        reply = self.rest
        with suppress(EngineError):  # a script need not have the replies of an earlier run
            reply = reply or self._engine._next_reply(self.text)
        rest = reply.text.removeprefix(text) if reply is not None and reply.text.startswith(text) else ""
        words = tokenise(text)
        length = self.length + len(words)
        usage = Usage(prompt=len(words), prefilled=len(words), live=len(words), peak_live=length)
        left = replace(reply, text=rest) if reply is not None and rest else None
        state = follow(grammar)
        longer = ScriptedContext(self._engine, (*self.pieces, Piece(words)), left, usage)
        return longer, state.force(text) if state is not None else None

    async def score(self, continuations: Sequence[str]) -> list[float]:
        text = self.text
        await anyio.lowlevel.checkpoint()
        return [self._engine._score(text, continuation) for continuation in continuations]

    async def embed(self, *, pooling: Pooling = "mean") -> list[float]:
        text = self.text
        await anyio.lowlevel.checkpoint()
        return self._engine._embed(text, pooling)

    def release(self) -> None:
        self.released = True

    def _append(self, prompt: Prompt) -> ScriptedContext:
        """Raw text leaves a cut reply to be continued; a further message opens a new turn and drops it."""
        text = prompt if isinstance(prompt, str) else render_messages(prompt)
        tokens = tokenise(text)
        length, window = self.length + len(tokens), self._engine.capabilities.window
        if window and length > window:
            raise ContextLengthError(f"{length} tokens do not fit the window of {window} of '{self._engine.name}'")
        usage = Usage(
            prompt=len(tokens), prefilled=len(tokens), live=len(tokens), peak_live=length, critical_path=len(tokens)
        )
        rest = self.rest if isinstance(prompt, str) else None
        return ScriptedContext(self._engine, (*self.pieces, Piece(tokens)), rest, usage)

    def _shared(self, other: ScriptedContext) -> int:
        count = 0
        for mine, theirs in zip(self.pieces, other.pieces, strict=False):
            if mine is not theirs:
                break
            count += 1
        return count

    def _check(self) -> None:
        self._engine._check_open()
        if self.released:
            raise ContextError("this context is released; use it before release(), or keep a fork of it")

    def _check_mode(self, what: str, offered: frozenset[Mode], mode: Mode) -> None:
        self._check()
        if mode not in offered:
            have = ", ".join(sorted(offered)) or "none"
            raise CapabilityError(f"engine '{self._engine.name}' can't {what} with mode '{mode}'; it offers: {have}")


class ScriptedStream:
    """A scripted generation under way, one token a chunk."""

    def __init__(
        self,
        context: ScriptedContext,
        max_tokens: int,
        stop: tuple[str, ...],
        grammar: Grammar | GrammarState | None,
        sampling: Sampling,
    ) -> None:
        self._context = context
        self._max_tokens = max_tokens
        self._stop = stop
        self._check_grammar(grammar)
        self._grammar = follow(grammar)
        self._sampling = sampling
        self._asked = grammar
        self._chunks: AsyncGenerator[Chunk, None] | None = None
        self._result: Generation | None = None

    def _check_grammar(self, grammar: Grammar | GrammarState | None) -> None:
        engine, offered = self._context.engine, self._context.engine.capabilities.grammars
        kind = type(grammar).__name__
        if isinstance(grammar, Grammar) and kind not in offered:
            have = ", ".join(sorted(offered)) or "none"
            raise CapabilityError(f"engine '{engine.name}' has no grammar '{kind}'; it offers: {have}")

    async def __aenter__(self) -> Self:
        engine, rest, prompt = self._context.engine, self._context.rest, self._context.text
        self._reply = rest or engine._next_reply(prompt)
        engine.asked.append(
            Asked(prompt, self._reply.text, self._max_tokens, self._stop, self._asked, self._sampling, rest is not None)
        )
        engine.active += 1
        engine.peak_active = max(engine.peak_active, engine.active)
        self._chunks = self._speak()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._context.engine.active -= 1
        if self._chunks is not None:
            await self._chunks.aclose()

    def __aiter__(self) -> AsyncIterator[Chunk]:
        if self._chunks is None:
            raise EngineError("a stream is used as: async with context.stream() as stream: async for chunk in stream")
        return self._chunks

    @property
    def result(self) -> Generation:
        if self._result is None:
            raise EngineError("the generation has not ended: read its stream to the end before asking for the result")
        return self._result

    async def _speak(self) -> AsyncGenerator[Chunk, None]:
        began = time.perf_counter()
        text, finish, stop = self._cut()
        tokens = tokenise(text)
        pace = self._reply.latency / max(1, len(tokenise(self._reply.text)))
        if not tokens:
            await anyio.sleep(self._reply.latency)
        for token in tokens:
            await anyio.sleep(pace)
            self._context._check()
            yield Chunk(token)
        rest = self._reply.text[len(text) :]
        if self._reply.error is not None and not rest:
            raise copy(self._reply.error)  # an error object belongs to the one who raises it
        self._finish(text, tokens, finish, stop, rest, time.perf_counter() - began)

    def _cut(self) -> tuple[str, Finish, str | None]:
        """What this call may say of the reply, why it ends there, and at which stop string."""
        tokens = tokenise(self._reply.text)
        window = self._context.engine.capabilities.window
        room = max(0, window - self._context.length) if window else len(tokens)
        text = "".join(tokens[: min(self._max_tokens, room)])
        found = [(text.find(stop) + len(stop), -len(stop), stop) for stop in self._stop if stop and stop in text]
        if found:
            end, _, stop = min(found)
            return text[:end], "stop", stop
        if len(text) == len(self._reply.text):
            return text, "eos", None
        return text, "window" if room < self._max_tokens else "length", None

    def _finish(
        self, text: str, tokens: tuple[str, ...], finish: Finish, stop: str | None, rest: str, seconds: float
    ) -> None:
        context, count = self._context, len(tokens)
        grammar = self._grammar.force(text) if self._grammar is not None else None
        if grammar is not None and finish == "eos":
            if context.engine.checks_grammar:
                grammar.check()
            finish = "grammar" if grammar.complete else "eos"
        usage = Usage(
            generated=count,
            live=count,
            peak_live=context.length + count,
            steps=count,
            critical_path=count,
            seconds=seconds,
        )
        share = len(rest) / max(1, len(self._reply.text))
        left = replace(self._reply, text=rest, latency=self._reply.latency * share) if rest else None
        longer = ScriptedContext(context.engine, (*context.pieces, Piece(tokens)), left, usage)
        self._result = Generation(text, longer, finish, usage, stop, grammar)


__all__ = ["Asked", "Reply", "ScriptedContext", "ScriptedEngine", "ScriptedGrammar", "ScriptedStream", "tokenise"]

"""A generation on a server that was sent all of its context: what comes of the server's parts (see `resent`)."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from ..errors import AnswerError, CapabilityError, ContextError, EngineError, InputError
from ..usage import Usage
from .base import Choice, Chunk, Finish, Generation, Grammar, GrammarState, JsonSchema, Sampling, Stop
from .port import Chance, Completion, End, Part
from .served import ServedGrammar, follow_served

if TYPE_CHECKING:
    from .resent import ResentEngine
    from .resent_context import ResentContext


@dataclass(frozen=True, slots=True)
class Ask:
    """What a generation was asked for; checked when it begins."""

    max_tokens: int
    stop: tuple[Stop, ...]
    grammar: ServedGrammar | None
    sampling: Sampling

    @classmethod
    def of(
        cls,
        engine: ResentEngine,
        max_tokens: int,
        stop: Sequence[Stop],
        grammar: Grammar | GrammarState | None,
        sampling: Sampling,
    ) -> Ask:
        """Raises InputError, and CapabilityError for a grammar that the server does not have or can't go on with."""
        if max_tokens < 0 or "" in stop:
            raise InputError(
                f"max_tokens {max_tokens} or a stop string of {''!r} can't be used: give 0 tokens or more, "
                "and strings that aren't empty"
            )
        state = follow_served(grammar)
        if state is not None and state.text:
            raise CapabilityError(
                f"engine '{engine.name}' can't go on within a grammar: its server begins one with each request; "
                "generate to the grammar's end at once, or use engine 'local'"
            )
        kind = type(state.grammar).__name__ if state is not None else ""
        if kind and kind not in engine.capabilities.grammars:
            have = ", ".join(sorted(engine.capabilities.grammars)) or "none"
            raise CapabilityError(f"engine '{engine.name}' has no grammar '{kind}'; it offers: {have}")
        return cls(max_tokens, tuple(stop), state, sampling)


class Written:
    """What a server has said so far, cut at the first stop string."""

    def __init__(self, stops: Sequence[Stop]) -> None:
        self.text = ""
        self.tokens: list[int] = []
        self.chances: list[Chance] = []
        self.stop: str | None = None
        self.settled = 0
        """Tokens whose text is all in `settled_text`: those before the last part."""
        self.settled_text = ""
        self._stops = [text for text in stops if isinstance(text, str)]

    def add(self, part: Part) -> str:
        """Take a part; what it adds to the text. The stop string that ends first counts (of two, the longer)."""
        known = len(self.text)
        self.settled, self.settled_text = len(self.tokens), self.text
        self.tokens += part.tokens
        self.chances += part.chances
        self.text += part.text
        found = []
        for stop in self._stops:
            start = self.text.find(stop, max(0, known - len(stop) + 1))
            if start >= 0:
                found.append((start + len(stop), start, stop))
        if found:
            end, _, self.stop = min(found)
            self.text = self.text[:end]
        return self.text[known:]


class ResentStream:
    """A generation under way; see engines.base.GenerationStream."""

    def __init__(self, context: ResentContext, ask: Ask) -> None:
        self._context = context
        self._ask = ask
        self._chunks: AsyncGenerator[Chunk, None] | None = None
        self._result: Generation | None = None
        self._known = context.known
        """Tokens that the server had encoded before it was asked."""

    async def __aenter__(self) -> Self:
        engine, context = self._context.engine, self._context
        await engine.connect()
        if not context.length:
            raise ContextError("can't generate from an empty context: start with a prompt")
        self._chunks = self._speak(context.tokens, Written(self._ask.stop))
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._chunks is not None:
            await self._chunks.aclose()

    def __aiter__(self) -> AsyncIterator[Chunk]:
        if self._chunks is None:
            raise EngineError("stream is not open: use it as `async with context.stream(...) as s`")
        return self._chunks

    @property
    def result(self) -> Generation:
        if self._result is None:
            raise EngineError("generation has not ended: read its stream to the end first")
        return self._result

    async def _speak(self, tokens: tuple[int, ...], written: Written) -> AsyncGenerator[Chunk, None]:
        engine, ask, began = self._context.engine, self._ask, time.monotonic()
        window = engine.capabilities.window
        room = max(0, window - len(tokens)) if window else ask.max_tokens
        end = End("length", 0, 0)
        if min(room, ask.max_tokens):
            asked = Completion(
                tokens=tokens,
                max_tokens=min(room, ask.max_tokens),
                stop=ask.stop,
                grammar=ask.grammar.grammar if ask.grammar is not None else None,
                sampling=ask.sampling,
                adapter=self._context.adapter,
            )
            async with aclosing(self._answered(asked, written)) as answer:
                async for got in answer:
                    if isinstance(got, End):
                        end = got
                    else:
                        yield got
        self._result = await self._finished(tokens, written, end, room, time.monotonic() - began)

    async def _answered(self, asked: Completion, written: Written) -> AsyncGenerator[Chunk | End, None]:
        """The server's answer as chunks, and its end. Raises EngineClosedError if the engine was closed meanwhile."""
        engine, context = self._context.engine, self._context
        self._known = known = context.claim()
        try:
            async with aclosing(engine.port.complete(asked)) as answer:
                async for part in answer:
                    if isinstance(part, End):
                        yield part
                        return
                    if written.stop is not None:  # the server has not seen it, and says not yet what it counted
                        yield End("stop", len(asked.tokens), 0, written.stop)
                        return
                    yield Chunk(written.add(part), len(part.tokens))
        except EngineError:
            context.known = known
            engine.check_open()
            raise
        raise AnswerError(f"the answer of the server of '{engine.name}' has no end; try again")

    async def _finished(
        self, before: tuple[int, ...], written: Written, end: End, room: int, seconds: float
    ) -> Generation:
        engine, context, ask = self._context.engine, self._context, self._ask
        kept = await self._kept(before, written)
        state = ask.grammar.force(written.text) if ask.grammar is not None else None
        finish, stop = self._why(written, end, room, state)
        if state is not None and finish == "grammar":
            state.check(f"engine '{engine.name}'")
        usage = self._usage(len(before), written.tokens, kept, end, seconds)
        return Generation(
            text=written.text,
            context=context.generated(kept, written.text, usage, encoded=usage.generated - 1),
            finish=finish,
            usage=usage,
            stop=stop,
            grammar=state,
            tokens=kept,
            logprobs=await engine.logprobs(written.chances),
        )

    async def _kept(self, before: tuple[int, ...], written: Written) -> tuple[int, ...]:
        """The tokens of the text: all, or, if the last go beyond a stop string, others in their place."""
        tokens = tuple(written.tokens)
        if written.stop is None:
            return tokens
        engine, settled = self._context.engine, written.settled
        wanted, reached = written.text[len(written.settled_text) :], ""
        for count in range(settled, len(tokens)):
            longer = await engine.text_of(tokens[settled : count + 1], (*before, *tokens[:settled]))
            if len(longer) > len(wanted):
                instead = await engine.encode_more(wanted[len(reached) :])
                return (*tokens[:count], *instead)
            if longer == wanted:
                return tokens[: count + 1]
            reached = longer
        return tokens

    def _why(self, written: Written, end: End, room: int, state: ServedGrammar | None) -> tuple[Finish, Stop | None]:
        if written.stop is not None:
            return "stop", written.stop
        if end.reason == "stop":
            return "stop", end.stop
        if state is not None and (end.reason == "eos" or _ended(state)):
            return "grammar", None
        if end.reason == "eos":
            return "eos", None
        return "window" if room < self._ask.max_tokens else "length", None

    def _usage(self, held: int, sampled: Sequence[int], kept: Sequence[int], end: End, seconds: float) -> Usage:
        """What was sent is `cached`, `prefilled` or, if the server had encoded it before, `recomputed`."""
        whole = sum(1 for mine, theirs in zip(sampled, kept, strict=False) if mine == theirs)
        dropped, forced = len(sampled) - whole, len(kept) - whole
        encoded = max(0, end.prompt - end.cached)
        prefilled = min(encoded, max(0, end.prompt - self._known))
        generated = len(sampled)
        return Usage(
            prompt=forced,
            generated=generated,
            prefilled=prefilled,
            cached=end.prompt - encoded,
            recomputed=encoded - prefilled + end.reread,
            pruned=dropped,
            live=generated + forced - dropped,
            peak_live=held + generated + max(forced - dropped, 0),
            steps=generated,
            critical_path=generated + forced,
            seconds=seconds,
        )


def _ended(state: ServedGrammar) -> bool:
    """Whether the text is complete and can't go on, as far as its end shows."""
    match state.grammar:
        case JsonSchema():
            return state.text[-1:] in ("}", "]", '"') and state.complete
        case Choice(options):
            return [option for option in options if option.startswith(state.text)] == [state.text]
        case _:
            return False

"""Requests of the openai engine: one is sent for one answer, as a stream, or for several."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from ..errors import AnswerError, EngineError, FilteredError, ServerFaultError, ServerLostError
from ..usage import Usage
from .base import Chunk, Finish, Generation
from .openai_wire import CUT, ENDED, Asked, Take, shares
from .remote import Counts, Server
from .served import ServedGrammar
from .turns import ToolCall, read_calls

if TYPE_CHECKING:
    from .openai_context import OpenAIContext


@dataclass(frozen=True, slots=True)
class ChatGeneration(Generation):
    """A generation, with what a model thought beside its answer where the server shows it (`reasoning_content`)."""

    reasoning: str = ""

    @property
    def calls(self) -> list[ToolCall]:
        """The tool calls that it asks for; they stand in the text too."""
        return read_calls(self.text)


class OpenAIStream:
    """A generation under way. Leaving it early closes the connection, by which the server knows to stop."""

    def __init__(self, context: OpenAIContext, asked: Asked) -> None:
        self._request = Request(context, asked, 1)
        self._chunks: AsyncGenerator[Chunk, None] | None = None
        self._result: Generation | None = None

    async def __aenter__(self) -> Self:
        self._chunks = self._read()
        return self

    async def __aexit__(self, *exc: object) -> None:
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

    async def _read(self) -> AsyncGenerator[Chunk, None]:
        chunks = self._request.read()
        try:
            async for _, chunk in chunks:
                yield chunk
        finally:
            await chunks.aclose()
        (self._result,) = self._request.results()


class Request:
    """One request for one or several answers to a context, as it is read."""

    def __init__(self, context: OpenAIContext, asked: Asked, count: int) -> None:
        self._context = context
        self._asked = asked
        self._takes = [Take(asked) for _ in range(count)]
        self._counts: Counts | None = None
        self._server: Server | None = None
        self._began = time.perf_counter()
        self._events = 0

    async def read(self) -> AsyncGenerator[tuple[int, Chunk], None]:
        """The parts of the answers as they come, each with its answer's index."""
        engine, context = self._context.engine, self._context
        engine.check_open()
        self._began = time.perf_counter()
        self._server = server = engine.replicas.choose(context.affinity)
        body = engine.body(context.held, self._asked, len(self._takes))
        events = engine.events(server, engine.path(context.held), body)
        try:
            async for event in events:
                self._events += 1
                for index, chunk in self._take_in(event, server):
                    yield index, chunk
                if all(take.stop for take in self._takes):
                    break
        finally:
            await events.aclose()

    async def read_all(self) -> list[Generation]:
        """All answers that the server gives; fewer than asked for where it knows no `n`."""
        chunks = self.read()
        try:
            async for _ in chunks:
                pass
        finally:
            await chunks.aclose()
        self._takes = [take for take in self._takes if take.ended] or self._takes[:1]
        return self.results()

    def results(self) -> list[Generation]:
        """The generations. Raises the error of an answer that has not ended well."""
        for take in self._takes:
            self._check(take)
        counts = self._final_counts()
        sampled = shares(counts.generated, [take.pieces for take in self._takes])
        hidden = shares(counts.reasoning, [take.thoughts for take in self._takes])
        seconds = time.perf_counter() - self._began
        generations: list[Generation] = []
        for index, take in enumerate(self._takes):
            first = index == 0
            own = Counts(
                prompt=counts.prompt,
                cached=counts.cached if first else counts.prompt,
                generated=sampled[index],
                reasoning=hidden[index],
                cost=counts.cost if first else 0.0,
            )
            usage = self._context.count(own, seconds)
            usage = usage if first else replace(usage, cached=0)  # the prompt was sent once
            generations.append(self._generation(take, own, usage))
        return generations

    def _take_in(self, event: Any, server: Server) -> list[tuple[int, Chunk]]:
        """The new parts in an event. Raises AnswerError for one that is not of the protocol."""
        fault: Exception
        try:
            usage = event.get("usage") or (event.get("x_groq") or {}).get("usage")
            if usage:
                self._counts = Counts.read(usage)
            return [part for choice in event.get("choices") or () if (part := self._feed(choice)) is not None]
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            fault = error
        raise AnswerError(server.said("gave an answer that is not of the protocol", f"{type(fault).__name__}: {fault}"))

    def _feed(self, choice: Mapping[str, Any]) -> tuple[int, Chunk] | None:
        index = int(choice.get("index") or 0)
        take = self._takes[index]
        before = take.pieces
        text = take.feed(choice)
        pieces = take.pieces - before
        return (index, Chunk(text, pieces)) if text or pieces else None

    def _check(self, take: Take) -> None:
        """Raise the error of an answer that broke off, was withheld, or does not fit its grammar."""
        server = self._server
        assert server is not None
        if take.refusal:
            raise FilteredError(server.said("answered with a refusal", take.refusal))
        if take.finish == "content_filter":
            raise FilteredError(server.said("cut its answer by a content filter"))
        if not self._events:
            raise AnswerError(server.said("gave an answer without a single event; check the address"))
        if not take.ended:
            self._context.engine.replicas.lose(server)
            raise ServerLostError(server.said("broke off its answer: the stream ended before its end"))
        if not take.stop and take.finish not in ENDED | CUT:
            raise ServerFaultError(server.said(f"broke off its answer: it finished with '{take.finish}'"))
        state = self._asked.grammar
        if state is not None and take.finish in ENDED and not take.called:
            state.force(take.text).check(f"engine '{self._context.engine.name}'")

    def _final_counts(self) -> Counts:
        """What the server has counted; where it was cut short before it said, an estimate."""
        thoughts = sum(take.thoughts for take in self._takes)
        counts = self._counts or Counts(generated=sum(take.pieces for take in self._takes))
        if not counts.prompt:
            counts = replace(counts, prompt=self._context.length)
        return counts if counts.reasoning else replace(counts, reasoning=min(thoughts, counts.generated))

    def _generation(self, take: Take, counts: Counts, usage: Usage) -> ChatGeneration:
        state = self._asked.grammar
        state = state.force(take.text) if state is not None else None
        return ChatGeneration(
            text=take.text,
            context=self._context.after(take.text, counts, usage),
            finish=self._finish(take, counts, state),
            usage=usage,
            stop=take.stop or None,
            grammar=state,
            logprobs=tuple(take.logprobs),
            reasoning=take.reasoning,
        )

    def _finish(self, take: Take, counts: Counts, state: ServedGrammar | None) -> Finish:
        if take.stop:
            return "stop"
        if take.finish in CUT:
            cut = len(self._takes) == 1 and self._counts is not None and counts.generated < self._asked.max_tokens
            return "window" if cut else "length"
        return "grammar" if state is not None and state.complete else "eos"

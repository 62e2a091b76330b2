"""The contexts of the openai engine: conversations, or raw text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import anyio
import anyio.lowlevel

from ..errors import (
    CapabilityError,
    ContextError,
    RequestError,
)
from ..usage import Usage
from .base import (
    GREEDY,
    Generation,
    GenerationStream,
    Grammar,
    GrammarState,
    Mode,
    Placement,
    Pooling,
    Prompt,
    Sampling,
    Stop,
    seeds,
)
from .openai_request import OpenAIStream, Request
from .openai_wire import Asked, stop_texts
from .remote import Counts
from .served import follow_served
from .together import side_by_side
from .turns import Turns

if TYPE_CHECKING:
    from .base import Context
    from .openai import OpenAIEngine

Held: TypeAlias = Turns | str
"""What a context holds: a conversation, or raw text."""


class OpenAIContext:
    """A conversation, or raw text. Nothing is sent before something is generated, and then all of it.

    `length` is what the server has counted, and an estimate (a token for four bytes) for what it has not seen yet.
    """

    def __init__(
        self, engine: OpenAIEngine, held: Held, *, affinity: str, counted: int = 0, pending: int = 0, usage: Usage
    ) -> None:
        self._engine = engine
        self._counted = counted
        self._pending = pending
        self._released = False
        self.held = held
        self.affinity = affinity
        self.usage = usage

    @property
    def engine(self) -> OpenAIEngine:
        return self._engine

    @property
    def length(self) -> int:
        self._check()
        return self._counted + self._pending

    @property
    def text(self) -> str:
        self._check()
        return self.held if isinstance(self.held, str) else self.held.text

    async def extend(self, prompt: Prompt) -> OpenAIContext:
        """Text goes on within the assistant's turn (or the raw text); messages are further turns."""
        self._check()
        await anyio.lowlevel.checkpoint()
        if isinstance(prompt, str):
            return self._with(self._said(prompt), prompt)
        if isinstance(self.held, str):
            raise CapabilityError(
                f"a context of '{self._engine.name}' that was begun with raw text can't take messages, because the "
                "server keeps its chat template to itself; begin it with messages"
            )
        return self._with(self.held.add(prompt), "".join(message.content for message in prompt))

    def stream(
        self,
        *,
        max_tokens: int = 512,
        stop: Sequence[Stop] = (),
        grammar: Grammar | GrammarState | None = None,
        sampling: Sampling = GREEDY,
    ) -> GenerationStream:
        self._check()
        return OpenAIStream(self, self._asked(max_tokens, stop, grammar, sampling))

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
        """One request for all, where the server takes `n`; it then draws them all from the one seed. Else one each."""
        self._check()
        seeded = seeds(sampling, count)
        made = await self._together(count, self._asked(max_tokens, stop, grammar, sampling)) if count > 1 else []
        rest = await side_by_side(
            [
                partial(self.generate, max_tokens=max_tokens, stop=stop, grammar=grammar, sampling=one)
                for one in seeded[len(made) :]
            ]
        )
        self._engine.takes_n = self._engine.takes_n and (count == 1 or len(made) == count)
        return [*made, *rest]

    async def prune(self, start: int, stop: int, *, mode: Mode) -> OpenAIContext:
        raise self._unable("prune")

    async def splice(self, others: Sequence[Context], *, at: Placement, mode: Mode) -> OpenAIContext:
        raise self._unable("splice")

    async def score(self, continuations: Sequence[str]) -> list[float]:
        raise self._unable("score")

    async def embed(self, *, pooling: Pooling = "mean") -> list[float]:
        raise self._unable("embed")

    async def recall(
        self, text: str, tokens: Sequence[int] = (), *, grammar: Grammar | GrammarState | None = None
    ) -> tuple[OpenAIContext, GrammarState | None]:
        """From the text: servers of this protocol show no token ids."""
        state = follow_served(grammar)
        return await self.extend(text), state.force(text) if state is not None else None

    def release(self) -> None:
        self._released = True

    # ---- parts

    def count(self, counts: Counts, seconds: float) -> Usage:
        """Note what the server has counted of this context, so that nothing is given twice."""
        usage = counts.usage(self._counted, seconds=seconds)
        self._counted, self._pending = counts.prompt, 0
        return usage

    def after(self, text: str, counts: Counts, usage: Usage) -> OpenAIContext:
        """The context that holds what was generated too."""
        return OpenAIContext(
            self._engine,
            self._said(text),
            affinity=self.affinity,
            counted=counts.prompt + counts.generated - counts.reasoning,
            usage=usage,
        )

    def _with(self, held: Held, added: str) -> OpenAIContext:
        length = self._pending + estimate(added)
        return OpenAIContext(
            self._engine, held, affinity=self.affinity, counted=self._counted, pending=length, usage=Usage()
        )

    def _said(self, text: str) -> Held:
        return self.held + text if isinstance(self.held, str) else self.held.say(text)

    def _asked(
        self, max_tokens: int, stop: Sequence[Stop], grammar: Grammar | GrammarState | None, sampling: Sampling
    ) -> Asked:
        asked = Asked(max_tokens, stop_texts(stop, self._engine.name), follow_served(grammar), sampling)
        self._engine.body(self.held, asked, 1)  # refuses what it can't ask
        return asked

    async def _together(self, count: int, asked: Asked) -> list[Generation]:
        """So many answers of one request; fewer, or none, where the server lacks `n`."""
        if not self._engine.takes_n:
            return []
        try:
            return await Request(self, asked, count).read_all()
        except RequestError as error:
            if type(error) is not RequestError:
                raise
            return []  # if it was not for `n`, it is refused again

    def _unable(self, what: str) -> CapabilityError:
        self._check()
        return CapabilityError(
            f"engine '{self._engine.name}' can't {what}: OpenAI's protocol shows no token ids; use engine 'local', or "
            "'vllm' or 'sglang' for a server of theirs"
        )

    def _check(self) -> None:
        self._engine.check_open()
        if self._released:
            raise ContextError("this context is released; use it before release(), or keep a fork of it")


def estimate(text: str) -> int:
    """About how many tokens a text has."""
    return -(-len(text.encode()) // 4)

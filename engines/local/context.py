"""Contexts of the local engine: immutable handles on what the pool holds (DESIGN.md §5)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from ...errors import ContextError, EngineError
from ...usage import Usage
from ..base import (
    GREEDY,
    Chunk,
    Context,
    Generation,
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
from ..lineage import Lineage
from .grammar import LocalGrammarState

if TYPE_CHECKING:
    from ..conversation import Conversation
    from .adapter import Adapter
    from .engine import LocalEngine
    from .generation import Generation as GenerationWork
    from .holding import Holding
    from .work import Lease


@dataclass(frozen=True, slots=True)
class Ask:
    """What a generation was asked for."""

    max_tokens: int
    stop: tuple[Stop, ...]
    grammar: Grammar | GrammarState | None
    sampling: Sampling


class LocalContext:
    """A view in the engine's pool. Forking is using it twice; both then read the same pages."""

    __slots__ = (
        "__weakref__",
        "_conversation",
        "_engine",
        "_lease",
        "_released",
        "_usage",
        "length",
        "lineage",
        "position",
    )

    def __init__(
        self,
        engine: LocalEngine,
        lease: Lease,
        usage: Usage,
        conversation: Conversation | None,
        *,
        parent: LocalContext | None = None,
        shared: int = 0,
    ) -> None:
        """`parent` is what it was made from, and holds the same first `shared` tokens."""
        self._engine = engine
        self._lease = lease
        self._usage = usage
        self._conversation = conversation
        self._released = False
        self.length = lease.holding.length
        self.position = lease.holding.next
        """The position of the next token: the length, but for tokens that stand side by side."""
        self.lineage: Lineage = Lineage(self.length, parent.lineage if parent is not None else None, shared)
        """What it has in common with which other contexts."""

    def __repr__(self) -> str:
        return f"<context of {self.length} tokens in {self._engine.name}{', released' if self._released else ''}>"

    @property
    def engine(self) -> LocalEngine:
        return self._engine

    @property
    def usage(self) -> Usage:
        return self._usage

    @property
    def conversation(self) -> Conversation | None:
        """The messages rendered into it, if it began with messages."""
        return self._conversation

    @property
    def holding(self) -> Holding:
        """What it holds. Raises ContextError after its release."""
        if self._released:
            raise ContextError(f"context of {self.length} tokens was released; keep it until its last use")
        return self._lease.holding

    @property
    def adapter(self) -> Adapter | None:
        """What its tokens are encoded with, beside the model's own weights."""
        return self.holding.adapter

    @property
    def tokens(self) -> list[int]:
        """Token ids, in view order."""
        return self.holding.tokens

    @property
    def text(self) -> str:
        return self._engine.tokenizer.text(self.tokens)

    def followed_by(self, lease: Lease, usage: Usage, conversation: Conversation | None) -> LocalContext:
        """The context that holds more than this one."""
        return LocalContext(self._engine, lease, usage, conversation, parent=self, shared=self.length)

    async def extend(self, prompt: Prompt) -> LocalContext:
        return await self._engine.extend(self, prompt)

    def stream(
        self,
        *,
        max_tokens: int = 512,
        stop: Sequence[Stop] = (),
        grammar: Grammar | GrammarState | None = None,
        sampling: Sampling = GREEDY,
    ) -> LocalStream:
        return LocalStream(self, Ask(max_tokens, tuple(stop), grammar, sampling))

    async def generate(
        self,
        *,
        max_tokens: int = 512,
        stop: Sequence[Stop] = (),
        grammar: Grammar | GrammarState | None = None,
        sampling: Sampling = GREEDY,
    ) -> Generation:
        work = await self._engine.generation(self, Ask(max_tokens, tuple(stop), grammar, sampling), streams=False)
        await self._engine.perform(self, work)
        return finished(self, work)

    async def samples(
        self,
        count: int,
        *,
        max_tokens: int = 512,
        stop: Sequence[Stop] = (),
        grammar: Grammar | GrammarState | None = None,
        sampling: Sampling = GREEDY,
    ) -> list[Generation]:
        asks = [Ask(max_tokens, tuple(stop), grammar, seeded) for seeded in seeds(sampling, count)]
        works = [await self._engine.generation(self, ask, streams=False) for ask in asks]
        await self._engine.perform(self, *works)
        return [finished(self, work) for work in works]

    async def prune(self, start: int, stop: int, *, mode: Mode) -> LocalContext:
        return await self._engine.prune(self, start, stop, mode)

    async def splice(self, others: Sequence[Context], *, at: Placement, mode: Mode) -> LocalContext:
        return await self._engine.splice(self, others, at, mode)

    async def score(self, continuations: Sequence[str]) -> list[float]:
        return await self._engine.score(self, continuations)

    async def embed(self, *, pooling: Pooling = "mean") -> list[float]:
        return await self._engine.embed(self, pooling)

    async def recall(
        self, text: str, tokens: Sequence[int] = (), *, grammar: Grammar | GrammarState | None = None
    ) -> tuple[LocalContext, GrammarState | None]:
        return await self._engine.recall(self, text, tokens, grammar)

    def release(self) -> None:
        self._released = True
        self._lease.release()


def check_adapters(contexts: Sequence[LocalContext]) -> None:
    """Raise ContextError if they differ: keys and values of one adapter mean nothing to another."""
    found = {context.holding.salt: context.adapter for context in contexts}
    if len(found) > 1:
        names = ", ".join(f"'{adapter.directory.name}'" if adapter else "none" for adapter in found.values())
        raise ContextError(f"contexts with different adapters can't see each other ({names}): start all with the same")


class LocalStream:
    """A generation under way; see engines.base.GenerationStream."""

    def __init__(self, context: LocalContext, ask: Ask) -> None:
        self._context = context
        self._ask = ask
        self._work: GenerationWork | None = None
        self._result: Generation | None = None

    async def __aenter__(self) -> Self:
        engine = self._context.engine
        self._work = await engine.generation(self._context, self._ask, streams=True)
        engine.begin(self._context, self._work)
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._work is not None and self._result is None:
            self._context.engine.cancel(self._work)
        self._work = None

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        if self._work is None:
            raise EngineError("stream is not open: use it as `async with context.stream(...) as s`")
        chunk = await self._work.mailbox.take()
        if chunk is not None:
            return chunk
        if self._result is None:
            self._result = finished(self._context, self._work)
        raise StopAsyncIteration

    @property
    def result(self) -> Generation:
        if self._result is None:
            raise EngineError("generation has not ended: read its stream to the end first")
        return self._result


def finished(context: LocalContext, work: GenerationWork) -> Generation:
    """What a finished work has given."""
    engine = context.engine
    assert work.finish is not None
    return Generation(
        text=work.text,
        context=context.followed_by(work.take_lease(), work.usage, context.conversation),
        finish=work.finish,
        usage=work.usage,
        stop=work.stop,
        grammar=LocalGrammarState(work.matcher, engine.tokenizer) if work.matcher is not None else None,
        tokens=work.kept,
        logprobs=tuple(work.logprobs),
    )

"""Contexts of token ids, sent to a server whenever it is to generate after them (see `resent`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ..errors import CapabilityError, ContextError
from ..usage import Usage
from .base import (
    GREEDY,
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
from .lineage import Lineage
from .resent_stream import Ask, ResentStream
from .served import follow_served
from .together import side_by_side

if TYPE_CHECKING:
    from .conversation import Conversation
    from .resent import ResentEngine


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens, and the text that they add: characters whose last token is in another piece are that piece's."""

    tokens: tuple[int, ...]
    text: str


class ResentContext:
    """Tokens in pieces. Forking is using it twice. `known` of its first tokens have been encoded by the server, in this
    context or in one that it comes of; whether they are still in the server's cache is the server's affair."""

    def __init__(
        self,
        engine: ResentEngine,
        pieces: tuple[Piece, ...],
        usage: Usage,
        *,
        conversation: Conversation | None = None,
        adapter: str = "",
        known: int = 0,
        parent: ResentContext | None = None,
        shared: int = 0,
    ) -> None:
        """`parent` is what it was made from, and holds the same first `shared` tokens."""
        self._engine = engine
        self._pieces = pieces
        self._released = False
        self.usage = usage
        self.conversation = conversation
        self.adapter = adapter
        self.known = known
        self.length = sum(len(piece.tokens) for piece in pieces)
        self.lineage: Lineage = Lineage(self.length, parent.lineage if parent is not None else None, shared)

    def __repr__(self) -> str:
        return f"<context of {self.length} tokens in {self._engine.name}{', released' if self._released else ''}>"

    @property
    def engine(self) -> ResentEngine:
        return self._engine

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """What it holds. Raises ContextError after its release, and EngineClosedError after the engine's end."""
        self._engine.check_open()
        if self._released:
            raise ContextError(f"context of {self.length} tokens was released; keep it until its last use")
        return self._pieces

    @property
    def tokens(self) -> tuple[int, ...]:
        return tuple(token for piece in self.pieces for token in piece.tokens)

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    async def extend(self, prompt: Prompt) -> ResentContext:
        await self._engine.connect()
        return await self._engine.extend(self, prompt)

    def stream(
        self,
        *,
        max_tokens: int = 512,
        stop: Sequence[Stop] = (),
        grammar: Grammar | GrammarState | None = None,
        sampling: Sampling = GREEDY,
    ) -> ResentStream:
        return ResentStream(self, Ask.of(self._engine, max_tokens, stop, grammar, sampling))

    async def generate(
        self,
        *,
        max_tokens: int = 512,
        stop: Sequence[Stop] = (),
        grammar: Grammar | GrammarState | None = None,
        sampling: Sampling = GREEDY,
    ) -> Generation:
        return await self._generated(Ask.of(self._engine, max_tokens, stop, grammar, sampling))

    async def samples(
        self,
        count: int,
        *,
        max_tokens: int = 512,
        stop: Sequence[Stop] = (),
        grammar: Grammar | GrammarState | None = None,
        sampling: Sampling = GREEDY,
    ) -> list[Generation]:
        asks = [Ask.of(self._engine, max_tokens, stop, grammar, seeded) for seeded in seeds(sampling, count)]
        return await side_by_side([partial(self._generated, ask) for ask in asks])

    async def prune(self, start: int, stop: int, *, mode: Mode) -> ResentContext:
        self._check_mode("prune", self._engine.capabilities.prune, mode)
        if not 0 <= start <= stop <= self.length:
            raise ContextError(
                f"prune({start}, {stop}) does not fit a context of {self.length} tokens: "
                "give 0 <= start <= stop <= length"
            )
        before, after = await self._cut(start), await self._cut(stop)
        begin, end = _characters(before[0]), _characters(after[0])
        conversation = self.conversation.without(begin, end) if self.conversation is not None else None
        known = min(self.known, start) + max(0, self.known - stop)
        usage = Usage(pruned=stop - start, live=start - stop, peak_live=self.length)
        return self._made(before[0] + after[1], usage, conversation=conversation, known=known, shared=start)

    async def splice(self, others: Sequence[Context], *, at: Placement, mode: Mode) -> ResentContext:
        self._check_mode("splice", self._engine.capabilities.splice, mode)
        if at != "sequence" and len(others) > 1:
            raise CapabilityError(
                f"engine '{self._engine.name}' can't splice at '{at}': a prompt's tokens stand one after the other; "
                "splice at 'sequence', or use engine 'local'"
            )
        own, known = list[Piece](), self.known
        length = self.length
        for other in others:
            checked = self._checked(other)
            common = self.lineage.common(checked.lineage)
            own += (await checked._cut(common))[1]
            known += max(0, checked.known - common) if known == length else 0
            length += checked.length - common
        self._engine.check_length(length)
        added = length - self.length
        usage = Usage(prompt=added, live=added, peak_live=length)
        return self._made((*self.pieces, *own), usage, conversation=self.conversation, known=known)

    async def score(self, continuations: Sequence[str]) -> list[float]:
        engine, tokens = self._engine, self.tokens
        if not tokens:
            raise ContextError("can't score after an empty context: start with a prompt")
        if not engine.capabilities.score:
            raise CapabilityError(f"engine '{engine.name}' has no 'score'; use engine 'local'")
        await engine.connect()

        async def score(continuation: str) -> float:
            more = await engine.encode_more(continuation) if continuation else ()
            engine.check_length(len(tokens) + len(more))
            return await engine.port.score(tokens + more, len(tokens), adapter=self.adapter) if more else 0.0

        return await side_by_side([partial(score, continuation) for continuation in continuations])

    async def embed(self, *, pooling: Pooling = "mean") -> list[float]:
        raise CapabilityError(f"engine '{self._engine.name}' has no 'embed'; use engine 'local'")

    async def recall(
        self, text: str, tokens: Sequence[int] = (), *, grammar: Grammar | GrammarState | None = None
    ) -> tuple[ResentContext, GrammarState | None]:
        await self._engine.connect()
        ids = tuple(tokens) or await self._engine.encode_more(text)
        state = follow_served(grammar)
        longer = self.longer(Piece(ids, text), conversation=self.conversation)
        return longer, state.force(text) if state is not None else None

    def release(self) -> None:
        self._released = True

    # ---- for the engine and for streams

    def longer(self, piece: Piece, *, conversation: Conversation | None = None) -> ResentContext:
        """With a piece that the caller gives. Raises ContextLengthError."""
        count = len(piece.tokens)
        self._engine.check_length(self.length + count)
        usage = Usage(prompt=count, live=count, peak_live=self.length + count, critical_path=count)
        return self._made((*self.pieces, piece), usage, conversation=conversation, known=self.known)

    def generated(self, tokens: tuple[int, ...], text: str, usage: Usage, *, encoded: int) -> ResentContext:
        """With what was generated, of which the server has encoded the first tokens."""
        known = self.known + max(0, min(encoded, len(tokens))) if self.known == self.length else self.known
        return self._made((*self._pieces, Piece(tokens, text)), usage, conversation=self.conversation, known=known)

    def claim(self) -> int:
        """All of it is being encoded, by whoever calls first; how many tokens had been before."""
        known, self.known = self.known, self.length
        return known

    # ---- helpers

    async def _generated(self, ask: Ask) -> Generation:
        async with ResentStream(self, ask) as stream:
            async for _ in stream:
                pass
        return stream.result

    def _made(
        self,
        pieces: tuple[Piece, ...],
        usage: Usage,
        *,
        conversation: Conversation | None,
        known: int,
        shared: int = -1,
    ) -> ResentContext:
        """What comes of it; they have the first `shared` tokens in common, or all of its own."""
        return ResentContext(
            self._engine,
            pieces,
            usage,
            conversation=conversation,
            adapter=self.adapter,
            known=known,
            parent=self,
            shared=self.length if shared < 0 else shared,
        )

    def _checked(self, other: Context) -> ResentContext:
        """Another context, if it can be spliced in. Raises ContextError."""
        name = self._engine.name
        if not isinstance(other, ResentContext) or other.engine is not self._engine:
            raise ContextError(f"a context of another engine can't be spliced into one of '{name}': start it there")
        if other.adapter != self.adapter:
            raise ContextError(
                f"contexts with different adapters can't see each other ('{self.adapter}' and '{other.adapter}'): "
                "start all with the same"
            )
        return other

    async def _cut(self, index: int) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
        """The pieces before and after a token. Only within a piece the server has to be asked for the text."""
        position = 0
        for number, piece in enumerate(self.pieces):
            inside = index - position
            if inside <= 0:
                return self._pieces[:number], self._pieces[number:]
            if inside < len(piece.tokens):
                left, right = await self._halves(number, inside)
                return (*self._pieces[:number], left), (right, *self._pieces[number + 1 :])
            position += len(piece.tokens)
        return self._pieces, ()

    async def _halves(self, number: int, inside: int) -> tuple[Piece, Piece]:
        piece = self._pieces[number]
        before = tuple(token for other in self._pieces[:number] for token in other.tokens)
        shown = await self._engine.text_of(piece.tokens[:inside], before)
        characters = _alike(shown, piece.text)
        return (
            Piece(piece.tokens[:inside], piece.text[:characters]),
            Piece(piece.tokens[inside:], piece.text[characters:]),
        )

    def _check_mode(self, what: str, offered: frozenset[Mode], mode: Mode) -> None:
        if mode not in offered:
            have = ", ".join(sorted(offered)) or "none"
            raise CapabilityError(
                f"engine '{self._engine.name}' can't {what} with mode '{mode}'; it offers: {have}, since its server "
                "keeps the K/V to itself; engine 'local' can"
            )


def _characters(pieces: Sequence[Piece]) -> int:
    return sum(len(piece.text) for piece in pieces)


def _alike(text: str, other: str) -> int:
    """How many characters they begin with alike."""
    pairs = enumerate(zip(text, other, strict=False))
    return next((index for index, (mine, theirs) in pairs if mine != theirs), min(len(text), len(other)))

"""A generation in a scope: the engine's stream with its text reported, its tokens counted and its place given back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ..engines.base import Chunk, Generation, GenerationStream
from ..errors import BudgetError, EngineError
from ..usage import Usage

if TYPE_CHECKING:
    from .budget import Reservation
    from .limits import Pass
    from .scope import Scope


class ScopeStream:
    """Used like a GenerationStream. A generation left early is charged for what it has said."""

    def __init__(
        self, opened: Callable[[int], GenerationStream], max_tokens: int, scope: Scope, place: Pass, *, grown: bool
    ) -> None:
        """`opened` gives the generation of so many tokens at most."""
        self._opened = opened
        self._max_tokens = max_tokens
        self._inner: GenerationStream | None = None
        self._scope = scope
        self._place = place
        self._grown = grown
        self._chunks: AsyncIterator[Chunk] | None = None
        self._said = 0
        self._ended = False
        self._reservation: Reservation | None = None

    async def __aenter__(self) -> Self:
        try:
            self._reservation = await self._scope.reserve_tokens(self._max_tokens)
            await self._place.__aenter__()
            inner = self._opened(self._allowed)
            await inner.__aenter__()
            self._inner = inner
        except BaseException as error:
            self._settle()
            if self._grown:
                self._scope.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._open.__aexit__(kind, error, trace)
        finally:
            if not self._ended:
                self._scope.spend(Usage(generated=self._said, steps=self._said, critical_path=self._said))
            self._settle()
            if self._grown:
                self._scope.__exit__(kind, error, trace)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        if self._chunks is None:
            self._chunks = aiter(self._open)
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            self._end()
            raise
        self._said += chunk.tokens
        self._scope.text(chunk.text, chunk.tokens)
        return chunk

    @property
    def result(self) -> Generation:
        """The finished generation; raises EngineError before the stream has ended."""
        return self._open.result

    @property
    def _open(self) -> GenerationStream:
        if self._inner is None:
            raise EngineError("a stream is used as: async with scope.stream(context) as s: async for chunk in s")
        return self._inner

    @property
    def _allowed(self) -> int:
        return self._max_tokens if self._reservation is None else self._reservation.tokens

    def _settle(self) -> None:
        self._place.release()
        if self._reservation is not None:
            self._reservation.settle()

    def _end(self) -> None:
        """The place is given back as soon as the last token is there, whatever the block does then. Raises BudgetError
        where the budget has cut the generation."""
        self._place.release()
        if self._ended:
            return
        self._ended = True
        written, allowed = self._open.result, self._allowed
        self._scope.keep(written.context, written.usage)
        self._settle()
        if written.finish == "length" and allowed < self._max_tokens:
            raise BudgetError(f"a budget has cut a generation at {allowed} of {self._max_tokens} tokens; raise it")
        if self._grown:
            self._scope.finish(written.text)

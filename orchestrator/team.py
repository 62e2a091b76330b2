"""A team in a scope: the engine's stream, each member a node of its own, with its text reported and tokens counted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ..engines.base import Generation, TeamChunk, TeamStream
from ..usage import Usage

if TYPE_CHECKING:
    from .budget import Reservation
    from .limits import Pass
    from .scope import Scope


class ScopeTeam:
    """Used like a TeamStream. A team is one operation for the limits; left early, each member is charged for what it
    has said."""

    def __init__(self, inner: TeamStream, team: Scope, members: Sequence[Scope], max_tokens: int, place: Pass) -> None:
        self._inner = inner
        self._team = team
        self._members = members
        self._max_tokens = max_tokens
        self._place = place
        self._chunks: AsyncIterator[TeamChunk] | None = None
        self._said = [0] * len(members)
        self._ended = False
        self._reservation: Reservation | None = None

    async def __aenter__(self) -> Self:
        try:
            self._reservation = await self._team.reserve_tokens(self._max_tokens, whole=True)
            await self._place.__aenter__()
            await self._inner.__aenter__()
        except BaseException as error:
            self._settle()
            self._team.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._inner.__aexit__(kind, error, trace)
        finally:
            if not self._ended:
                self._charge()
            self._settle()
            self._team.__exit__(kind, error, trace)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TeamChunk:
        if self._chunks is None:
            self._chunks = aiter(self._inner)
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            self._end()
            raise
        self._said[chunk.member] += chunk.tokens
        self._members[chunk.member].text(chunk.text, chunk.tokens)
        return chunk

    @property
    def results(self) -> list[Generation]:
        """The finished generations, in the members' order; raises EngineError before the team has ended."""
        return self._inner.results

    def _settle(self) -> None:
        self._place.release()
        if self._reservation is not None:
            self._reservation.settle()

    def _charge(self) -> None:
        for member, said in zip(self._members, self._said, strict=True):
            member.spend(Usage(generated=said, steps=said, critical_path=said))

    def _end(self) -> None:
        """The place is given back as soon as the last token is there, whatever the block does then."""
        self._place.release()
        if self._ended:
            return
        self._ended = True
        for member, written in zip(self._members, self._inner.results, strict=True):
            member.keep(written.context, written.usage)
            member.finish(written.text)
        self._settle()

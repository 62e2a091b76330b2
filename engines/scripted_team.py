"""Scripted teams: members' replies side by side, one token each a step, in the members' order."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import anyio

from ..errors import EngineError
from .base import Chunk, Generation, Member, TeamChunk, Teamwork
from .script import tokenise
from .scripted import Piece, ScriptedContext, ScriptedStream
from .teamwork import StepRule, check_team

if TYPE_CHECKING:
    from .scripted import ScriptedEngine


class ScriptedTeam:
    """A team at work; see engines.base.TeamStream. Step headers and checks are inserted as forced text.

    A result's context holds the member's own, then what the others said in the members' order, then what it said.
    """

    def __init__(self, engine: ScriptedEngine, members: Sequence[Member], work: Teamwork) -> None:
        check_team(engine, members, work)
        self._engine = engine
        self._rule = StepRule(members, work)
        self._voices = [_Voice(index, member) for index, member in enumerate(members)]
        self._open = AsyncExitStack()
        self._chunks: AsyncGenerator[TeamChunk, None] | None = None
        self._results: list[Generation] = []

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            for voice in self._voices:
                await opening.enter_async_context(voice.stream)
            self._open = opening.pop_all()
        self._chunks = self._speak()
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._chunks is not None:
            await self._chunks.aclose()
        await self._open.aclose()

    def __aiter__(self) -> AsyncIterator[TeamChunk]:
        if self._chunks is None:
            raise EngineError(
                "a team is used as: async with engine.stream_team(…) as stream: async for chunk in stream"
            )
        return self._chunks

    @property
    def results(self) -> list[Generation]:
        if not self._results:
            raise EngineError("the team has not ended: read its stream to the end before asking for the results")
        return self._results

    async def _speak(self) -> AsyncGenerator[TeamChunk, None]:
        step = 0
        while any(not voice.ended for voice in self._voices):
            speaking = [voice for voice in self._voices if not voice.ended and voice.joins <= step]
            async with anyio.create_task_group() as group:
                for voice in speaking:
                    group.start_soon(voice.listen)
            for voice in speaking:
                if voice.failure is not None:
                    raise voice.failure
                for part in self._said(voice):
                    voice.text += part.text
                    yield part
            step += 1
        pieces = [Piece(tokenise(voice.text)) for voice in self._voices]
        self._results = [voice.result(self._engine, pieces) for voice in self._voices]

    def _said(self, voice: _Voice) -> list[TeamChunk]:
        """What came of one step: the token, and what it calls for. The first is preceded by the first step's header."""
        if voice.heard is None:
            return []
        opening = voice.forced(self._rule.header(voice.index)) if not voice.text else TeamChunk(voice.index, "", 0)
        return [part for part in (opening, *self._with_step_end(voice, voice.heard.text)) if part.text]

    def _with_step_end(self, voice: _Voice, token: str) -> list[TeamChunk]:
        self._rule.count(1)
        end = self._rule.end(voice.text + token, len(voice.text))
        if end < 0:
            return [TeamChunk(voice.index, token)]
        cut = end - len(voice.text)
        following = voice.forced(self._rule.follow(voice.index))
        return [TeamChunk(voice.index, token[:cut]), following, TeamChunk(voice.index, token[cut:], 0)]


class _Voice:
    """One member, its scripted reply under way."""

    def __init__(self, index: int, member: Member) -> None:
        assert isinstance(member.context, ScriptedContext), "checked before"
        stops = tuple(stop for stop in member.stop if isinstance(stop, str))
        self.index = index
        self.joins = member.joins
        self.context = member.context
        self.stream = ScriptedStream(self.context, member.max_tokens, stops, member.grammar, member.sampling)
        self.ended = False
        self.heard: Chunk | None = None
        self.failure: Exception | None = None
        self.text = ""
        self._forced = 0

    async def listen(self) -> None:
        """Take the next token."""
        try:
            self.heard = await anext(aiter(self.stream), None)
        except Exception as error:
            self.failure = error
        self.ended = self.heard is None

    def forced(self, text: str) -> TeamChunk:
        self._forced += len(tokenise(text))
        return TeamChunk(self.index, text, 0)

    def result(self, engine: ScriptedEngine, pieces: Sequence[Piece]) -> Generation:
        alone, given = self.stream.result, self._forced
        alone.context.release()
        others = [piece for index, piece in enumerate(pieces) if index != self.index]
        usage = replace(
            alone.usage,
            prompt=given,
            prefilled=given,
            live=alone.usage.generated + given,
            peak_live=alone.usage.peak_live + given,
            critical_path=alone.usage.generated + given,
        )
        rest = alone.context.rest if isinstance(alone.context, ScriptedContext) else None
        held = (*self.context.pieces, *others, pieces[self.index])
        return replace(alone, text=self.text, context=ScriptedContext(engine, held, rest, usage), usage=usage)

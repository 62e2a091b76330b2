"""Teams of a journaled run: answered from the record, and run again where their contexts are needed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self, TypeAlias

import anyio

from ..engines.base import Context, Engine, Generation, Member, TeamChunk, TeamStream, Teamwork
from ..errors import PlaitError, ReplayError
from ..usage import Usage
from .recorded import Charge, Made, Origin, RecordedGrammar, Said


@dataclass(slots=True)
class TeamSaid:
    """What a team has said: its members' texts, the order of its chunks as (member, letters, tokens), and the `texts`
    of the contexts that it left, in which others' may stand."""

    members: list[Said] = field(default_factory=list)
    usages: list[dict[str, Any]] = field(default_factory=list)
    order: list[tuple[int, int, int]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, text: str) -> TeamSaid:
        data = json.loads(text)
        members = [Said.from_data(said) for said in data["members"]]
        order = [(member, size, count) for member, size, count in data["order"]]
        return cls(members, data["usages"], order, data["texts"])

    def write(self) -> str:
        return json.dumps(asdict(self))

    @property
    def chunks(self) -> list[TeamChunk]:
        said = [0] * len(self.members)
        found = []
        for member, size, count in self.order:
            start, said[member] = said[member], said[member] + size
            found.append(TeamChunk(member, self.members[member].text[start : said[member]], count))
        return found


class TeamAgain:
    """A team with its contexts made, and all that it takes to have it run once more."""

    def __init__(self, engine: Engine, members: Sequence[Member], origins: Sequence[Origin], work: Teamwork) -> None:
        self.engine = engine
        self.texts: list[str] = []
        self._members = members
        self._origins = origins
        self._work = work
        self._lock = anyio.Lock()
        self._results: list[Generation] = []

    async def stream(self, charge: Charge) -> TeamStream:
        members = []
        for member, origin in zip(self._members, self._origins, strict=True):
            grammar = member.grammar
            if isinstance(grammar, RecordedGrammar):
                grammar = await grammar.real(charge)
            members.append(replace(member, context=await origin.real(charge), grammar=grammar))
        return self.engine.stream_team(members, self._work)

    def origin(self, place: int, name: str) -> Origin:
        """Where a member's context comes from: the whole team."""

        async def make(below: Context | None, charge: Charge) -> Made:
            result = (await self._again(charge))[place]
            if result.text != self.texts[place]:
                raise ReplayError(
                    f"member {place} of a team said otherwise when the team ran again, so its context can't be made: "
                    "the engine does not give the same twice; fork the run at the team"
                )
            return result.context, result.grammar

        return Origin(name, None, make)

    async def _again(self, charge: Charge) -> list[Generation]:
        async with self._lock:
            if not self._results:
                async with await self.stream(charge) as stream:
                    async for _ in stream:
                        pass
                self._results = stream.results
                charge(Usage(recomputed=sum(result.usage.generated for result in self._results)))
            return self._results


Keep: TypeAlias = Callable[[TeamSaid | PlaitError, Sequence[Generation]], list[Generation]]


class LiveTeam:
    """A team at work in the engine, recorded when it ends."""

    def __init__(self, team: TeamAgain, charge: Charge, keep: Keep) -> None:
        self._team = team
        self._charge = charge
        self._keep = keep
        self._said = TeamSaid()
        self._inner: TeamStream | None = None
        self._chunks: AsyncIterator[TeamChunk] | None = None
        self._results: list[Generation] = []

    async def __aenter__(self) -> Self:
        try:
            self._inner = await self._team.stream(self._charge)
            await self._inner.__aenter__()
        except PlaitError as error:
            self._keep(error, [])
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._inner is not None:
            await self._inner.__aexit__(*exc)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TeamChunk:
        assert self._inner is not None
        if self._chunks is None:
            self._chunks = aiter(self._inner)
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            if not self._results:
                self._end(self._inner.results)
            raise
        except PlaitError as error:
            self._keep(error, [])
            raise
        self._said.order.append((chunk.member, len(chunk.text), chunk.tokens))
        return chunk

    @property
    def results(self) -> list[Generation]:
        if not self._results:
            assert self._inner is not None
            return self._inner.results
        return self._results

    def _end(self, written: Sequence[Generation]) -> None:
        for generation in written:
            said = Said("", [], [])
            said.take(generation)
            self._said.members.append(said)
        self._said.texts = [generation.context.text for generation in written]
        self._said.usages = [generation.usage.as_dict() for generation in written]
        self._team.texts = [generation.text for generation in written]
        self._results = self._keep(self._said, written)


class RecordedTeam:
    """A team that the journal answers."""

    def __init__(self, said: TeamSaid, results: list[Generation], failure: PlaitError | None = None) -> None:
        self._chunks = iter(said.chunks)
        self._failure = failure
        self.results = results

    async def __aenter__(self) -> Self:
        if self._failure is not None:
            raise self._failure
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TeamChunk:
        for chunk in self._chunks:
            return chunk
        await anyio.lowlevel.checkpoint()
        raise StopAsyncIteration

"""A team as it is asked for, and what comes of it: the work, its mailbox and its stream (DESIGN.md §4, §5)."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from ...errors import ContextError, ContextLengthError, EngineError
from ..base import Chunk, Generation, Member, TeamChunk, Teamwork
from ..teamwork import StepRule, check_team
from .context import Ask, LocalContext, check_adapters, finished
from .mailbox import Mailbox
from .work import Settling, Work

if TYPE_CHECKING:
    from .engine import LocalEngine
    from .generation import Generation as GenerationWork
    from .team import Event

LATE_STEP = 99_999
"""A step whose header is as long as any will be."""


@dataclass(frozen=True, slots=True)
class Part:
    """A member's part in a team: what it generates, after which tokens, from which pass on; and how many tokens of its
    context are those of the first member's, because both come of one context."""

    generation: GenerationWork
    name: str
    opening: tuple[int, ...]
    joins: int
    shared: int


class Teaming(Work):
    """The work of a whole team. The step loop's thread owns it until its mailbox is closed."""

    def __init__(
        self,
        asked: Teamwork,
        rule: StepRule,
        parts: Sequence[Part],
        headers: Sequence[Sequence[int]],
        encode: Callable[[str], tuple[int, ...]],
        *,
        window: int,
        growth: int,
        mailbox: TeamMailbox,
    ) -> None:
        """`headers` are the tokens of the three in view order; `growth` bounds what a pass adds to a view."""
        super().__init__((), mailbox)
        self.asked = asked
        self.rule = rule
        self.parts = tuple(parts)
        self.heading = Settling([token for header in headers for token in header])
        self.header_lengths = tuple(len(header) for header in headers)
        self.encode = encode
        self.window = window
        self.growth = growth
        self.common = 0
        """Tokens of the longest common prefix of the members' contexts, which the headers see."""
        self.events: list[Event] = []
        """How its passes went: enough to say of each token what it saw, and where."""


class TeamMailbox(Mailbox):
    """Takes the chunks of all members, in the order in which they come."""

    def __init__(self, schedule: Callable[[Callable[[], None]], object]) -> None:
        super().__init__(schedule)
        self._speakers: deque[int] = deque()

    def put_from(self, member: int, chunk: Chunk) -> None:
        self._speakers.append(member)
        self.put(chunk)

    async def take_team(self) -> TeamChunk | None:
        """The next chunk and whose it is; None at the end. Raises what the mailbox was closed with."""
        chunk = await self.take()
        return None if chunk is None else TeamChunk(self._speakers.popleft(), chunk.text, chunk.tokens)


class MemberMailbox(Mailbox):
    """A member's way to put chunks in its team's mailbox."""

    def __init__(self, team: TeamMailbox, member: int) -> None:
        super().__init__()
        self._team = team
        self._member = member

    def put(self, chunk: Chunk) -> None:
        if chunk.text or chunk.tokens:
            self._team.put_from(self._member, chunk)


class LocalTeam:
    """A team at work; see engines.base.TeamStream. `work` is the team's while it goes on, and after it."""

    def __init__(self, engine: LocalEngine, members: Sequence[Member], asked: Teamwork) -> None:
        check_team(engine, members, asked)
        self._engine = engine
        self._members = tuple(members)
        self._asked = asked
        self._contexts = [_local(member) for member in members]
        check_adapters(self._contexts)
        self._results: list[Generation] = []
        self.work: Teaming | None = None

    async def __aenter__(self) -> Self:
        holdings = [context.holding for context in self._contexts]
        self.work = await self._prepared(StepRule(self._members, self._asked))
        self._engine.begin_team(holdings, self.work)
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self.work is not None and not self._results:
            self._engine.cancel(self.work)

    def __aiter__(self) -> AsyncIterator[TeamChunk]:
        return self

    async def __anext__(self) -> TeamChunk:
        if self.work is None:
            raise EngineError("a team is not open: use it as `async with engine.stream_team(...) as s`")
        mailbox = self.work.mailbox
        assert isinstance(mailbox, TeamMailbox)
        chunk = await mailbox.take_team()
        if chunk is not None:
            return chunk
        if not self._results:
            self._results = self._finished(self.work)
        raise StopAsyncIteration

    @property
    def results(self) -> list[Generation]:
        if not self._results:
            raise EngineError("the team has not ended: read its stream to the end first")
        return self._results

    async def _prepared(self, rule: StepRule) -> Teaming:
        asked, encode, mailbox = self._asked, self._engine.encode_more, TeamMailbox.here()
        parts, first = [], self._contexts[0].lineage
        for index, (member, context) in enumerate(zip(self._members, self._contexts, strict=True)):
            ask = Ask(member.max_tokens, tuple(member.stop), member.grammar, member.sampling)
            generation = await self._engine.generation(context, ask, streams=True)
            generation.mailbox = MemberMailbox(mailbox, index)
            parts.append(
                Part(generation, member.name, encode(rule.header(index)), member.joins, context.lineage.common(first))
            )
        forced = [self._longest(member) for member in self._members]
        alone = asked.layout == "tokenwise" or (asked.layout == "interleaved" and not asked.step_end)
        self._check_slots(parts)
        return Teaming(
            asked,
            rule,
            parts,
            [encode(header) for header in _headers(asked)],
            encode,
            window=self._engine.capabilities.window,
            growth=max(forced) + 1 if alone else sum(forced) + len(forced),
            mailbox=mailbox,
        )

    def _longest(self, member: Member) -> int:
        """Tokens that a member may be given at once, at most."""
        header = self._asked.step_header.replace("{step}", str(LATE_STEP)).replace("{name}", member.name)
        return len(self._engine.encode_more(header + self._asked.check))

    def _check_slots(self, parts: Sequence[Part]) -> None:
        """Law 8: what can be known before a token is spent."""
        slot = self._asked.slot
        if self._asked.layout != "tokenwise":
            return
        for index, (member, part) in enumerate(zip(self._members, parts, strict=True)):
            if member.max_tokens + len(part.opening) > slot:
                raise ContextLengthError(
                    f"member {index} {member.name!r} may write {member.max_tokens + len(part.opening)} tokens, but its "
                    f"slot has {slot} positions; give a larger slot, or a smaller max_tokens"
                )
        end = max(context.position for context in self._contexts) + slot * len(parts)
        window = self._engine.capabilities.window
        if end > window:
            raise ContextLengthError(
                f"{len(parts)} slots of {slot} positions end at {end}, beyond the window of {window} of "
                f"'{self._engine.name}'; give smaller slots, or fewer members"
            )

    def _finished(self, work: Teaming) -> list[Generation]:
        """What came of the members; the headers are on the first one's bill."""
        first = work.parts[0].generation
        count = len(work.heading.tokens)
        first.usage = replace(
            first.usage,
            prompt=first.usage.prompt + count,
            prefilled=first.usage.prefilled + count,
            recomputed=first.usage.recomputed + work.heading.usage.recomputed,
            live=first.usage.live + count,
            peak_live=first.usage.peak_live + count,
            critical_path=first.usage.critical_path + count,
        )
        return [finished(context, part.generation) for context, part in zip(self._contexts, work.parts, strict=True)]


def _headers(asked: Teamwork) -> tuple[str, str, str]:
    """The headers before the parts that the layout's views have: the past, the others' steps, the own one."""
    past = asked.past_header if asked.layout != "contiguous" else ""
    others = asked.others_header if asked.layout != "interleaved" else ""
    return past, others, asked.own_header


def _local(member: Member) -> LocalContext:
    if not isinstance(member.context, LocalContext):
        raise ContextError("a context of another engine can't join a team")
    return member.context

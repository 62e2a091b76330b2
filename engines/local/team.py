"""Teams: threads that see each other's tails while they generate (DESIGN.md §4, team layouts)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, TypeAlias

from ...errors import ContextLengthError
from .member import HeadingThread, MemberThread
from .segment import Segment
from .thread import Share, Thread
from .view import Span, View

if TYPE_CHECKING:
    from .cache import PrefixCache
    from .holding import Holding
    from .pages import PagePool
    from .teaming import Teaming


@dataclass(frozen=True, slots=True)
class Passed:
    """One forward pass of a team: how many tokens each member encoded in it."""

    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Moved:
    """A member's step went to the common history."""

    member: int


Event: TypeAlias = Passed | Moved


class Team:
    """Members and what they share. For the scheduler it is one thread: it runs, waits and gives way as a whole.

    First what is pending of the members' contexts is encoded, then the headers, once, after the longest common prefix
    of the contexts; then the members' own tokens, in passes that are never cut: which token is encoded in which pass
    has a part in what is seen. `events` say how the passes went. A team that gave way encodes them again as they were.
    """

    def __init__(self, pool: PagePool, holdings: Sequence[Holding], work: Teaming, arrival: int) -> None:
        self.pool = pool
        self.work = work
        self.arrival = arrival
        self.events = work.events
        self.looks = True
        parts = zip(holdings, work.parts, strict=True)
        self.members = tuple(MemberThread(self, i, holding, part, arrival) for i, (holding, part) in enumerate(parts))
        self._headers = HeadingThread(self, holdings[0], work, arrival)
        self._history: list[Segment] = []
        self._entering: list[MemberThread] = []
        self.owed = 0
        """Pages that its members are about to take: none may have in reserve what another must have."""
        self._replayed = 0
        self._clock = 0
        self._headed = False

    # ---- what the scheduler asks of any thread

    @property
    def unit(self) -> Team:
        return self

    @property
    def threads(self) -> tuple[MemberThread, ...]:
        return self.members

    @property
    def holdings(self) -> tuple[Holding, ...]:
        return tuple(member.holding for member in self.members)

    @property
    def pages(self) -> list[int]:
        return [page for thread in (*self.members, self._headers) for page in thread.pages]

    @property
    def reads(self) -> list[int]:
        """The pages that its members read."""
        return [page for member in self.members for page in member.view.pages()]

    @property
    def found(self) -> int:
        return sum(member.found for member in self.members)

    @property
    def description(self) -> str:
        tokens = sum(holding.length for holding in dict.fromkeys(self.holdings)) + self._own_tokens
        return f"a team of {len(self.members)} members and {tokens} tokens"

    @property
    def pages_at_least(self) -> int:
        """Pages that it can't do without, whatever else gives way."""
        longest = max(self.pool.pages_for(holding.length) for holding in self.holdings)
        return longest + sum(self.pool.pages_for(len(member.own) - member.lead) for member in self.members)

    @property
    def pages_to_enter(self) -> int:
        """Pages to take before it can run; what it did before it gave way is encoded again."""
        again = sum(self.pool.pages_for(len(member.own) - member.lead) for member in self.members)
        turned_away = len(self._entering) - 1  # of members that share a last page only one may go on in it
        return again + turned_away + sum(member.pages_to_enter for member in self._entering)

    @property
    def todo(self) -> int:
        if not self._all_ready:
            return sum(member.todo for member in self.members if member.entered and not member.ready)
        return sum(self._counts()) if self._headed else self._headers.todo

    @property
    def divisible(self) -> bool:
        """Whether what is to be encoded may be spread over several steps."""
        return not self._headed and self.todo > 1

    @property
    def done(self) -> bool:
        """True when all members have ended and all that others may see of them is encoded."""
        ended = self._headed and all(member.part.generation.finish for member in self.members)
        return ended and (len(self.members) == 1 or all(m.absent or (m.begun and not m.todo) for m in self.members))

    def prepare(self) -> None:
        """Of members with one context the first encodes what is pending of it."""
        firsts: dict[Holding, MemberThread] = {}
        for member in self.members:
            firsts.setdefault(member.holding, member)
        self._entering = list(firsts.values())
        for member in self._entering:
            member.prepare()

    def unprepare(self) -> None:
        for member in self._entering:
            member.unprepare()

    def look(self, cache: PrefixCache) -> None:
        if self.looks:
            for member in self._entering:
                member.look(cache)

    def enter(self) -> None:
        self.owed = self.pages_to_enter
        for member in self._entering:
            member.enter()
            member.entered = True

    def leave(self) -> None:
        for member in self.members:
            member.leave()
        self._headers.leave()
        self._history, self._replayed, self._headed = [], 0, False

    def trim(self) -> None:
        for thread in (*self.members, self._headers):
            thread.trim()

    def pages_missing(self, tokens: int) -> int:
        missing = sum(thread.pages_missing(count) for thread, count in self._split(tokens))
        if self._all_ready and not self._headed and self._headers.tail is None:
            missing = self._headers.pages_missing(self._headers.todo)
        return missing + len(self._latecomers())

    def grow(self, tokens: int) -> None:
        self.owed = self.pages_missing(tokens)
        if self._all_ready and not self._headed and self._headers.tail is None:
            self._headers.enter()
        for thread, count in self._split(tokens):
            thread.grow(count)
        for member in self._latecomers():
            member.prepare()
            member.enter()
            member.entered = True

    def shares(self, tokens: int) -> list[Share]:
        """Who encodes how much in the step that begins now. Without anything to encode the step still concludes."""
        split = self._split(tokens)
        if self._headed and split:
            if self.live:
                self.events.append(Passed(tuple(self._counts())))
                self._clock += 1
            self._replayed += 1
        return [Share(thread, count) for thread, count in split] or [Share(self.members[0], 0)]

    def conclude(self) -> None:
        """After a step: who is ready, whose step of thought has ended, who joins. Raises ContextLengthError."""
        for member in self.members:
            member.forget_pass()
            if member.entered and not member.ready and not member.todo and member.primed is None:
                member.get_ready()
        if not self._all_ready or not self._head():
            return
        self._replay_moves()
        if self.live:
            self._end_steps()
            self._check_places()
            self._let_join()

    # ---- what a member sees

    @property
    def exact(self) -> bool:
        """Whether a prefill of a member's tokens would give the same keys and values."""
        return len(self.members) == 1 and not self.work.heading.tokens

    @property
    def live(self) -> bool:
        """True if all that was done before it gave way is encoded again."""
        return self._replayed >= len(self.events)

    def around(self, member: MemberThread) -> list[Span]:
        """What stands between a member's base and its own step, each span where it stands for this member now."""
        if not self._headed:
            return []
        if self.work.asked.layout == "tokenwise":
            others = (other for other in self.members if other is not member and other.tail is not None)
            return [self._span(other.tail.segment, 0, other.shown, self._slot(other)) for other in others if other.tail]
        spans, position = [], member.base.next
        for segment, start, stop in self._shown(member):
            if start < stop:
                spans.append(self._span(segment, start, stop, position))
                position += stop - start
        return spans

    def start(self, member: MemberThread, around: Sequence[Span]) -> int:
        """The position of the first token of a member's step."""
        if self.work.asked.layout == "tokenwise":
            return self._slot(member)
        return around[-1].end if around else member.base.next

    def _span(self, segment: Segment, start: int, stop: int, position: int) -> Span:
        return Span(segment, start, stop, position, exact=self.exact, teamed=not self.exact)

    def _slot(self, member: MemberThread) -> int:
        return max(other.base.next for other in self.members) + member.index * self.work.asked.slot

    def _shown(self, member: MemberThread) -> Iterator[tuple[Segment, int, int]]:
        """Segments and the tokens of them that a member sees, in view order."""
        past, others, own = self._header_spans()
        layout = self.work.asked.layout
        if layout != "contiguous":
            yield past
            yield from ((segment, 0, len(segment)) for segment in self._history)
        if layout != "interleaved":
            yield others
            for other in self.members:
                if other is not member and other.tail is not None:
                    yield other.tail.segment, 0, other.shown
        yield own

    def _header_spans(self) -> list[tuple[Segment, int, int]]:
        tail = self._headers.tail
        assert tail is not None
        start = tail.stop - len(self.work.heading.tokens)
        spans = []
        for length in self.work.header_lengths:
            spans.append((tail.segment, start, start + length))
            start += length
        return spans

    # ---- the way to the first pass

    @property
    def _all_ready(self) -> bool:
        return all(member.ready for member in self.members)

    def _latecomers(self) -> list[MemberThread]:
        """Members that may enter now: the first with the same context has encoded it."""
        busy = {member.holding for member in self.members if member.entered and not member.ready and member.todo}
        return [member for member in self.members if not member.entered and member.holding not in busy]

    def _head(self) -> bool:
        """See to the headers. True once they are encoded."""
        if not self._headed and self._headers.tail is None:
            first, *others = self.members
            self.work.common = min((_common(first, other) for other in others), default=len(first.base))
            self._headers.stand_on(first.base.cut(self.work.common)[0])
        self._headed = self._headers.tail is not None and not self._headers.todo
        if self._headed:
            self.work.heading.account(self._headers)
        return self._headed

    # ---- passes

    @property
    def _own_tokens(self) -> int:
        return sum(len(member.own) - member.lead for member in self.members)

    def _counts(self) -> Sequence[int]:
        """How many tokens each member is to encode in the next pass."""
        if self.live:
            return [member.todo for member in self.members]
        event = self.events[self._replayed]
        assert isinstance(event, Passed)
        return event.counts

    def _split(self, tokens: int) -> list[tuple[Thread, int]]:
        if self._headed:
            return [(m, count) for m, count in zip(self.members, self._counts(), strict=True) if count]
        if self._all_ready:
            return [(self._headers, tokens)] if self._headers.tail is not None and tokens else []
        split: list[tuple[Thread, int]] = []
        for member in self.members:
            count = min(member.todo, tokens) if member.entered and not member.ready else 0
            if count or member.primed is not None:
                split.append((member, count))
                tokens -= count
        return split

    def _replay_moves(self) -> None:
        while not self.live and isinstance(event := self.events[self._replayed], Moved):
            self._history.append(self.members[event.member].end_step())
            self._replayed += 1

    def _end_steps(self) -> None:
        asked, rule = self.work.asked, self.work.rule
        rule.count(sum(len(member.part.generation.sampled) - member.heard for member in self.members))
        for member in self.members:
            generation = member.part.generation
            spoke, member.heard = len(generation.sampled) > member.heard, len(generation.sampled)
            if spoke and not generation.finish and rule.end(generation.text, member.read) >= 0:
                self._move(member)
                generation.insert(self.work.encode(rule.follow(member.index)), member)
            elif generation.finish and asked.step_end and asked.layout == "interleaved" and not member.todo:
                self._move(member)  # what it said last is to be seen too
            member.read = len(generation.text)

    def _move(self, member: MemberThread) -> None:
        """A member's step has ended: in layouts that have one, it goes to the common history."""
        if self.work.asked.layout in ("interleaved", "combined") and member.tail is not None:
            self._history.append(member.end_step())
            self.events.append(Moved(member.index))
            self._replayed += 1

    def _check_places(self) -> None:
        """Law 8: a member that the window can't hold much longer ends; a slot that is too short is an error."""
        slot = self.work.asked.slot
        for member in self.members:
            if self.work.asked.layout == "tokenwise" and len(member.own) > slot:
                raise ContextLengthError(
                    f"member {member.index} {member.part.name!r} of a team has outgrown its slot of {slot} positions; "
                    "give a larger slot, or a smaller max_tokens"
                )
            if member.begun and not member.part.generation.finish and not self._has_room(member):
                member.part.generation.finish = "window"

    def _has_room(self, member: MemberThread) -> bool:
        """True if whatever is encoded in the pass after the next one will stand within the window."""
        return self._reach(member) + self.work.growth <= self.work.window

    def _reach(self, member: MemberThread) -> int:
        """The position after all that a member may see in the next pass."""
        asked = self.work.asked
        if asked.layout == "tokenwise":
            return self._slot(member) + len(member.own)
        seen = self.members if asked.layout != "interleaved" or asked.step_end else (member,)
        own = sum(len(other.own) for other in seen if other.begun or other is member)
        return member.base.next + len(self.work.heading.tokens) + own

    def _let_join(self) -> None:
        """Let members begin whose time has come; where nobody else has anything to say, that of the next one has."""
        waiting = [member for member in self.members if not member.begun and not member.absent]
        if waiting and not any(member.todo for member in self.members):
            self._clock = max(self._clock, min(member.part.joins for member in waiting))
        for member in waiting:
            if member.part.joins <= self._clock:
                self._begin(member)

    def _begin(self, member: MemberThread) -> None:
        generation = member.part.generation
        if not generation.finish and not self._has_room(member):
            generation.finish = "window"
            member.absent = True
            return
        member.begun = True
        if not generation.finish:
            generation.insert(member.part.opening, member)
            member.read = len(generation.text)


def _common(one: MemberThread, other: MemberThread) -> int:
    """Tokens of the longest prefix that two bases have in common: those that are equal, as far as a prefill would give
    them, or those that come of one context. Where they are stored, and so what else the engine does, has no part in it.
    """
    if one.holding.salt != other.holding.salt:
        return 0
    plain = (_plain(one.base), _plain(other.base))
    alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*plain, strict=False)))
    return max(alike, other.part.shared)


def _plain(view: View) -> list[int]:
    """The tokens of the longest prefix whose keys and values are what a prefill gives."""
    tokens: list[int] = []
    for span in view.spans:
        if not span.exact or span.branch or span.position != len(tokens):
            break
        tokens += span.tokens
    return tokens

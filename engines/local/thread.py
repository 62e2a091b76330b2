"""Threads: contexts that are being extended (DESIGN.md §3). A thread writes to its tail and reads its view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ...kernels import KeyRun, QueryBlock
from .holding import Holding
from .pages import PagePool
from .segment import Segment
from .view import Span, View

if TYPE_CHECKING:
    from torch import Tensor

    from .cache import PrefixCache
    from .team import Team
    from .work import Work

RESERVE = 256
"""Tokens beyond those at hand for which a tail reserves room, so that it is one run of slots; spare pages go back
when the thread ends or others need them."""


@dataclass(frozen=True, slots=True)
class Share:
    """A thread's part in a step: it encodes `count` tokens; 0 if it only has a token to be sampled."""

    thread: Thread
    count: int


class Thread:
    """A holding on its way to the next one, for the sake of `work`.

    `own` are the tokens beyond its base view: first `lead` that belong to the holding (its pending tokens), then those
    that it was given or has sampled. The first `encoded` of them are in the pool.
    """

    __slots__ = (
        "_base_keys",
        "_fresh",
        "_granted",
        "_reached",
        "_relost",
        "arrival",
        "base",
        "cached",
        "encoded",
        "found",
        "holding",
        "lead",
        "looks",
        "own",
        "pages",
        "pool",
        "primed",
        "recomputed",
        "tail",
        "work",
    )

    def __init__(self, pool: PagePool, holding: Holding, work: Work, arrival: int) -> None:
        self.pool = pool
        self.holding = holding
        self.work = work
        self.arrival = arrival
        self.own = list(work.tokens)
        self.lead = 0
        self.encoded = 0
        self.base = View()
        self.tail: Span | None = None
        self.pages: list[int] = []
        self.primed: Tensor | None = None
        """The logits of the base's last token, if nothing has to be encoded to know them."""
        self.recomputed = 0
        self.cached = 0
        """Tokens that it would have encoded for the first time, had their K/V not been found."""
        self.looks = not work.reads_states
        """Whether it may begin from K/V that was found; then it needs pages of others until it ends."""
        self._base_keys: tuple[KeyRun, ...] = ()
        self.found = 0
        """Own tokens that it began with, since their K/V was found."""
        self._fresh = 0
        self._granted = 0
        self._reached = 0
        self._relost = 0

    # ---- coming and going

    @property
    def view(self) -> View:
        """What it attends to, its encoded tokens included."""
        return self.base.append(self.tail) if self.tail is not None else self.base

    @property
    def unit(self) -> Thread | Team:
        """What runs, waits and gives way as a whole: the thread, or the team that it is in."""
        return self

    @property
    def threads(self) -> tuple[Thread, ...]:
        """The threads that a context comes of."""
        return (self,)

    @property
    def holdings(self) -> tuple[Holding, ...]:
        return (self.holding,)

    @property
    def reads(self) -> list[int]:
        """The pages that it reads."""
        return self.view.pages()

    @property
    def description(self) -> str:
        return f"a context of {self.holding.length + len(self.own) - self.lead} tokens"

    @property
    def adds(self) -> bool:
        """Whether what comes of it is another context than its holding's."""
        return len(self.own) > self.lead

    @property
    def done(self) -> bool:
        return self.work.done(self)

    @property
    def needs_logits(self) -> bool:
        return self.work.needs_logits

    @property
    def todo(self) -> int:
        """Tokens to encode before the work can go on."""
        return len(self.own) - self.encoded - self.work.held_back

    def prepare(self) -> None:
        """Look at the holding as it is now: what is its view, and what must be encoded before the own tokens. The view
        is held from here on."""
        holding = self.holding
        if self.needs_logits:
            holding.reopen()
        self.base, self._relost = holding.view, holding.lost
        lead = list(holding.pending)
        self.primed = None
        if not lead and self.needs_logits:
            self.primed = None if self.work.reads_states else holding.logits
            if self.primed is None and len(self.base):
                lead = self.base.spans[-1].tokens[-1:]
                self.base, self._relost = self.base.cut(len(self.base) - 1)[0], 1
        self.lead = len(lead)
        self.own[:0] = lead
        self._hold(self.base)

    def unprepare(self) -> None:
        """Forget what `prepare` saw, and hold nothing."""
        del self.own[: self.lead]
        self.lead = self.encoded = self._relost = self.found = 0
        self.primed = None
        self._hold(View())

    @property
    def sought(self) -> list[int]:
        """The tokens whose K/V would do to begin from, in place of the base's: those up to the first whose logits are
        wanted. Empty where more than the base would hardly be found."""
        first = self.wanted(0, len(self.own))[:1]
        more = min([self.todo, *first])
        worth_it = self.looks and self.base.exact and more >= self.pool.page_size
        return [*self.base.tokens, *self.own[:more]] if worth_it else []

    def encodes(self, tokens: Sequence[int], other: Thread) -> bool:
        """True if it is about to encode the last of these tokens after the rest, and `other` could begin with them."""
        view, done = self.view, len(self.view)
        if not done < len(tokens) <= done + self.todo or self.holding.salt != other.holding.salt or not view.exact:
            return False
        coming = self.own[self.encoded : self.encoded + len(tokens) - done]
        return coming == tokens[done:] and view.tokens == tokens[:done]

    def look(self, cache: PrefixCache) -> None:
        """Begin from what the cache has, if that is enough; the own tokens that it holds need not be encoded."""
        view = cache.find(self.sought, self.holding.salt)
        found = len(view) - len(self.base)
        if found >= cache.least:
            self.base, self.encoded, self.found = view, found, found
            self._hold(view)

    def stand_on(self, view: View) -> None:
        """Go on from a view that is encoded, whatever the holding has."""
        self.base = view
        self._hold(view)

    @property
    def pages_at_least(self) -> int:
        """Pages that it can't do without, whatever else gives way."""
        return self.pool.pages_for(self.holding.length + len(self.own))

    @property
    def pages_to_enter(self) -> int:
        """Pages to take before it can run."""
        return self.pages_missing(max(self.todo, 0))

    @property
    def divisible(self) -> bool:
        """Whether what is to be encoded may be spread over several steps."""
        return self.todo > 1

    def pages_missing(self, tokens: int) -> int:
        """Pages to take before so many more tokens can be written."""
        segment = self._own_segment()
        room = segment.capacity - len(segment) if segment is not None else 0
        return self.pool.pages_for(max(tokens - room, 0))

    def pages_wanted(self, tokens: int, available: int) -> int:
        """Those, and a reserve, of so many that could be had; 0 if none are missing."""
        missing = self.pages_missing(tokens)
        spare = self.pool.pages_for(min(self.work.expected, RESERVE))
        return missing + min(spare, (available - missing) // 4) if missing else 0

    def enter(self) -> None:
        """Get a tail with room for the tokens at hand; the pool has `pages_missing` of them."""
        self.cached += self.found - self._lost(0, self.found)
        if self.holding.pending:
            self.holding.settler = self
        segment = self._own_segment()
        if segment is None:
            segment = Segment(self.base.next, self.pool.page_size)
            self.tail = Span(segment, 0, 0, self.base.next)
        else:
            self.tail = self.base.spans[-1]
            self.base = View(self.base.spans[:-1], self.tail.position)
        segment.written = True
        self._base_keys = tuple(key for span in self.base.spans for key in key_runs(span))
        self.grow(self.todo)

    def grow(self, tokens: int) -> None:
        """Take pages for so many more tokens, and in reserve; the caller has seen that the pool has them."""
        self._granted = max(self._granted, tokens)
        self.reserve(tokens, self.pages_wanted(tokens, self.pool.free))

    def reserve(self, tokens: int, wanted: int) -> None:
        """Take the pages missing for so many more tokens, and up to `wanted` if they are side by side."""
        missing = self.pages_missing(tokens)
        if not missing:
            return
        assert self.tail is not None
        segment = self.tail.segment
        taken = self.pool.take(missing, wanted=wanted, after=segment.pages[-1] if segment.pages else -1)
        segment.add_pages(taken)
        self.pages += taken

    def trim(self) -> None:
        """Give pages back that were taken in reserve; what `grow` was asked for stays."""
        spare = self.tail.segment.trim(self._granted) if self.tail is not None else []
        del self.pages[len(self.pages) - len(spare) :]
        self.pool.drop(spare)

    def leave(self) -> None:
        """Give up everything held; to be entered again it has to be prepared again."""
        if self.tail is not None:
            self._granted = 0
            self.trim()
            self.tail.segment.written = False
        if self.holding.settler is self:
            self.holding.settler = None
        self._reached = max(self._reached, self.encoded - self.lead)
        self.tail = None
        self.unprepare()

    # ---- a step

    def shares(self, tokens: int) -> list[Share]:
        """Who encodes how much in the step that begins now."""
        return [Share(self, tokens)]

    def wanted(self, start: int, stop: int) -> range:
        """Those of the own tokens [start, stop), being encoded now, whose logits are read."""
        return self.work.wanted(self, start, stop)

    def conclude(self) -> None:
        """After a step. A thread by itself has nothing to see to."""

    def advance(self, count: int) -> Sequence[int]:
        """Move `count` own tokens into the tail, to be encoded in this step; the tokens."""
        assert self.tail is not None
        start, stop = self.encoded, self.encoded + count
        tokens = self.own[start:stop]
        self.tail.segment.append(tokens)
        self.tail = replace(self.tail, stop=self.tail.stop + count)
        self.encoded, self._fresh = stop, count
        self._granted = max(self._granted - count, 0)
        self.recomputed += self._lost(start, stop)
        return tokens

    def block(self) -> QueryBlock:
        """The step's query rows: the tokens of the last `advance`, and all that they see."""
        before = self._surroundings()
        assert self.tail is not None
        tail, segment = self.tail, self.tail.segment
        first = tail.stop - self._fresh
        keys = before + tuple(key_runs(tail, first if self._fresh > 1 else -1))
        return QueryBlock(segment.origin + first, tail.end - self._fresh, segment.slots(first, tail.stop), keys)

    def settle(self) -> bool:
        """After a step: hand the holding's tokens to the holding once they are all encoded; True in that step."""
        if self.holding.settler is not self or self.encoded < self.lead:
            return False
        view = self.view
        settled, _ = view.cut(len(view) - (self.encoded - self.lead))
        self.holding.settle(settled)
        del self.own[: self.lead]
        self.encoded -= self.lead
        self.lead = self._relost = 0
        return True

    def _lost(self, start: int, stop: int) -> int:
        """Of the own tokens [start, stop), how many were encoded before, and given up."""
        lead = self.lead
        return _overlap(start, stop, 0, self._relost) + _overlap(start, stop, lead, lead + self._reached)

    def _hold(self, view: View) -> None:
        """Hold the pages of a view, and no others."""
        pages = view.pages()
        self.pool.hold(pages)
        self.pool.drop(self.pages)
        self.pages = pages

    def _surroundings(self) -> tuple[KeyRun, ...]:
        """What it sees before its tail."""
        return self._base_keys

    def _own_segment(self) -> Segment | None:
        """The segment that it writes to, or would now: the base's last, if nobody has gone on from there."""
        if self.tail is not None:
            return self.tail.segment
        last = self.base.spans[-1] if self.base.spans else None
        if last is None or last.offset or last.branch or last.end != self.base.next:
            return None
        segment = last.segment
        return segment if last.stop == len(segment) and not segment.written else None


def key_runs(span: Span, first: int = -1) -> list[KeyRun]:
    """A span's runs; with `first`, the tokens of the segment from that index on are the block's own rows."""
    segment = span.segment
    return [
        KeyRun(
            slot=run.slot,
            count=run.count,
            rotation=segment.origin + run.index,
            position=span.position + run.index - span.start,
            first=run.index - first if 0 <= first < run.index + run.count else None,
        )
        for run in segment.runs(span.start, span.stop)
    ]


def _overlap(start: int, stop: int, other_start: int, other_stop: int) -> int:
    return max(0, min(stop, other_stop) - max(start, other_start))

"""Segments: append-only runs of tokens in the page pool (DESIGN.md §3, §4)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SlotRun:
    """Consecutive tokens of a segment in consecutive slots: token `index + i` is in slot `slot + i`."""

    index: int
    slot: int
    count: int


class Segment:
    """Tokens and their pages. Token i was rotated at `origin + i` when it was encoded, and keeps that frame for ever.

    One writer at a time may append, and only one that stands at the end: a view that ends earlier has been overtaken
    and starts a segment of its own. Pages are not held by the segment but by those whose views read it; pages that
    nobody reads any more go back to the pool, so `pages` may name pages that now belong to others.
    """

    __slots__ = ("_runs", "origin", "page_size", "pages", "tokens", "written")

    def __init__(self, origin: int, page_size: int) -> None:
        self.origin = origin
        self.page_size = page_size
        self.tokens: list[int] = []
        self.pages: list[int] = []
        self.written = False
        """True while a thread writes here."""
        self._runs: list[SlotRun] = []

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def capacity(self) -> int:
        return len(self.pages) * self.page_size

    def add_pages(self, pages: Sequence[int]) -> None:
        for page in pages:
            slot, index = page * self.page_size, self.capacity
            self.pages.append(page)
            last = self._runs[-1] if self._runs else None
            if last is not None and last.slot + last.count == slot:
                self._runs[-1] = SlotRun(last.index, last.slot, last.count + self.page_size)
            else:
                self._runs.append(SlotRun(index, slot, self.page_size))

    def trim(self, room: int) -> list[int]:
        """Give up the pages beyond the last token and room for some more; the caller, who holds them, drops them."""
        kept = -(-(len(self) + room) // self.page_size)
        spare = self.pages[kept:]
        if spare:
            pages, self.pages, self._runs = self.pages[:kept], [], []
            self.add_pages(pages)
        return spare

    def append(self, tokens: Sequence[int]) -> None:
        room = self.capacity - len(self)
        if len(tokens) > room:
            raise ValueError(f"segment has room for {room} tokens, not {len(tokens)}")
        self.tokens += tokens

    def slots(self, start: int, stop: int) -> tuple[int, ...]:
        """The slot of each of the tokens [start, stop)."""
        return tuple(slot for run in self.runs(start, stop) for slot in range(run.slot, run.slot + run.count))

    def runs(self, start: int, stop: int) -> list[SlotRun]:
        """Where the tokens [start, stop) are, cut at gaps between pages."""
        found = []
        first = bisect_right(self._runs, start, key=lambda run: run.index) - 1
        for run in self._runs[max(first, 0) :]:
            low, high = max(start, run.index), min(stop, run.index + run.count)
            if low >= high:
                break
            found.append(SlotRun(low, run.slot + low - run.index, high - low))
        return found

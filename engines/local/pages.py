"""The page pool: which pages are free, and how many hold each of the others (DESIGN.md §4, law 1).

Contexts and threads hold pages; so does the prefix cache, whose holds are counted apart: a page that it alone holds can
be had at any time.

Pure host accounting; the tensors that the pages stand for belong to the step loop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

_FREE = b"\x01"
_TAKEN = b"\x00"


class PagePool:
    """`pages` pages of `page_size` slots each; page p owns slots [p · page_size, (p + 1) · page_size)."""

    def __init__(self, pages: int, page_size: int) -> None:
        self.pages = pages
        self.page_size = page_size
        self._free = bytearray(_FREE * pages)
        self._counts = [0] * pages
        self._cached = [0] * pages
        self._cursor = 0
        self.free = pages
        self.cached = 0
        """Pages that only the prefix cache holds."""

    @property
    def used(self) -> int:
        """Pages that somebody holds, those of the prefix cache included."""
        return self.pages - self.free

    def pages_for(self, tokens: int) -> int:
        """Pages that so many tokens need."""
        return -(-tokens // self.page_size)

    def count(self, page: int) -> int:
        """Holders of a page."""
        return self._counts[page]

    def users(self, page: int) -> int:
        """Holders of a page other than the prefix cache."""
        return self._counts[page] - self._cached[page]

    def take(self, needed: int, *, wanted: int = 0, after: int = -1) -> list[int]:
        """At least `needed` free pages, up to `wanted`, held once; side by side where there is room.

        Pages that follow `after` come first, so that a tail stays one run. The caller has seen that `free >= needed`.
        """
        wanted = max(needed, wanted)
        taken = self._following(after, wanted)
        self._mark(taken)
        if len(taken) < needed:
            rest = self._run(needed - len(taken), wanted - len(taken))
            self._mark(rest)
            taken += rest
        return taken

    def has_run(self, pages: int) -> bool:
        """True if so many free pages are side by side."""
        return self._free.find(_FREE * pages) >= 0

    def hold(self, pages: Iterable[int]) -> None:
        """One more holder for each page; they are held already."""
        for page in pages:
            self._check_held(page)
            self.cached -= self._only_cached(page)
            self._counts[page] += 1

    def drop(self, pages: Iterable[int]) -> None:
        """One holder less for each page; without holders it is free."""
        for page in pages:
            if not self.users(page):
                raise ValueError(f"page {page} is free already" if not self._counts[page] else f"page {page} is cached")
            self._counts[page] -= 1
            self.cached += self._only_cached(page)
            self._free_unheld(page)

    def cache(self, pages: Iterable[int]) -> None:
        """The prefix cache holds each page once more; they are held already."""
        for page in pages:
            self._check_held(page)
            self._counts[page] += 1
            self._cached[page] += 1

    def uncache(self, pages: Iterable[int]) -> None:
        """The prefix cache holds each page once less; without holders it is free."""
        for page in pages:
            if not self._cached[page]:
                raise ValueError(f"page {page} is not cached")
            self.cached -= self._only_cached(page)
            self._counts[page] -= 1
            self._cached[page] -= 1
            self.cached += self._only_cached(page)
            self._free_unheld(page)

    def check_integrity(self, holders: Iterable[Sequence[int]], cached: Iterable[Sequence[int]] = ()) -> None:
        """Law 1: free + referenced = pool, and a page's count = its holders. Raises AssertionError."""
        kept = Counter(page for pages in cached for page in pages)
        held = Counter(page for pages in holders for page in pages) + kept
        wrong = [p for p in range(self.pages) if self._counts[p] != held[p] or bool(self._free[p]) != (not held[p])]
        wrong += [p for p in range(self.pages) if self._cached[p] != kept[p]]
        only_cached = sum(self._only_cached(page) for page in range(self.pages))
        if wrong or self.free != self._free.count(_FREE) or self.cached != only_cached:
            details = ", ".join(f"page {p}: count {self._counts[p]}, holders {held[p]}" for p in wrong[:5])
            raise AssertionError(
                f"page pool: {self.free} free of {self.pages}, {len(held)} held, {self.cached} only cached; {details}"
            )

    def _check_held(self, page: int) -> None:
        if not self._counts[page]:
            raise ValueError(f"page {page} is free: it must be taken before it is shared")

    def _only_cached(self, page: int) -> bool:
        return 0 < self._counts[page] == self._cached[page]

    def _free_unheld(self, page: int) -> None:
        if not self._counts[page]:
            self._free[page : page + 1] = _FREE
            self.free += 1

    def _following(self, after: int, wanted: int) -> list[int]:
        if after < 0:
            return []
        stop = self._free.find(_TAKEN, after + 1, after + 1 + wanted)
        return list(range(after + 1, stop if stop >= 0 else min(after + 1 + wanted, self.pages)))

    def _run(self, needed: int, wanted: int) -> list[int]:
        """A run of `wanted` pages, else of half as many, and so on down to `needed`, else the first free pages wherever
        they are.

        The search goes on from where the last one ended, so that what a tail gives back at a tool call stays free for
        it a while, and it goes on as one run.
        """
        length = wanted
        while length >= needed:
            for begin in (self._cursor, 0):
                start = self._free.find(_FREE * length, begin)
                if start >= 0:
                    self._cursor = start + length
                    return list(range(start, start + length))
            length = max(length // 2, needed) if length > needed else 0
        return [page for page in range(self.pages) if self._free[page]][:needed]

    def _mark(self, pages: Sequence[int]) -> None:
        for page in pages:
            self._counts[page] = 1
            self._free[page : page + 1] = _TAKEN
        self.free -= len(pages)

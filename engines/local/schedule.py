"""Scheduling: which threads run, how many tokens each encodes in a step, and who gives way when pages run out."""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

from ...errors import PoolError
from .adapter import Adapter
from .cache import PrefixCache
from .holding import Holding
from .pages import PagePool
from .team import Team
from .thread import RESERVE, Share, Thread
from .view import View
from .work import Work

if TYPE_CHECKING:
    from .teaming import Teaming

Unit: TypeAlias = Thread | Team
"""What runs, waits and gives way as a whole."""


class Scheduler:
    """Threads in order of arrival, and the holdings that they go on from.

    Every step encodes one token for each thread that generates, and shares what is left of `step_tokens` among those
    that still have a prompt to encode. When pages run out, reserves are given back first, then those that only the
    prefix cache holds, then holdings that nobody is using are evicted, longest unused first, then the youngest thread
    starts again later. The oldest never gives way, so something always goes on.
    """

    def __init__(
        self,
        pool: PagePool,
        cache: PrefixCache,
        *,
        step_tokens: int,
        max_batch: int,
        fail: Callable[[Unit, Exception], None],
    ):
        self.pool = pool
        self.cache = cache
        self.running: list[Unit] = []
        self.waiting: list[Unit] = []
        self.preempted = 0
        self.evicted = 0
        self.found = 0
        """Tokens that threads began with, since the cache had them."""
        self._at_once = min(pool.pages // 16, pool.pages_for(RESERVE))  # so that tails find runs of pages
        self._step_tokens = step_tokens
        self._max_batch = max_batch
        self._fail = fail
        self._holdings: dict[Holding, None] = {}
        self._arrivals = 0

    @property
    def busy(self) -> bool:
        return bool(self.running or self.waiting)

    # ---- holdings

    @property
    def holdings(self) -> int:
        """Holdings in use."""
        return len(self._holdings)

    def hold(
        self,
        view: View = View(),  # noqa: B008
        pending: tuple[int, ...] = (),
        *,
        lost: int = 0,
        adapter: Adapter | None = None,
    ) -> Holding:
        """A new holding with one user."""
        holding = Holding(self.pool, view, pending, lost=lost, adapter=adapter)
        self._holdings[holding] = None
        holding.users = 1
        self.cache.add(view, holding.salt)
        return holding

    def share(self, holding: Holding) -> Holding:
        """The same holding, with one user more."""
        holding.users += 1
        return holding

    def release(self, holding: Holding) -> None:
        """One user less; without users its pages are given up to the cache."""
        holding.users -= 1
        if not holding.users:
            del self._holdings[holding]
            holding.close()

    # ---- threads

    def submit(self, holding: Holding, work: Work) -> Thread:
        """Let a thread go on from the holding as soon as there is room."""
        self._arrivals += 1
        holding.users += 1
        thread = Thread(self.pool, holding, work, self._arrivals)
        self.waiting.append(thread)
        return thread

    def submit_team(self, holdings: Sequence[Holding], work: Teaming) -> Team:
        """Let a team go on from its members' holdings as soon as there is room for all of them."""
        self._arrivals += 1
        for holding in holdings:
            holding.users += 1
        team = Team(self.pool, holdings, work, self._arrivals)
        self.waiting.append(team)
        return team

    def end(self, thread: Unit) -> None:
        """Take a thread out, finished or not, and give up what it held."""
        (self.running if thread in self.running else self.waiting).remove(thread)
        thread.leave()
        for holding in thread.holdings:
            self.release(holding)

    def settle(self, share: Share) -> None:
        """After a step: what a thread has encoded for its holding belongs to that, and what it has of a prompt can be
        found by those that begin alike."""
        thread = share.thread
        if thread.settle():
            self.cache.add(thread.holding.view, thread.holding.salt)
        if share.count > 1 and thread.unit is thread:
            self.cache.add(thread.view, thread.holding.salt)

    def become(self, thread: Thread) -> Holding:
        """What a thread has made of its holding: a new one with one user, or the same if it added nothing."""
        if not thread.adds:
            return self.share(thread.holding)
        return self.hold(thread.view, tuple(thread.own[thread.encoded :]), adapter=thread.holding.adapter)

    def schedule(self) -> list[Share]:
        """Who takes part in the next step. What the pool can't hold fails, by `fail`."""
        self._admit()
        shares: list[Share] = []
        for thread, count in self._counts():
            if thread in self.running and self._make_room(thread, count):
                shares += thread.shares(count)
        return shares

    def check_integrity(self) -> None:
        """Law 1. Raises AssertionError."""
        self.pool.check_integrity(
            [*(holding.pages for holding in self._holdings), *(thread.pages for thread in self.running)],
            self.cache.holds(),
        )
        for holding in self._holdings:
            assert holding.users > 0, "a holding without users is kept"
            assert set(holding.pages) == set(holding.view.pages()), "a holding holds other pages than its view has"
        for thread in self.running:
            assert set(thread.reads) <= set(thread.pages), "a thread reads pages that it doesn't hold"

    # ---- who runs

    def _admit(self) -> None:
        for thread in list(self.waiting):
            threads = sum(len(other.threads) for other in self.running) + len(thread.threads)
            if self.running and threads > self._max_batch:
                return
            if any(holding.settler is not None for holding in thread.holdings):
                continue  # what it goes on from is being encoded by another; that one is let in before it
            if not self._enter(thread):
                return

    def _enter(self, thread: Unit) -> bool:
        """Let a waiting thread run, or fail where it never could, or wait for what it will find. False: it has to wait,
        and all behind it."""
        thread.prepare()
        if isinstance(thread, Thread) and self._comes_soon(thread):
            thread.unprepare()
            return True
        thread.look(self.cache)
        missing = thread.pages_to_enter
        if not self._find(missing, thread):
            thread.unprepare()
            if self.running and thread.pages_at_least <= self.pool.pages:
                return False
            if self._begin_anew(thread):
                return self._enter(thread)
            self._fail(thread, self._too_small(thread, missing))
            return True
        self.waiting.remove(thread)
        insort(self.running, thread, key=lambda other: other.arrival)
        for holding in dict.fromkeys(thread.holdings):
            self._touch(holding)
        thread.enter()
        self.found += thread.found
        return True

    def _comes_soon(self, thread: Thread) -> bool:
        """True if a running thread is about to encode the page that comes after what the cache has for this one, and
        with it enough to begin from."""
        running = [other for other in self.running if isinstance(other, Thread)]
        if not running or not self.cache.keeps:
            return False
        sought = thread.sought
        known = len(self.cache.find(sought, thread.holding.salt))
        end = max(known + self.pool.page_size, len(thread.base) + self.cache.least)
        return end <= len(sought) and any(other.encodes(sought[:end], thread) for other in running)

    def _counts(self) -> list[tuple[Unit, int]]:
        """How many tokens each running thread is to encode: fair, and in order of arrival."""
        prompts = sum(thread.divisible for thread in self.running)
        ahead = sum(max(thread.todo, 1) for thread in self.running if not thread.divisible)
        left = max(self._step_tokens - ahead, 1)
        counts = []
        for thread in self.running:
            count = max(thread.todo, 0)
            if thread.divisible:
                count = min(count, -(-left // prompts))
                prompts, left = prompts - 1, left - count
                if not count:
                    continue
            counts.append((thread, count))
        return counts

    # ---- who gives way

    def _make_room(self, thread: Unit, count: int) -> bool:
        """See to it that a running thread can write `count` tokens. False: it had to give way itself."""
        missing = thread.pages_missing(count)
        while not self._find(missing, thread):
            victim = self.running[-1]
            if victim is not thread:
                self._preempt(victim)
                continue
            if len(self.running) == 1 and not thread.looks:
                self._fail(thread, self._too_small(thread, missing))
                return False
            self._preempt(thread)
            if not self.running:
                self._begin_anew(thread)
            return False
        if missing and isinstance(thread, Thread):
            thread.reserve(count, self._clear_run(thread.pages_wanted(count, self.pool.free + self.pool.cached)))
        thread.grow(count)
        return True

    def _find(self, missing: int, thread: Unit) -> bool:
        """Have so many free pages, taking back reserves, the cache and idle holdings; no thread has to give way."""
        if missing <= self.pool.free:
            return True
        for other in self.running:
            if other is not thread:
                other.trim()
        idle = self._idle(thread)
        while missing > self.pool.free:
            if self.cache.evict(missing - self.pool.free + self._at_once):
                continue
            holding = next(idle, None)
            if holding is None:
                return False
            holding.evict()
            self.evicted += 1
        return True

    def _clear_run(self, pages: int) -> int:
        """Have the cache give up what a tail would like to be one run: what it kept of one prompt mostly is one."""
        if not self.pool.has_run(pages):
            self.cache.evict(pages)
        return min(pages, self.pool.free)

    def _idle(self, thread: Unit) -> Iterator[Holding]:
        """Holdings to evict for a thread, longest unused first: those with a page that only such holdings use. Those
        that an edit needs at once come last, and none gives way to another of the same edit."""
        idle = [holding for holding in self._holdings if holding not in thread.holdings and holding.evictable]
        edited = any(holding.claimed for holding in thread.holdings)
        idle = [holding for holding in idle if not (holding.claimed and edited)]
        idle.sort(key=lambda holding: holding.claimed)
        uses = Counter(page for holding in idle for page in holding.pages)
        freed = {page for page, count in uses.items() if count == self.pool.users(page)}
        yield from (holding for holding in idle if not freed.isdisjoint(holding.pages))

    def _preempt(self, thread: Unit) -> None:
        self.running.remove(thread)
        insort(self.waiting, thread, key=lambda other: other.arrival)
        for part in thread.threads:
            self.cache.add(part.view, part.holding.salt)
        thread.leave()
        self.preempted += 1

    def _begin_anew(self, thread: Unit) -> bool:
        """Let a thread that finds no room, and is alone, try once more on pages of its own: of those that it shares it
        may use but a part. False: it has tried."""
        again, thread.looks = thread.looks, False
        for holding in dict.fromkeys(thread.holdings):
            if again and holding.evictable:
                holding.evict()
                self.evicted += 1
        return again

    def _touch(self, holding: Holding) -> None:
        """The holding was used just now; it is evicted last."""
        del self._holdings[holding]
        self._holdings[holding] = None

    def _too_small(self, thread: Unit, missing: int) -> PoolError:
        size = self.pool.page_size
        return PoolError(
            f"{thread.description} needs {missing * size} slots more in the KV pool, which has "
            f"{self.pool.free * size} free of {self.pool.pages * size} and can free no more. "
            "Open the engine with more kv_memory, or release contexts"
        )

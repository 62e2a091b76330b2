"""Editing contexts: an edit is made in the step loop's thread, then what it asks for is encoded (DESIGN.md §4).

Parallel groups are encoded with the means that made them: each sibling goes on from what stands before the group, and
then they are joined, which moves nothing. So no step has to know of groups.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from ...errors import ContextError
from ..together import side_by_side
from .asking import ask, perform
from .edits import Again, Edit, Fork, Sibling
from .holding import Holding
from .loop import StepLoop
from .mailbox import Mailbox
from .structure import joined_by
from .view import View
from .work import Extension, Lease, Settling, Work

T = TypeVar("T")


class Editor:
    """One edit of contexts. `recomputed` counts the tokens that it has encoded again, `cached` those that it found."""

    def __init__(self, loop: StepLoop) -> None:
        self.recomputed = 0
        self.cached = 0
        self._loop = loop

    async def make(self, holdings: Sequence[Holding], edit: Callable[[Sequence[View]], Edit]) -> tuple[Lease, Edit]:
        """The edit, and a lease on what stays as it is. What is pending in the holdings is encoded first."""
        make = partial(ask, self._loop, partial(self._made, holdings, edit, list[Lease]()))
        made = await make() or await self._settled(holdings, make)
        if made is not None:
            return made
        async with self._turn(holdings):  # others needed the pages meanwhile
            while made is None:
                made = await self._settled(holdings, make)
        return made

    async def _settled(self, holdings: Sequence[Holding], make: Callable[[], Awaitable[T]]) -> T:
        """What `make` gives once the holdings' pending tokens are encoded."""
        pending = [holding for holding in dict.fromkeys(holdings) if holding.pending]
        await side_by_side([partial(self._perform, holding, Settling(mailbox=Mailbox.here())) for holding in pending])
        return await make()

    @asynccontextmanager
    async def _turn(self, holdings: Sequence[Holding]) -> AsyncIterator[None]:
        """What is encoded of these holdings stays in the pool while there is anything else to evict."""
        mailbox, turns = Mailbox.here(), self._loop.turns
        self._loop.tell(partial(turns.take, mailbox, holdings))
        try:
            await mailbox.take()
            yield
        finally:
            self._loop.tell(partial(turns.leave, mailbox))

    async def carry_out(self, lease: Lease, parts: Sequence[Again]) -> Lease:
        """With the parts encoded after what the lease holds. The last token, if in no group, stays pending."""
        for part in parts:
            lease = await (self._forked(lease, part) if isinstance(part, Fork) else self._encoded(lease, part))
        return lease

    def _made(
        self, holdings: Sequence[Holding], edit: Callable[[Sequence[View]], Edit], claims: list[Lease]
    ) -> tuple[Lease, Edit] | None:
        """Runs in the step loop's thread. None as long as something is pending; then `claims` keep the holdings."""
        loop, scheduler = self._loop, self._loop.scheduler
        if not all(holding.users for holding in holdings):
            raise ContextError("a context was released while it was being edited; keep it until the edit is done")
        if any(holding.pending for holding in holdings):
            if not claims:
                claims += (loop.lease(scheduler.share(holding)) for holding in holdings)
            return None
        made = edit([holding.view for holding in holdings])
        return loop.lease(scheduler.hold(made.view, adapter=holdings[0].adapter)), made

    async def _encoded(self, lease: Lease, tokens: Sequence[int]) -> Lease:
        work = Extension(tokens, Mailbox.here())
        await self._perform(lease.holding, work)
        return work.take_lease()

    async def _forked(self, base: Lease, fork: Fork) -> Lease:
        """With all siblings encoded, side by side after the base."""
        leases = await side_by_side([partial(self._sibling, base, sibling) for sibling in fork.siblings])

        def join(views: Sequence[View]) -> Edit:
            before, *siblings = views
            own = [sibling.cut(len(before))[1] for sibling in siblings]
            return Edit(joined_by(before, own, [True] * len(own)))

        joined, _ = await self.make([part.holding for part in (base, *leases)], join)
        return joined

    async def _sibling(self, base: Lease, sibling: Sibling) -> Lease:
        if sibling.kept:
            base, _ = await self.make([base.holding], lambda views: Edit(views[0].append(*sibling.kept)))
        return await self.carry_out(base, sibling.again)

    async def _perform(self, holding: Holding, work: Work) -> None:
        await perform(self._loop, holding, work)
        self.recomputed += work.usage.prefilled + work.usage.recomputed
        self.cached += work.usage.cached

"""Turns: edits that need several views in the pool at once, and that others keep from it, go one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from .holding import Holding
from .mailbox import Mailbox


class Turns:
    """A queue of edits, in the step loop's thread. The holdings of the first are evicted after all others, so that what
    it has encoded of them is still there when the rest is; two edits could otherwise evict each other's for ever."""

    def __init__(self) -> None:
        self._queue: dict[Mailbox, Sequence[Holding]] = {}
        self._failure: Exception | None = None

    def take(self, mailbox: Mailbox, holdings: Sequence[Holding]) -> None:
        """Queue up; the mailbox closes when the turn has come."""
        if self._failure is not None:
            mailbox.close(self._failure)
            return
        self._queue[mailbox] = holdings
        self._begin()

    def leave(self, mailbox: Mailbox) -> None:
        """The turn is over, or not wanted any more."""
        for holding in self._queue.pop(mailbox, ()):
            holding.claimed = False
        self._begin()

    def end(self, failure: Exception) -> None:
        """Nobody has a turn from now on."""
        self._failure = failure
        for mailbox in self._queue:
            mailbox.close(failure)

    def _begin(self) -> None:
        for mailbox, holdings in self._queue.items():
            for holding in holdings:
                holding.claimed = True
            mailbox.close()
            return

"""Mailboxes: what the step loop's thread has for one task of an event loop, asyncio's or trio's (DESIGN.md §4)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Self

import anyio

from ..base import Chunk


class Mailbox:
    """Chunks, then an end: done or failed. One thread puts, one task takes; putting never waits."""

    def __init__(self, schedule: Callable[[Callable[[], None]], object] = lambda wake: None) -> None:
        """`schedule` runs a function in the taking task's event loop."""
        self.failure: BaseException | None = None
        self.closed = False
        self._schedule = schedule
        self._chunks: deque[Chunk] = deque()
        self._arrived = anyio.Event()

    @classmethod
    def here(cls) -> Self:
        """A mailbox for the running event loop."""
        return cls(_scheduler())

    def put(self, chunk: Chunk) -> None:
        self._chunks.append(chunk)
        self._wake()

    def close(self, failure: BaseException | None = None) -> None:
        """Nothing more comes."""
        if not self.closed:
            self.failure = failure
            self.closed = True
            self._wake()

    async def take(self) -> Chunk | None:
        """The next chunk; None at the end. Raises what the mailbox was closed with."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        while not self._chunks:
            if self.failure is not None:
                raise self.failure
            if self.closed:
                return None
            await self._arrived.wait()
            self._arrived = anyio.Event()
        return self._chunks.popleft()

    def _wake(self) -> None:
        with suppress(RuntimeError):  # the event loop has ended, and with it the task that waited
            self._schedule(self._ring)

    def _ring(self) -> None:
        self._arrived.set()


def _scheduler() -> Callable[[Callable[[], None]], object]:
    if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
        return asyncio.get_running_loop().call_soon_threadsafe
    import trio

    return trio.lowlevel.current_trio_token().run_sync_soon

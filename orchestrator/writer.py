"""The one thread that writes a journal: rows are put from anywhere and committed together."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import TypeAlias

import anyio
import anyio.to_thread

from ..errors import JournalError

Row: TypeAlias = tuple[str, Sequence[object]]
"""A statement and its values."""


class Writer:
    """Commits rows in the order in which they were put; what was put while a commit ran is the next one."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], name: str) -> None:
        self._connect = connect
        self._name = name
        self._queue: SimpleQueue[Row | Event | None] = SimpleQueue()
        self._failure: Exception | None = None
        self._closed = False
        self._thread = Thread(target=self._work, name=f"plait journal {name}", daemon=True)
        self._thread.start()

    def put(self, statement: str, values: Sequence[object]) -> None:
        """Have a row written soon. Raises JournalError where an earlier one could not be."""
        self._check()
        self._queue.put((statement, values))

    def flush(self) -> None:
        """Wait until all that was put before is on the disk. Raises JournalError."""
        self._check()
        committed = Event()
        self._queue.put(committed)
        committed.wait()
        self._check()

    async def durable(self) -> None:
        """`flush` for tasks."""
        await anyio.to_thread.run_sync(self.flush, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1))

    def close(self) -> None:
        """Commit what was put and end the thread. Idempotent."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            self._thread.join()

    def _check(self) -> None:
        if self._failure is not None:
            raise JournalError(f"journal {self._name} can't be written: {self._failure}") from self._failure
        if self._closed:
            raise JournalError(f"journal {self._name} is closed; open it again")

    def _work(self) -> None:
        connection = self._connect()
        last = False
        while not last:
            rows, waiting, last = self._take()
            try:
                if rows and self._failure is None:
                    self._commit(connection, rows)
            except sqlite3.Error as error:
                self._failure = error
            for event in waiting:
                event.set()
        connection.close()

    def _take(self) -> tuple[list[Row], list[Event], bool]:
        """All that is there, at least one thing."""
        rows: list[Row] = []
        waiting: list[Event] = []
        item = self._queue.get()
        with suppress(Empty):
            while item is not None:
                if isinstance(item, Event):
                    waiting.append(item)
                else:
                    rows.append(item)
                item = self._queue.get_nowait()
            return rows, waiting, True
        return rows, waiting, False

    def _commit(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        start = 0
        while start < len(rows):
            statement, stop = rows[start][0], start + 1
            while stop < len(rows) and rows[stop][0] is statement:
                stop += 1
            connection.executemany(statement, [values for _, values in rows[start:stop]])
            start = stop
        connection.execute("COMMIT")

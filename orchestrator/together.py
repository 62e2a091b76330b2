"""Running coroutine functions side by side."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio

T = TypeVar("T")


async def together(jobs: Sequence[Callable[[], Awaitable[T]]], *, at_once: int = 0) -> list[T]:
    """Run all jobs, at most `at_once` of them at a time (0: all), and give their results in order.

    The first failure cancels the others and is raised as it is.
    """
    if len(jobs) < 2:
        return [await job() for job in jobs]
    results: dict[int, T] = {}
    failures: list[Exception] = []
    queue = iter(range(len(jobs)))

    async def work() -> None:
        for index in queue:
            if failures:
                return
            try:
                results[index] = await jobs[index]()
            except Exception as error:
                failures.append(error)
                group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for _ in range(min(at_once or len(jobs), len(jobs))):
            group.start_soon(work)
    if failures:
        raise failures[0]
    return [results[index] for index in range(len(jobs))]

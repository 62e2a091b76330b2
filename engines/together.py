"""Together: jobs that run side by side, and end together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio

T = TypeVar("T")


async def side_by_side(jobs: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """Results in the jobs' order. The first failure ends the others and is raised as it is."""
    results: dict[int, T] = {}
    failures: list[Exception] = []

    async def run(index: int) -> None:
        try:
            results[index] = await jobs[index]()
        except Exception as error:
            failures.append(error)
            group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for index in range(len(jobs)):
            group.start_soon(run, index)
    if failures:
        raise failures[0]
    return [results[index] for index in range(len(jobs))]

"""Running coroutine functions side by side."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import anyio

from .joins import Failure, Join, all_of

T = TypeVar("T")


@dataclass(slots=True)
class Ended(Generic[T]):
    """How those that run side by side have ended so far, by index, in the order in which they ended.

    What is in neither when it is over was cancelled, or never began.
    """

    total: int
    join: Join
    values: dict[int, T] = field(default_factory=dict)
    failures: dict[int, Exception] = field(default_factory=dict)

    def add(self, index: int, value: T) -> None:
        """One has succeeded; too late once it is over."""
        if not self.over:
            self.values[index] = value

    def fail(self, index: int, error: Exception) -> None:
        if not self.over:
            self.failures[index] = error

    @property
    def done(self) -> bool:
        return self.join.done(len(self.values), len(self.failures), self.total)

    @property
    def lost(self) -> bool:
        """Whether the join can't be done any more."""
        return not self.join.bears(len(self.failures), self.total)

    @property
    def over(self) -> bool:
        return self.done or self.lost

    def value(self, describe: Callable[[int, Exception], Failure]) -> Any:
        """What the join makes of them. Raises its error where it is lost."""
        if self.lost:
            raise self.join.error(list(self.failures.values()), self.total)
        return self.join.value(self.values, {index: describe(index, error) for index, error in self.failures.items()})


async def together(jobs: Sequence[Callable[[], Awaitable[T]]], *, at_once: int = 0) -> list[T]:
    """Run all jobs, at most `at_once` of them at a time (0: all), and give their results in order.

    The first failure cancels the others and is raised as it is.
    """
    if len(jobs) < 2:
        return [await job() for job in jobs]
    ended = await until_joined(jobs, all_of, at_once=at_once)
    if ended.failures:
        raise next(iter(ended.failures.values()))
    return [ended.values[index] for index in range(len(jobs))]


async def until_joined(jobs: Sequence[Callable[[], Awaitable[T]]], join: Join, *, at_once: int = 0) -> Ended[T]:
    """Run jobs, at most `at_once` of them at a time (0: all), until the join is done or lost; then cancel the rest."""
    ended = Ended[T](len(jobs), join)
    queue = iter(range(len(jobs)))

    async def work() -> None:
        for index in queue:
            if ended.over:
                return
            try:
                ended.add(index, await jobs[index]())
            except Exception as error:
                ended.fail(index, error)
            if ended.over:
                group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for _ in range(min(at_once or len(jobs), len(jobs))):
            group.start_soon(work)
    return ended

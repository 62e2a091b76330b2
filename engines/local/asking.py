"""What a task asks of the step loop, and waits for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import anyio

from .mailbox import Mailbox

if TYPE_CHECKING:
    from .holding import Holding
    from .loop import StepLoop
    from .work import Work

T = TypeVar("T")


async def perform(loop: StepLoop, holding: Holding | None, *works: Work) -> None:
    """Do works to their end, all at once; if one fails or this is cancelled, none goes on."""
    for work in works:
        loop.submit(holding, work)
    try:
        for work in works:
            await work.mailbox.take()
    except BaseException:
        for work in works:
            loop.cancel(work)
        raise


async def ask(loop: StepLoop, function: Callable[[], T]) -> T:
    """What a function gives in the step loop's thread, between two steps."""
    mailbox, answers = Mailbox.here(), list[T]()

    def run() -> None:
        try:
            answers.append(function())
        except Exception as error:
            mailbox.close(error)
        else:
            mailbox.close()

    loop.tell(run)
    await mailbox.take()
    return answers[0]


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

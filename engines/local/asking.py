"""What a task asks of the step loop, and waits for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

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

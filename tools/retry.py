"""When a failed call is tried again: named error classes only, by tenacity (DESIGN.md §6, limits)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import anyio

from ..errors import InputError

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")

_log = logging.getLogger("plait.tools")


@dataclass(frozen=True, slots=True)
class Retry:
    """Try a call again when it raises one of the classes in `on`, up to `attempts` calls in all.

    The wait before attempt n + 1 is drawn from [0, min(`longest_wait`, `wait`·2ⁿ)] seconds. After an error with a
    `retry_after`, in seconds (ToolError, TransientEngineError, or a class of one's own), it is that much longer, so
    that those who were sent away together don't come back together; but never longer than `longest_wait`. Raises
    InputError for a policy that can't be followed.
    """

    on: tuple[type[Exception], ...] = ()
    attempts: int = 3
    wait: float = 0.1
    longest_wait: float = 10.0

    def __post_init__(self) -> None:
        for kind in self.on:
            if not (isinstance(kind, type) and issubclass(kind, Exception)):
                raise InputError(f"retry on {kind!r}, which is no exception class; write on=(ConnectionError,), say")
        if self.attempts < 1:
            raise InputError(f"retry attempts={self.attempts}: a call is made at least once; use 1 or more")
        if self.wait < 0 or self.longest_wait < 0:
            raise InputError(f"retry wait={self.wait}, longest_wait={self.longest_wait}: seconds can't be negative")

    async def call(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Make the call; the last attempt's error is raised as it is."""
        if not self.on or self.attempts == 1:
            return await attempt()
        import tenacity  # only where a policy is used: it costs a tenth of plait's import time

        policy = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(self.on),
            stop=tenacity.stop_after_attempt(self.attempts),
            wait=self._wait_before,
            sleep=anyio.sleep,
            before_sleep=tenacity.before_sleep_log(_log, logging.INFO),
            reraise=True,
        )
        return await policy(attempt)

    def _wait_before(self, state: RetryCallState) -> float:
        """Seconds to wait after what an attempt has raised."""
        import tenacity

        drawn = tenacity.wait_random_exponential(multiplier=self.wait, max=self.longest_wait)(state)
        error = state.outcome.exception() if state.outcome is not None else None
        return min(self.longest_wait, min(self.longest_wait, retry_after(error)) + drawn)


def retry_after(error: BaseException | None) -> float:
    """The seconds that an error asks one to wait before the next attempt; 0 if it names none, or nonsense."""
    seconds = getattr(error, "retry_after", 0.0)
    named = isinstance(seconds, int | float) and not isinstance(seconds, bool) and seconds > 0
    return seconds if named else 0.0


NEVER = Retry(attempts=1)

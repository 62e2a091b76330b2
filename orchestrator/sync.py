"""The one place where async code is run for callers without an event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from ..errors import InputError

T = TypeVar("T")


def wait(function: Callable[[], Awaitable[T]]) -> T:
    """Run an async function to its end. Raises InputError inside a running event loop."""

    async def main() -> T:
        return await function()

    try:
        return anyio.run(main)
    except RuntimeError as error:
        if str(error).startswith("Already running"):
            raise InputError(
                "run_sync was called inside a running event loop; write 'await graph.run(…)' there"
            ) from None
        raise

"""Listings: the checks of one module, named and described where they are written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from .check import Check, Trial

Run: TypeAlias = Callable[[Trial], Awaitable[object]]


def listed(
    checks: list[Check], name: str, *, needs: Sequence[str] = (), silent: bool = False, optional: bool = False
) -> Callable[[Run], Run]:
    """Add the function below to the list; what it says is its docstring. See `Check`."""

    def add(run: Run) -> Run:
        says = " ".join((run.__doc__ or "").split())
        checks.append(Check(name, says, run, tuple(needs), silent, optional))
        return run

    return add

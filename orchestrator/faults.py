"""Errors of nodes: where in a run they come from, and how they are given as values."""

from __future__ import annotations

from contextlib import suppress

from .joins import Failure


def failure_of(error: Exception, run: str, path: str) -> Failure:
    """An error as a value, with the innermost node of the run that it comes from, or else `path`."""
    return Failure(origin(error, run, path), type(error).__name__, str(error))


def blame(error: BaseException, run: str, path: str) -> None:
    """Note on an error the innermost node of the run that it comes from."""
    if origin(error, run, "") == "":
        with suppress(AttributeError):
            error.plait_origin = (run, path)  # type: ignore[attr-defined]


def origin(error: BaseException, run: str, path: str) -> str:
    """The innermost node of the run that an error comes from; `path` if none was noted."""
    noted = getattr(error, "plait_origin", ("", ""))
    return str(noted[1]) if noted[0] == run else path

"""Contexts that nodes of a run still read: each is released by its last reader (DESIGN.md §6, compilation)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from ..engines.base import Context
from ..errors import RunError

Held: TypeAlias = Context | tuple[Context, ...] | None
"""What others may continue of a node: one context, one for each sample, or none."""


class Holds:
    """Counts who holds a context; whoever drops the last hold releases it.

    A node gives its context away with one hold on it. A graph in a graph may give back a context that it was given, so
    one context can have several holders.
    """

    def __init__(self) -> None:
        self._holders: dict[int, tuple[Context, int]] = {}

    def hold(self, held: Held) -> None:
        for context in each(held):
            _, count = self._holders.get(id(context), (context, 0))
            self._holders[id(context)] = context, count + 1

    def drop(self, held: Held) -> None:
        for context in each(held):
            _, count = self._holders.pop(id(context))
            if count > 1:
                self._holders[id(context)] = context, count - 1
            else:
                context.release()

    def check_integrity(self) -> None:
        """When all is done: every hold was dropped."""
        if self._holders:
            raise RunError(f"{len(self._holders)} contexts are still held")


def each(held: Held) -> Iterator[Context]:
    """The contexts in what is held."""
    if isinstance(held, tuple):
        yield from held
    elif held is not None:
        yield held

"""Prefixes: which prompts a server is encoding now, so that what several have in common is encoded once.

SGLang finds in its cache what it has encoded, and not what it is encoding: of forks that come at once each encodes the
whole context, as many as fit one batch even with `--schedule-policy lpm`. So they wait here for the first one's first
token.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import anyio

LEAST = 32
"""Tokens in common that are worth waiting for."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoding:
    """A prompt that is being encoded, with an adapter."""

    tokens: tuple[int, ...]
    adapter: str
    done: anyio.Event = field(default_factory=anyio.Event)


class Prefixes:
    """The prompts of one engine that are being encoded, in the order in which they were sent."""

    def __init__(self) -> None:
        self._encoding: list[Encoding] = []

    async def enter(self, tokens: tuple[int, ...], adapter: str) -> Encoding:
        """Wait until a prompt can find in the cache what it has in common with others; it then `leave`s."""
        found = LEAST
        while True:
            shared, other = self._longest(tokens, adapter)
            if other is None or shared <= found:
                break
            await other.done.wait()
            found = shared
        mine = Encoding(tokens, adapter)
        self._encoding.append(mine)
        return mine

    def leave(self, encoding: Encoding) -> None:
        """It is encoded, or never will be. Idempotent."""
        if not encoding.done.is_set():
            self._encoding.remove(encoding)
            encoding.done.set()

    def _longest(self, tokens: tuple[int, ...], adapter: str) -> tuple[int, Encoding | None]:
        """The first of those with most in common."""
        shared, found = 0, None
        for other in self._encoding:
            if other.adapter == adapter and (count := alike(tokens, other.tokens)) > shared:
                shared, found = count, other
        return shared, found


def alike(tokens: tuple[int, ...], others: tuple[int, ...]) -> int:
    """How many tokens both begin with."""
    low, high = 0, min(len(tokens), len(others))
    while low < high:
        middle = (low + high + 1) // 2
        if tokens[low:middle] == others[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low

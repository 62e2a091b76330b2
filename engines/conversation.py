"""Conversations: the messages rendered into a context so far, and what further ones add to its text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from .base import Message

TURN = "\u2402turn\u2403"
"""Stands for the assistant's latest turn, so that what follows it can be told from what the template makes of it."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages rendered into a context so far; the assistant's turn opened at character `opened` of its text."""

    messages: tuple[Message, ...]
    opened: int

    def without(self, start: int, stop: int) -> Conversation:
        """The same where the characters [start, stop) are gone from the text."""
        return replace(self, opened=self.opened - max(0, min(stop, self.opened) - start))

    def followed_by(self, said: str, messages: Sequence[Message]) -> tuple[Message, ...]:
        """All messages, where the assistant has said `said` in its turn."""
        return (*self.messages, Message("assistant", said), *messages)

    def histories(self, said: str, messages: Sequence[Message]) -> Iterator[tuple[Message, ...]]:
        """What to render, one after the other until TURN is in it. What stands behind TURN then closes the turn, in
        which the assistant said `said`, and adds the messages."""
        yield self.followed_by(TURN, messages)
        # for a template that drops earlier turns: let it see only this one
        yield (Message("user", said[:1]), Message("assistant", TURN), *messages)

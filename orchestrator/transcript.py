"""Transcripts: what was said in the conversations of a recorded run, and by whom."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .records import NODE, Record


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a conversation. `written` says that the model wrote it in this run; all else was given to it.

    Given text that is no message of its own (a tool's result in mid-turn) has the role `tool`.
    """

    role: str
    text: str
    written: bool = False


@dataclass(frozen=True, slots=True)
class Transcript:
    """One conversation, by the path of the node that led it. What the context has dropped is still there; what was
    thrown away and written again is not."""

    path: str
    parts: tuple[Part, ...]


def transcripts(records: Iterable[Record]) -> list[Transcript]:
    """The conversations of a run in which a model has written something, in the order in which they began.

    A thread on a fork of another conversation begins with what it shares with that one. Teams are left out.
    """
    talks: list[_Talk] = []
    for record in records:
        if record.sample == NODE or record.state != "done" or not record.value:
            continue
        if record.kind == "context":
            _given(talks, record)
        elif record.kind == "think":
            _wrote(talks, record)
    return [
        Transcript(talk.path, tuple(part for part, _ in talk.parts))
        for talk in talks
        if any(part.written for part, _ in talk.parts[talk.shared :])
    ]


class _Size(NamedTuple):
    """How much a context holds: tokens, and characters of its text (-1 where that isn't known)."""

    tokens: int
    characters: int

    def fits(self, other: _Size) -> bool:
        return self.tokens == other.tokens and (-1 in (self[1], other[1]) or self.characters == other.characters)


@dataclass(slots=True)
class _Talk:
    """A conversation under way: its parts, each with the size of the context behind it. The first `shared` are another
    one's."""

    path: str
    parts: list[tuple[Part, _Size]] = field(default_factory=list)
    shared: int = 0

    def go_on_from(self, size: _Size) -> None:
        """What comes next stands behind so much: what was said beyond it has been thrown away."""
        self.parts = self.parts[: self.reach(size) or len(self.parts)]

    def reach(self, size: _Size) -> int:
        """How many parts lead to a context of that size; 0 where none do."""
        return max((count for count, (_, end) in enumerate(self.parts, 1) if end.fits(size)), default=0)

    def add(self, role: str, text: str, end: _Size, *, written: bool = False) -> None:
        if text:
            self.parts.append((Part(role, text, written), end))


def _given(talks: list[_Talk], record: Record) -> None:
    """A context was started, extended or cut."""
    length, shared, text, usage, *said = json.loads(record.value)
    size = _Size(length, shared + len(text))
    if usage.get("pruned"):
        talk = _talk_at(talks, record.path)
        if talk is not None and talk.parts:
            talk.parts[-1] = (talk.parts[-1][0], size)
        return
    before = length - int(usage.get("prompt", 0))
    if before == 0:
        talk = _Talk(record.path)
        talks.append(talk)
    else:
        talk = _going_on(talks, record.path, _Size(before, shared))
    for role, content in said[0] if said else [["user" if before == 0 else "tool", text]]:
        talk.add(role, content, size)


def _wrote(talks: list[_Talk], record: Record) -> None:
    """A generation ended. One with a title is a node of its own below the conversation's."""
    said: dict[str, Any] = json.loads(record.value)
    before = said["length"] - int(record.usage.get("generated", 0))
    path = record.path if _talk_at(talks, record.path) else record.path.rpartition("/")[0]
    talk = _going_on(talks, path, _Size(before, -1))
    characters = talk.parts[-1][1].characters if talk.parts else -1
    after = characters + len(said["text"]) if characters >= 0 else -1
    talk.add("assistant", said["text"], _Size(said["length"], after), written=True)


def _going_on(talks: list[_Talk], path: str, size: _Size) -> _Talk:
    """The conversation at a path, or a new one there that goes on from the latest with a context of that size."""
    talk = _talk_at(talks, path)
    if talk is not None:
        talk.go_on_from(size)
        return talk
    found = next((other for other in reversed(talks) if other.reach(size)), None)
    shared = found.reach(size) if found is not None else 0
    new = _Talk(path, list(found.parts[:shared]) if found is not None else [], shared)
    talks.append(new)
    return new


def _talk_at(talks: Sequence[_Talk], path: str) -> _Talk | None:
    return next((talk for talk in reversed(talks) if talk.path == path), None)

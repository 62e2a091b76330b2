"""YAML and JSON text as values that know the line on which they stand."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..errors import InputError, MissingExtraError

DEEPEST = 50
"""How deep values may be nested: a memory needs six levels."""

Value: TypeAlias = "str | list[Marked] | dict[str, Marked]"

_DECODER = json.JSONDecoder()
_BLANK = re.compile(r"[ \t\n\r]*")
_ATOM = re.compile(r"-?[0-9][0-9.eE+-]*|true|false|null")


@dataclass(frozen=True, slots=True)
class Marked:
    """A text, a list or a mapping, and its line, counted from 1. Numbers and truth values are texts as they were
    written, nothing is an empty text."""

    line: int
    value: Value

    @property
    def mapping(self) -> dict[str, Marked]:
        """The mapping, empty if this is none."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> list[Marked]:
        """The list, empty if this is none."""
        return self.value if isinstance(self.value, list) else []

    @property
    def text(self) -> str:
        """The text, empty if this is none."""
        return self.value.strip() if isinstance(self.value, str) else ""


class MarkedError(InputError):
    """A text can't be read as YAML or JSON; `line` says where."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason


def read_json(text: str) -> Marked:
    """Raises MarkedError."""
    try:
        return _JsonReader(text).read()
    except json.JSONDecodeError as error:
        raise MarkedError(error.lineno, f"not JSON: {error.msg}") from error


def read_yaml(text: str) -> Marked:
    """Raises MarkedError, and MissingExtraError where PyYAML is not installed."""
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise MissingExtraError("reading YAML", "memory") from error
    try:
        return _from_events(yaml.parse(text, yaml.CSafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise MarkedError(mark.line + 1 if mark else 1, f"not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise MarkedError(1, f"not YAML: {error}".splitlines()[0]) from error


def _from_events(events: Iterator[Any]) -> Marked:
    """The first document."""
    from yaml import AliasEvent, CollectionEndEvent, MappingStartEvent, ScalarEvent, SequenceStartEvent

    open_: list[tuple[Marked, list[Marked]]] = [(Marked(1, ""), [])]
    for event in events:
        if isinstance(event, CollectionEndEvent):
            marked, parts = open_.pop()
            value = parts if isinstance(marked.value, list) else _mapping(marked.line, parts)
            open_[-1][1].append(Marked(marked.line, value))
        elif isinstance(event, SequenceStartEvent | MappingStartEvent):
            start: Value = [] if isinstance(event, SequenceStartEvent) else {}
            open_.append((Marked(_line(event), start), []))
            if len(open_) > DEEPEST:
                raise MarkedError(_line(event), f"values are nested more than {DEEPEST} deep")
        elif isinstance(event, ScalarEvent):
            nothing = event.implicit[0] and event.value in ("", "~", "null", "Null", "NULL")
            open_[-1][1].append(Marked(_line(event), "" if nothing else event.value))
        elif isinstance(event, AliasEvent):
            raise MarkedError(_line(event), f"alias *{event.anchor} is not read; write the value out")
    return open_[0][1][0] if open_[0][1] else Marked(1, "")


def _mapping(line: int, parts: list[Marked]) -> dict[str, Marked]:
    """Keys and values in turn."""
    names = [key.text if isinstance(key.value, str) else "" for key in parts[::2]]
    for name, key in zip(names, parts[::2], strict=True):
        if not name:
            raise MarkedError(key.line, "a key is empty, or no text")
    return dict(zip(names, parts[1::2], strict=True))


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


class _JsonReader:
    """Reads one JSON text. (The standard library's reader forgets where it found a value.)"""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._ends = [match.start() for match in re.finditer("\n", text)]

    def read(self) -> Marked:
        self._skip()
        value = self._value(0)
        if self._at != len(self._text):
            raise self._error("more text after the value")
        return value

    def _value(self, depth: int) -> Marked:
        """The value that begins here; what is blank after it is skipped."""
        if depth > DEEPEST:
            raise self._error(f"values are nested more than {DEEPEST} deep")
        line, first = bisect_left(self._ends, self._at) + 1, self._text[self._at : self._at + 1]
        value: Value
        if first == '"':
            value = self._string()
        elif first == "[":
            value = [self._value(depth + 1) for _ in self._each("]")]
        elif first == "{":
            value = dict(self._member(depth + 1) for _ in self._each("}"))
        elif atom := _ATOM.match(self._text, self._at):
            value, self._at = "" if atom[0] == "null" else atom[0], atom.end()
        else:
            raise self._error("a value is missing")
        self._skip()
        return Marked(line, value)

    def _member(self, depth: int) -> tuple[str, Marked]:
        if not self._text.startswith('"', self._at):
            raise self._error("a key in double quotes is missing")
        key = self._string()
        self._skip()
        self._take(":")
        return key, self._value(depth)

    def _each(self, closing: str) -> Iterator[None]:
        """Once for each part between brackets, standing where that begins."""
        self._at += 1
        self._skip()
        ended = self._closes(closing)
        while not ended:
            yield
            ended = self._closes(closing)
            if not ended:
                self._take(",")

    def _string(self) -> str:
        value, self._at = _DECODER.raw_decode(self._text, self._at)
        return str(value)

    def _closes(self, sign: str) -> bool:
        found = self._text.startswith(sign, self._at)
        self._at += found
        return found

    def _take(self, sign: str) -> None:
        if not self._closes(sign):
            raise self._error(f"'{sign}' is missing")
        self._skip()

    def _skip(self) -> None:
        if match := _BLANK.match(self._text, self._at):
            self._at = match.end()

    def _error(self, reason: str) -> json.JSONDecodeError:
        return json.JSONDecodeError(reason, self._text, self._at)

"""Scanning text that is still being written: where a JSON value ends, and what stands between tags."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_IN_TEXT = re.compile(r'(?:[^"\\]|\\.)*', re.DOTALL)
_OUTSIDE = re.compile(r'[^"\[\]{}]*')


@dataclass(slots=True)
class ValueScanner:
    """Finds where a JSON object or array ends, from its first bracket on.

    It looks at each character once, and at nothing but brackets, quotes and backslashes: whether the value is JSON is
    for a parser to say.
    """

    _depth: int = 0
    _in_text: bool = False
    _escaped: bool = False

    def feed(self, text: str, start: int = 0) -> int:
        """The index after the value's last bracket; -1 where the text ends before it."""
        at = start
        while at < len(text):
            if self._escaped:
                self._escaped = False
                at += 1
            elif self._in_text:
                at = self._inside(text, at)
            else:
                at = self._outside(text, at)
                if self._depth == 0:
                    return at
        return -1

    def _inside(self, text: str, at: int) -> int:
        """Go on in a string, past its quote or past a backslash that is the last character so far."""
        found = _IN_TEXT.match(text, at)
        at = found.end() if found else at
        if at < len(text):
            self._in_text = self._escaped = text[at] == "\\"
        return at + 1

    def _outside(self, text: str, at: int) -> int:
        """Go on past the next bracket or quote."""
        found = _OUTSIDE.match(text, at)
        at = found.end() if found else at
        if at < len(text):
            self._in_text = text[at] == '"'
            self._depth += (text[at] in "[{") - (text[at] in "]}")
        return at + 1


@dataclass(slots=True)
class TagReader:
    """Takes texts between tags out of a text. `tags` says what closes each opening tag; tags don't nest.

    `separators` divide what stands between some of them; `tag` is the one that is open, `rest` what was not yet given
    of it, `outside` what stood between no tags.
    """

    tags: Mapping[str, str]
    separators: Mapping[str, str] = field(default_factory=dict)
    outside: str = ""
    tag: str = ""
    rest: str = ""
    _searched: int = 0

    def feed(self, text: str) -> list[tuple[str, str]]:
        """Opening tag and text of each part that has become complete, in order."""
        self.rest += text
        found = []
        while (place := self._next()) is not None:
            start, marker = place
            before, self.rest, self._searched = self.rest[:start], self.rest[start + len(marker) :], 0
            if not self.tag:
                self.outside += before
                self.tag = marker
                continue
            found.append((self.tag, before))
            if marker == self.tags[self.tag]:
                self.tag = ""
        return found

    def _next(self) -> tuple[int, str] | None:
        """Where the next marker stands, and which it is. What may be the beginning of one is left for later."""
        markers = [self.tags[self.tag], self.separators.get(self.tag, "")] if self.tag else list(self.tags)
        known = [marker for marker in markers if marker]
        found = [(self.rest.find(marker, self._searched), marker) for marker in known]
        places = [place for place in found if place[0] >= 0]
        if places:
            return min(places)
        self._searched = max(0, len(self.rest) - max(map(len, known)) + 1)
        if not self.tag:
            self.outside += self.rest[: self._searched]
            self.rest, self._searched = self.rest[self._searched :], 0
        return None

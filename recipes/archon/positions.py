"""JSON with places: where in a file each value stands, so that what is wrong with it can be pointed at."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ...errors import ConfigError

Place: TypeAlias = tuple[str | int, ...]
"""The way to a value: keys and indices from the top."""

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[][{}:,]|[^][{}:,\s"]+', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Located:
    """A value read from JSON, and the offset of each value in the text by its way."""

    text: str
    value: Any
    offsets: Mapping[Place, int] = field(repr=False)

    def error(self, message: str, *place: str | int) -> ConfigError:
        """An error at a value, or at the nearest one around it that is there."""
        while place not in self.offsets and place:
            place = place[:-1]
        return ConfigError(message, *_line_and_column(self.text, self.offsets.get(place, 0)))


def read_located(text: str) -> Located:
    """Raises ConfigError with line and column for a text that is no JSON."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"no JSON: {error.msg}", error.lineno, error.colno) from None
    except (RecursionError, ValueError) as error:
        raise ConfigError(f"no JSON that can be read: {type(error).__name__}", 1, 1) from None
    return Located(text, value, _offsets(text))


def _offsets(text: str) -> dict[Place, int]:
    """Of a text that is JSON: a walk over its tokens that keeps the way to where it is."""
    found: dict[Place, int] = {}
    way: list[str | int] = []
    awaits_key = False
    for token in _TOKEN.finditer(text):
        said = token[0]
        if awaits_key and said[0] == '"':
            way[-1], awaits_key = json.loads(said), False
        elif said == ",":
            if isinstance(way[-1], int):
                way[-1] += 1
            else:
                awaits_key = True
        elif said in "]}":
            way.pop()
            awaits_key = False
        elif said != ":":
            found.setdefault(tuple(way), token.start())
            if said in "[{":
                way.append("" if said == "{" else 0)
                awaits_key = said == "{"
    return found


def _line_and_column(text: str, offset: int) -> tuple[int, int]:
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)

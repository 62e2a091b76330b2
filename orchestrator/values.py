"""Values as the journal keeps them: JSON text that reads back equal, or no text at all."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_PLAIN, _TYPED = "=", ":"
"""The first character of a text: JSON that is the value, or JSON that the value's type reads."""
_ATOMS = frozenset({str, int, float, bool, type(None)})


def write_value(kind: Any, value: object) -> str | None:
    """A value of a type as text; None where no text would read back equal, such as for an open file."""
    try:
        if is_plain(value):
            return _PLAIN + json.dumps(value)
        adapter = _adapter(kind)
        text = json.dumps(adapter.dump_python(value, mode="json", warnings=False))
        read = adapter.validate_json(text)
        return _TYPED + text if type(read) is type(value) and bool(read == value) else None
    except Exception:  # a type's own code may fail in any way; then the value is not kept
        return None


def read_value(kind: Any, text: str) -> Any:
    """The value that `write_value` wrote. Raises ValueError for a text that is none of the type."""
    if text[:1] == _PLAIN:
        return json.loads(text[1:])
    return _adapter(kind).validate_json(text[1:])


def is_plain(value: object) -> bool:
    """Whether JSON holds the value as it is: no tuple, no subclass, no key but text."""
    kind = type(value)
    if kind in _ATOMS:
        return True
    if kind is list:
        return all(map(is_plain, value))  # type: ignore[call-overload]
    if kind is dict:
        return all(type(key) is str and is_plain(item) for key, item in value.items())  # type: ignore[attr-defined]
    return False


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)

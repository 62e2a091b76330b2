"""Fingerprints: short texts that are equal where definitions and inputs are (the journal's keys)."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import partial
from hashlib import blake2b
from types import CodeType
from typing import Any

from ..tools import Tool
from .values import is_plain

UNKNOWN = "?"
"""Begins the fingerprint of something that holds an object whose content can't be read: equal ones need not be."""
_KEPT = 20_000
_definitions: dict[int, tuple[object, str]] = {}
"""By id; the thing is kept beside, so that no other has its id."""
_NOT_COMPARED = frozenset({"where"})
"""Fields that say where something stands, not what it is; so do those that a dataclass does not compare."""


def fingerprint(*parts: object) -> str:
    """128 bits as hex. Equal for equal parts on every machine, whatever the order of sets.

    A function is its name, a tool also its schema: a run that is resumed may have its functions mended.
    """
    return _digest([part if is_plain(part) else _shown(part) for part in parts])


def definition(thing: object) -> str:
    """The fingerprint of a written node, a tool or a function. The latest are kept: a graph is run more than once."""
    found = _definitions.get(id(thing))
    if found is None:
        if len(_definitions) >= _KEPT:
            _definitions.clear()
        found = _definitions[id(thing)] = thing, fingerprint(thing)
    return found[1]


def deep_fingerprint(*parts: object) -> str:
    """As `fingerprint`, but a function is also its code; not what it closes over or calls."""
    return _digest([part if is_plain(part) else _shown(part, deep=True) for part in parts])


def _digest(shown: list[Any]) -> str:
    digest = blake2b(json.dumps(shown).encode(), digest_size=16).hexdigest()
    return UNKNOWN + digest if any(map(_is_unknown, shown)) else digest


def _is_unknown(shown: object) -> bool:
    if isinstance(shown, dict):
        return UNKNOWN in shown or any(map(_is_unknown, shown.values()))
    return isinstance(shown, list) and any(map(_is_unknown, shown))


def _shown(value: Any, *, deep: bool = False) -> object:
    """A value as plain JSON that tells it from other values."""
    if is_plain(value):
        return {"json": value} if isinstance(value, dict) else value
    show = partial(_shown, deep=deep)
    if isinstance(value, Enum):
        return {_name(type(value)): value.name}
    if isinstance(value, list | tuple):
        return [show(item) for item in value]
    if isinstance(value, Mapping):
        return {"map": [[show(key), show(item)] for key, item in value.items()]}
    if isinstance(value, set | frozenset):
        return {"set": sorted(json.dumps(show(item)) for item in value)}
    if isinstance(value, bytes | complex):
        return {_name(type(value)): repr(value)}
    if isinstance(value, Tool):
        return {"tool": value.name, "parameters": show(value.parameters), "code": show(value.function)}
    if isinstance(value, partial):
        return {"partial": [show(value.func), show(value.args), show(value.keywords)]}
    if is_dataclass(value) and not isinstance(value, type):
        return {_name(type(value)): dict(_fields(value, deep=deep))}
    if hasattr(type(value), "model_fields"):
        return {_name(type(value)): {name: show(getattr(value, name)) for name in type(value).model_fields}}
    return _shown_code(value, deep=deep)


def _shown_code(value: Any, *, deep: bool) -> object:
    """A type or a function; all else is unknown."""
    if value is inspect.Parameter.empty:
        return {"type": "empty"}
    if isinstance(value, type):
        return {"type": _name(value)}
    function = inspect.unwrap(value) if callable(value) else value
    code = getattr(function, "__code__", None)
    if isinstance(code, CodeType):
        return {"function": _name(function), "code": _code(code) if deep else ""}
    if inspect.isbuiltin(value):
        return {"function": _name(value)}
    if type(value).__module__ in {"typing", "types"}:  # list[int], int | None and their like
        return {"type": repr(value)}
    return {UNKNOWN: _name(type(value))}


def _fields(value: Any, *, deep: bool) -> Iterator[tuple[str, object]]:
    for field in fields(value):
        if field.compare and field.name not in _NOT_COMPARED:
            yield field.name, _shown(getattr(value, field.name), deep=deep)


def _code(code: CodeType) -> list[object]:
    constants = [_code(item) if isinstance(item, CodeType) else repr(item) for item in code.co_consts]
    return [code.co_code.hex(), list(code.co_names), constants]


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value)}"

"""Entries: the objects of a graph's JSON, read key by key, with the place in every message."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from ..errors import GraphError, InputError
from ..tools import Retry, Tool
from ..tools.retry import NEVER
from .graph import Where
from .joins import Join, all_of, any_of, k_of, settled
from .names import Names
from .types import name_of

T = TypeVar("T")
_JOINS: Mapping[str, Join] = {join.name: join for join in (all_of, any_of, settled)}


class Entry:
    """One object, with its place for messages; what was not read when it is closed is refused."""

    def __init__(self, data: object, place: str, names: Names) -> None:
        self._place = place
        self.names = names
        if not isinstance(data, dict):
            raise self.error(f"an object is needed, not {data!r:.60}")
        self._data: dict[str, Any] = data
        self._read: set[str] = set()

    def error(self, message: str) -> GraphError:
        return GraphError(f"a graph's JSON, at {self._place}: {message}")

    @contextmanager
    def located(self) -> Iterator[None]:
        """Errors of the builder are told with the place."""
        try:
            yield
        except GraphError as error:
            if str(error).startswith("a graph's JSON"):
                raise
            raise self.error(str(error)) from None
        except InputError as error:
            raise self.error(str(error)) from None

    def has(self, key: str) -> bool:
        return key in self._data

    @property
    def names_held(self) -> list[str]:
        return list(self._data)

    def holds_object(self, key: str) -> bool:
        return isinstance(self._data.get(key), dict)

    def skip(self, key: str) -> None:
        """A key that says nothing which the others don't."""
        self._read.add(key)

    def take(self, key: str, kind: type[T]) -> T:
        self._read.add(key)
        if key not in self._data:
            raise self.error(f"'{key}' is missing")
        value = self._data[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error(f"'{key}' is {value!r:.60}; it must be of type {name_of(kind)}")
        return value

    def inner(self, key: str) -> Entry:
        return Entry(self.take(key, dict), f"{self._place}.{key}", self.names)

    def entries(self, key: str) -> Iterator[Entry]:
        for index, data in enumerate(self.take(key, list)):
            yield Entry(data, f"{self._place}.{key}[{index}]", self.names)

    def texts(self, key: str) -> list[str]:
        found = self.take(key, list) if self.has(key) else []
        if not all(isinstance(text, str) for text in found):
            raise self.error(f"'{key}' must be a list of texts")
        return found

    def stops(self) -> list[str | int]:
        found = self.take("stop", list)
        if not all(isinstance(stop, str | int) and not isinstance(stop, bool) for stop in found):
            raise self.error("'stop' must be a list of texts and token ids")
        return found

    def where(self) -> Where:
        file, _, line = self.take("where", str).rpartition(":")
        if not line.isdecimal() or len(line) > 9:
            raise self.error("'where' must be a file and a line, as in 'graph.py:3'")
        return Where(file, int(line))

    def kind(self, key: str) -> Any:
        """A type by its expression."""
        with self.located():
            return self.names.find_type(self.take(key, str))

    def find(self, key: str) -> Any:
        """A tool or function by name."""
        with self.located():
            found = self.names.find(self.take(key, str))
        if not isinstance(found, Tool) and not callable(found):
            raise self.error(f"'{self._data[key]}' can't be called")
        return found

    def value(self, key: str) -> Any:
        """A value, made of its JSON by its type where one is named."""
        if self.has(f"{key}_shown"):
            raise self.error(f"{self._data[f'{key}_shown']!s:.60} has no JSON form and can't be read back")
        value = self.take(key, object)
        if not self.has(f"{key}_type"):
            return value
        kind = self.kind(f"{key}_type")
        from pydantic import TypeAdapter

        try:
            return TypeAdapter(kind).validate_json(json.dumps(value))
        except Exception as error:  # a type's own code may fail in any way
            raise self.error(f"'{key}' is no {name_of(kind)}: {str(error).splitlines()[0]}") from None

    def timeout(self) -> float:
        if not self.has("timeout"):
            return math.inf
        seconds = self.take("timeout", object)
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds < 0:
            raise self.error(f"'timeout' is {seconds!r:.60}; it must be seconds")
        return seconds

    def after(self) -> str:
        return self.take("after", str) if self.has("after") else ""

    def join(self) -> Join:
        if not self.has("join"):
            return all_of
        if self.holds_object("join"):
            holder = self.inner("join")
            with self.located():
                join = k_of(holder.take("k_of", int))
            holder.close()
            return join
        name = self.take("join", str)
        if name not in _JOINS:
            raise self.error(f"there is no join '{name}'; known: {', '.join(_JOINS)}, {{'k_of': 3}}")
        return _JOINS[name]

    def retry(self) -> Retry:
        if not self.has("retry"):
            return NEVER
        entry = self.inner("retry")
        with entry.located():
            kinds = tuple(self.names.find_error(name) for name in entry.texts("on"))
            options = entry.rest(Retry, but=["on"])
            return Retry(on=kinds, **options)

    def record(self, key: str, kind: type[T]) -> T:
        """A dataclass from the fields that are not as they are by default."""
        entry = self.inner(key)
        with entry.located():
            return kind(**entry.rest(kind))

    def rest(self, kind: Any, but: Collection[str] = ()) -> dict[str, Any]:
        """The fields of a dataclass, checked by their types."""
        from pydantic import TypeAdapter, ValidationError

        found = {}
        for field in fields(kind):
            if field.default is MISSING and field.default_factory is MISSING and field.name not in self._data:
                raise self.error(f"'{field.name}' is missing")
        for name, value in self._data.items():
            if name in but:
                continue
            wanted = inspect.get_annotations(kind, eval_str=True).get(name)
            if wanted is None:
                raise self.error(f"there is no '{name}' in {kind.__name__}")
            try:
                found[name] = TypeAdapter(wanted).validate_python(value)
            except ValidationError as error:
                reason = error.errors(include_url=False)[0]["msg"]
                raise self.error(f"'{name}' is {value!r:.60}: {reason}") from None
        return found

    def close(self) -> None:
        """Raise GraphError for a key that nothing has read."""
        known = self._read | {f"{key}_type" for key in self._read}
        for key in self._data:
            if key not in known:
                raise self.error(f"'{key}' is not known here")

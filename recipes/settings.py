"""Settings of recipes: their keyword parameters, read from texts such as "buffer=1" and checked against their types."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from ..errors import InputError

_KINDS: dict[Any, str] = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


@dataclass(frozen=True, slots=True)
class Setting:
    """A parameter that can be given as text: its type, what to write for it, and what it is otherwise."""

    name: str
    type: Any
    kind: str
    default: object

    def read(self, recipe: str, text: str) -> object:
        """The value of a text. Raises InputError."""
        try:
            return TypeAdapter(self.type).validate_python(text)
        except ValidationError as error:
            raise InputError(f"recipe '{recipe}' can't take {self.name}={text!r}: it is {self.kind}") from error


def settings_of(make: Callable[..., Any]) -> dict[str, Setting]:
    """The settings of a recipe's function, by name."""
    hints, found = get_type_hints(make), {}
    for name, parameter in inspect.signature(make).parameters.items():
        kind = _kind(hints.get(name))
        if parameter.kind is parameter.KEYWORD_ONLY and kind:
            found[name] = Setting(name, hints[name], kind, parameter.default)
    return found


def read_settings(recipe: str, make: Callable[..., Any], given: Sequence[str]) -> dict[str, Any]:
    """Keyword arguments from texts `NAME=VALUE`. Raises InputError for one that can't be used."""
    settings, values = settings_of(make), dict[str, Any]()
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"setting {text!r} can't be read: write NAME=VALUE; {_known(recipe, settings)}")
        if name not in settings:
            near = get_close_matches(name, settings, n=1)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise InputError(f"recipe '{recipe}' has no setting '{name}'; {hint}{_known(recipe, settings)}")
        values[name] = settings[name].read(recipe, value)
    return values


def at_least(low: int, **values: int) -> None:
    """Refuse a parameter below what makes sense. Raises InputError."""
    for name, value in values.items():
        if value < low:
            raise InputError(f"{name}={value} can't be used; it must be {low} or more")


def _kind(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, get_args(hint)))
    return _KINDS.get(hint, "")


def _known(recipe: str, settings: Mapping[str, Setting]) -> str:
    return f"settings of '{recipe}': {', '.join(settings) or 'none'}"

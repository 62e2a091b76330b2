"""What functions, tools and drivers take and give, for the build-time check."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, get_args, get_origin

from ..tools import Tool
from .types import hints

NO_NAMES: Mapping[str, Any] = MappingProxyType({})
_EMPTY = inspect.Parameter.empty
_REST = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument. `rest` marks `*args` and `**kwargs`."""

    name: str
    type: Any
    default: Any = _EMPTY
    rest: bool = False

    @property
    def required(self) -> bool:
        return self.default is _EMPTY and not self.rest


def parameters_of(target: Tool | Callable[..., Any], names: Mapping[str, Any] = NO_NAMES) -> list[Parameter]:
    """The arguments of a function or tool, typed by its annotations; `names` are further names they may use."""
    function = target.function if isinstance(target, Tool) else target
    try:
        found = inspect.signature(function).parameters
    except (TypeError, ValueError):  # a builtin that does not say
        return [Parameter("arguments", Any, rest=True)]
    kinds = hints(function, names)
    return [
        Parameter(name, kinds.get(name, Any), parameter.default, parameter.kind in _REST)
        for name, parameter in found.items()
    ]


def return_type(function: Callable[..., Any], names: Mapping[str, Any]) -> Any:
    """What a function promises to give, awaited; a class gives itself; Any where it does not say."""
    if inspect.isclass(function):
        return function
    kind = hints(function, names).get("return", Any)
    if get_origin(kind) in (Awaitable, Coroutine):
        return get_args(kind)[-1]
    return kind

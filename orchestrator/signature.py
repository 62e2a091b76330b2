"""What functions, tools and drivers take and give, for the build-time check."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Coroutine, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, get_args, get_origin

from ..tools import Tool
from .graph import Graph, Target
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


def parameters_of(target: Target, names: Mapping[str, Any] = NO_NAMES) -> list[Parameter]:
    """The arguments of a target, typed by its annotations; `names` are further names that they may use."""
    if isinstance(target, Graph):
        return [Parameter(node.name, node.type, node.default) for node in target.inputs]
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


def takes_by_place(target: Target, name: str) -> bool:
    """Whether a function takes an argument by its place only, as `len` does."""
    try:
        found = inspect.signature(target).parameters.get(name) if callable(target) else None
    except (TypeError, ValueError):
        return False
    return found is not None and found.kind is inspect.Parameter.POSITIONAL_ONLY


def return_type(target: Target, names: Mapping[str, Any] = NO_NAMES) -> Any:
    """What a target promises to give, awaited; a class gives itself; Any where it does not say."""
    if isinstance(target, Graph | Tool):
        return target.returns
    if inspect.isclass(target):
        return target
    kind = hints(target, names).get("return", Any)
    if get_origin(kind) in (Awaitable, Coroutine):
        return get_args(kind)[-1]
    return kind

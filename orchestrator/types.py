"""Types of values that flow along edges, and which of them fit where (DESIGN.md §6, build-time type check)."""

from __future__ import annotations

import collections.abc
import enum
import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

UNIONS = (Union, types.UnionType)
_CALLABLE: Any = collections.abc.Callable
_NUMBERS = {(int, float), (int, complex), (float, complex)}


def fits(given: Any, wanted: Any) -> bool:
    """Whether every value of type `given` may stand where `wanted` is asked for.

    Python's rules, with containers taken as read-only (`list[bool]` fits `list[int]`), and one more: a `str` is no
    list of strings.
    """
    given, wanted = plain(given), plain(wanted)
    if given is Any or wanted is Any or wanted is object or given == wanted:
        return True
    if get_origin(given) in UNIONS:
        return all(fits(option, wanted) for option in get_args(given))
    if get_origin(wanted) in UNIONS:
        return any(fits(given, option) for option in get_args(wanted))
    if get_origin(given) is Literal:
        return all(_literal_fits(value, wanted) for value in get_args(given))
    if get_origin(wanted) is Literal:
        return False
    return _class_fits(given, wanted)


def of_value(value: object) -> Any:
    """The type of a value given as it is; containers by their elements."""
    if value is None:
        return types.NoneType
    if isinstance(value, list | set | frozenset) and value:
        return type(value)[join([of_value(item) for item in value])]  # type: ignore[index]
    if isinstance(value, dict) and value:
        return dict[join(map(of_value, value)), join(map(of_value, value.values()))]  # type: ignore[misc]
    if isinstance(value, tuple):
        return tuple[tuple(of_value(item) for item in value)]  # type: ignore[misc]
    if isinstance(value, list | dict | set | frozenset):
        return type(value)
    return type(value)


def join(kinds: collections.abc.Iterable[Any]) -> Any:
    """The union of some types."""
    different: list[Any] = []
    for kind in kinds:
        if kind not in different:
            different.append(kind)
    return functools.reduce(lambda left, right: Union[left, right], different) if different else Any  # noqa: UP007


def element(kind: Any) -> Any:
    """The type of the elements that iterating over a list gives; None where `kind` is no list, tuple or set."""
    kind = plain(kind)
    if kind is Any:
        return Any
    if get_origin(kind) in UNIONS:
        options = [element(option) for option in get_args(kind)]
        return None if None in options else join(options)
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin is tuple:
        return join(argument for argument in arguments if argument is not ...)
    if not inspect.isclass(origin) or issubclass(origin, str | bytes | collections.abc.Mapping):
        return None
    if not issubclass(origin, collections.abc.Iterable) or hasattr(origin, "model_fields"):
        return None
    return arguments[0] if arguments else Any


def field_type(kind: Any, name: str) -> Any:
    """The type of a field of a model or dataclass; None where there is none."""
    kind = plain(kind)
    if kind is Any:
        return Any
    origin = get_origin(kind) or kind
    if hasattr(origin, "model_fields"):
        found = origin.model_fields.get(name)
        return found.annotation if found else None
    if hasattr(origin, "__dataclass_fields__") and name in origin.__dataclass_fields__:
        variables = dict(zip(getattr(origin, "__parameters__", ()), get_args(kind), strict=False))
        return fill(hints(origin, {}).get(name, Any), variables)
    return None


def solve(wanted: Any, given: Any) -> dict[Any, Any]:
    """What the type variables in `wanted` stand for where a value of type `given` is passed."""
    if isinstance(wanted, TypeVar):
        return {wanted: given}
    if get_origin(wanted) in UNIONS:
        plain = [option for option in get_args(wanted) if not isinstance(option, TypeVar)]
        rest = [option for option in _options(given) if not any(fits(option, kind) for kind in plain)]
        return {option: join(rest) for option in get_args(wanted) if isinstance(option, TypeVar) and rest}
    inside = get_args(wanted)
    if len(inside) == 1 and element(wanted) is inside[0]:
        return solve(inside[0], element(given))
    found: dict[Any, Any] = {}
    for ours, theirs in zip(_filled(wanted), _filled(given), strict=False):
        found |= solve(ours, theirs)
    return found


def fill(kind: Any, variables: Mapping[Any, Any]) -> Any:
    """The type with its variables replaced; one that is not known is left to its bound."""
    if isinstance(kind, TypeVar):
        return variables.get(kind, kind)
    free = getattr(kind, "__parameters__", ())
    if not free or (inspect.isclass(kind) and not (hasattr(kind, "model_fields") and set(free) <= variables.keys())):
        return kind  # a class itself; but a model with its own variables in brackets is that class, too
    return kind[tuple(variables.get(variable, Any) for variable in free)]


def _filled(kind: Any) -> tuple[Any, ...]:
    """What stands in the brackets of a generic type; pydantic's are classes of their own."""
    return get_args(kind) or getattr(kind, "__pydantic_generic_metadata__", {}).get("args", ())


def choices(kind: Any) -> list[Any] | None:
    """All values that a type has; None where they can't be listed."""
    kind = plain(kind)
    if kind is bool:
        return [True, False]
    if kind is types.NoneType:
        return [None]
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    if inspect.isclass(kind) and issubclass(kind, enum.Enum):
        return list(kind)
    if get_origin(kind) in UNIONS:
        parts = [choices(option) for option in get_args(kind)]
        return None if None in parts else [value for part in parts for value in part or ()]
    return None


def _options(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in UNIONS else (kind,)


def hints(function: Callable[..., Any] | type, scope: Mapping[str, Any]) -> dict[str, Any]:
    """The annotations of a function, with names looked up in its module and in `scope`; what can't be read is Any."""
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.isroutine(function) and not inspect.isclass(function):
        function = type(function).__call__
    try:
        return typing.get_type_hints(function, localns=dict(scope), include_extras=True)
    except (NameError, TypeError, AttributeError):
        written = getattr(function, "__annotations__", {})
        return {name: kind if not isinstance(kind, str) else Any for name, kind in written.items()}


def name_of(kind: Any) -> str:
    """A type as it is written in code."""
    kind = plain(kind)
    if kind is types.NoneType:
        return "None"
    if get_origin(kind) in UNIONS:
        return " | ".join(name_of(option) for option in get_args(kind))
    if get_origin(kind) is Literal:
        return f"Literal[{', '.join(map(repr, get_args(kind)))}]"
    origin, arguments = get_origin(kind), get_args(kind)
    if origin and arguments:
        shown = ("..." if argument is ... else name_of(argument) for argument in arguments)
        return f"{name_of(origin)}[{', '.join(shown)}]"
    return getattr(kind, "__name__", str(kind).removeprefix("typing."))


def plain(kind: Any) -> Any:
    """Without aliases, annotations, new types and type variables."""
    while True:
        if kind is None:
            return types.NoneType
        if kind is inspect.Parameter.empty:
            return Any
        if get_origin(kind) is typing.Annotated:
            kind = get_args(kind)[0]
        elif hasattr(kind, "__supertype__"):
            kind = kind.__supertype__
        elif type(kind).__name__ == "TypeAliasType":
            kind = kind.__value__
        elif isinstance(kind, TypeVar):
            kind = join(kind.__constraints__) if kind.__constraints__ else kind.__bound__ or Any
        else:
            return kind


def _literal_fits(value: object, wanted: Any) -> bool:
    if get_origin(wanted) is Literal:
        return any(value == option and type(value) is type(option) for option in get_args(wanted))
    return fits(type(value), wanted)


def _class_fits(given: Any, wanted: Any) -> bool:
    given_class, wanted_class = get_origin(given) or given, get_origin(wanted) or wanted
    if not inspect.isclass(given_class) or not inspect.isclass(wanted_class):
        return bool(given_class == wanted_class)
    if (given_class, wanted_class) in _NUMBERS:
        return True
    if issubclass(given_class, str | bytes) and wanted_class in _ELEMENTWISE:
        return False
    if wanted_class is _CALLABLE:
        return callable(given_class)
    if not _is_subclass(given_class, wanted_class):
        return False
    return _arguments_fit(given, wanted)


_ELEMENTWISE = {
    collections.abc.Sequence,
    collections.abc.Iterable,
    collections.abc.Collection,
    collections.abc.Container,
    collections.abc.Reversible,
}


def _is_subclass(given: type, wanted: type) -> bool:
    if typing.is_typeddict(wanted):
        return given is wanted
    if typing.is_typeddict(given):
        return issubclass(dict, wanted)
    try:
        return issubclass(given, wanted)
    except TypeError:  # a protocol with data members can't be asked
        return True


def _arguments_fit(given: Any, wanted: Any) -> bool:
    theirs, ours = get_args(given), get_args(wanted)
    if not theirs or not ours:
        return True
    if get_origin(given) is tuple:
        if get_origin(wanted) is not tuple:
            return fits(element(given), ours[0])
        return _tuples_fit(theirs, ours)
    if len(theirs) != len(ours):
        return True  # another class's parameters: not comparable by position
    return all(fits(left, right) for left, right in zip(theirs, ours, strict=True))


def _tuples_fit(theirs: tuple[Any, ...], ours: tuple[Any, ...]) -> bool:
    if ours[-1] is ...:
        return all(fits(kind, ours[0]) for kind in theirs if kind is not ...)
    if theirs[-1] is ... or len(theirs) != len(ours):
        return False
    return all(fits(left, right) for left, right in zip(theirs, ours, strict=True))

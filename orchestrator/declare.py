"""The `graph` decorator: a builder function, called once with references for its inputs, makes a graph."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, ParamSpec, TypeVar, overload

from ..errors import GraphError
from .builder import Builder
from .graph import Fixed, Graph, Input, Where
from .signature import NO_NAMES, parameters_of, return_type
from .source import caller, local_names
from .types import fits, name_of

P = ParamSpec("P")
T = TypeVar("T")


@overload
def graph(function: Callable[Concatenate[Builder, P], T], /) -> Graph[T]: ...
@overload
def graph(*, name: str = "") -> Callable[[Callable[Concatenate[Builder, P], T]], Graph[T]]: ...
def graph(function: Callable[..., Any] | None = None, /, *, name: str = "") -> Any:
    """Make a graph of a builder function, which is called once, with references for its inputs.

    `@plait.graph` or `@plait.graph(name="…")`. Raises GraphError.
    """
    names = local_names()

    def decorate(function: Callable[..., Any]) -> Graph[Any]:
        return build_graph(function, name or function.__name__, names)

    return decorate if function is None else decorate(function)


def build_graph(
    function: Callable[..., Any], name: str, names: Mapping[str, Any], kinds: Mapping[str, Any] = NO_NAMES
) -> Graph[Any]:
    """Call the builder function once with references for its inputs. Raises GraphError.

    `kinds` are the types of inputs that have no hint.
    """
    builder = Builder(name, names)
    code = inspect.unwrap(function).__code__
    where = Where(caller(code.co_filename).file, code.co_firstlineno)
    parameters = parameters_of(function, names)
    if not parameters:
        raise GraphError(f"graph '{name}' ({where}) takes no argument; its first one must be the builder")
    inputs = []
    for parameter in parameters[1:]:
        if parameter.rest:
            raise GraphError(
                f"graph '{name}' ({where}) takes '*{parameter.name}'; write each input with its name and type"
            )
        builder._names.add(parameter.name)
        kind = kinds.get(parameter.name, Any) if parameter.type is Any else parameter.type
        node = Input(name=parameter.name, where=where, type=kind, default=parameter.default)
        inputs.append(builder._add(node))
    result = function(builder, *inputs)
    return finish_graph(builder, where, result, return_type(function, names))


def finish_graph(builder: Builder, where: Where, result: object, wanted: Any) -> Graph[Any]:
    """The graph of what a builder has written and of its result. Raises GraphError."""
    name = builder._name
    if result is None:
        raise GraphError(f"graph '{name}' ({where}) returns nothing; return the reference that is its result")
    argument = builder._argument(result)
    if isinstance(argument, Fixed):
        raise GraphError(f"graph '{name}' ({where}) returns the value {result!r:.60}, not a node's; return a reference")
    given = builder._type_of(result)
    if not fits(given, wanted):
        raise GraphError(
            f"{builder._describe(result)} gives {name_of(given)}, "
            f"but graph '{name}' ({where}) returns {name_of(wanted)}"
        )
    returns = given if wanted is Any else wanted
    return Graph(name=name, nodes=tuple(builder._nodes), result=argument, returns=returns, where=where)

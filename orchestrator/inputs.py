"""The values that a caller gives to a graph, checked against its signature."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .types import name_of

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from .graph import Graph, Input


def check_inputs(graph: Graph[Any], given: Sequence[object]) -> dict[str, Any]:
    """The inputs by name, with their types put right. Raises InputError."""
    takes = ", ".join(f"{node.name}: {name_of(node.type)}" for node in graph.inputs) or "nothing"
    if len(given) > len(graph.inputs):
        raise InputError(f"graph '{graph.name}' was given {len(given)} inputs; it takes {takes}")
    values: dict[str, Any] = {}
    for index, node in enumerate(graph.inputs):
        if index < len(given):
            values[node.name] = _check(graph, node, given[index])
        elif node.default is not inspect.Parameter.empty:
            values[node.name] = node.default
        else:
            raise InputError(f"graph '{graph.name}' lacks input '{node.name}'; it takes {takes}")
    return values


def _check(graph: Graph[Any], node: Input, value: object) -> Any:
    from pydantic import ValidationError

    adapter = _adapter(node.type)
    if adapter is None:
        return value
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        place = "".join(f"[{part!r}]" for part in detail["loc"])
        raise InputError(
            f"input '{node.name}{place}' of graph '{graph.name}' takes {name_of(node.type)}; "
            f"got {detail['input']!r:.80}: {detail['msg']}"
        ) from None


@cache
def _adapter(kind: Any) -> TypeAdapter[Any] | None:
    """None for a type that pydantic does not know: such a value is taken as it is."""
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUserError

    try:
        return TypeAdapter(kind)
    except PydanticUserError:
        return None

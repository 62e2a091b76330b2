"""Whatever a model gives a tool as arguments: they fit and are of their types, or the tool says what does not."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter

from plait.errors import ToolArgumentError, ToolError
from plait.tools import Tool, ToolBox, tool


class Unit(enum.Enum):
    KM = "km"
    MILE = "mile"


class Place(BaseModel):
    name: str
    at: tuple[float, float] | None = None


@dataclass
class Route:
    stops: list[Place]
    unit: Unit = Unit.KM


TYPES: list[Any] = [
    str, int, float, bool, bytes, date, list[int], list[list[str]], dict[str, int], dict[int, Place], set[str],
    tuple[int, str], int | None, int | str, Literal["a", 1, True], Unit, Place, Route, list[Route], Any,
    Annotated[int, Field(ge=0, le=9)], Annotated[str, Field(pattern="^(a|aa)+$", max_length=30)],
]  # fmt: skip
NAMES = ["query", "schema", "self", "model_config", "json", "_hidden", "größe", "x"]

texts = st.text(max_size=12) | st.sampled_from(
    ["a" * 40, "km", "2026-01-01", "1e999", "\x00", "\ud800", "{}", "9" * 5000]
)
numbers = st.integers() | st.floats() | st.sampled_from([10**400, -(10**25), 1e308, float("nan")])
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts | st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def signatures(draw: st.DrawFn) -> dict[str, tuple[Any, bool]]:
    """Arguments by name: their type, and whether they have a default."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=4))
    return {name: (draw(st.sampled_from(TYPES)), draw(st.booleans())) for name in names}


def make(signature: dict[str, tuple[Any, bool]]) -> tuple[Tool[..., Any], list[dict[str, Any]]]:
    """A tool with a signature, and the arguments that its function was called with."""
    called: list[dict[str, Any]] = []
    ordered = sorted(signature, key=lambda name: signature[name][1])
    parameters = ", ".join(f"{name}: 'int' = None" if signature[name][1] else f"{name}: 'int'" for name in ordered)
    space: dict[str, Any] = {"called": called}
    exec(f"async def given({parameters}):\n    called.append(dict(locals()))\n    return 'ok'", space)
    function: Callable[..., Any] = space["given"]
    function.__annotations__ = {name: signature[name][0] for name in ordered}
    return tool(function), called


async def ask(made: Tool[..., Any], arguments: Any) -> ToolError | None:
    try:
        with anyio.fail_after(60):
            assert await made.invoke(arguments) == "ok"
    except ToolError as error:
        return error
    return None


def check(signature: dict[str, tuple[Any, bool]], arguments: Any) -> None:
    made, called = make(signature)
    error = anyio.run(ask, made, arguments)
    if error is not None:
        assert isinstance(error, ToolArgumentError), error
        assert str(error).startswith("tool 'given'")
        assert len(str(error)) < 5_000, "a message is for a model to read"
        assert not called
        return
    for name, value in called[0].items():
        kind, optional = signature[name]
        if name in arguments:
            TypeAdapter(kind).validate_python(value)
        else:
            assert optional
            assert value is None
    json.dumps(made.parameters)
    ToolBox([made]).describe()


@st.composite
def cases(draw: st.DrawFn) -> tuple[dict[str, tuple[Any, bool]], Any]:
    """A signature, and arguments that are anything, or at least name what it takes."""
    signature = draw(signatures())
    named = st.fixed_dictionaries(dict.fromkeys(signature, values))
    return signature, draw(st.one_of(named, values, st.dictionaries(st.sampled_from(NAMES), values, max_size=4)))


@settings(max_examples=300)
@given(cases())
def test_arguments_fit_or_are_refused_by_name(case: tuple[dict[str, tuple[Any, bool]], Any]) -> None:
    check(*case)


@pytest.mark.long
@settings(max_examples=10_000)
@given(cases())
def test_ten_thousand_arguments_fit_or_are_refused_by_name(case: tuple[dict[str, tuple[Any, bool]], Any]) -> None:
    check(*case)

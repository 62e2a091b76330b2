from __future__ import annotations

import functools
import math
import threading
import time
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import anyio
import pytest
from pydantic import BaseModel, Field

from plait.errors import InputError, ToolArgumentError, ToolError, ToolTimeoutError
from plait.tools import Retry, Tool, render, tool

pytestmark = pytest.mark.anyio


class Place(BaseModel):
    name: str
    kind: Literal["city", "country"] = "country"


class Knot(BaseModel):
    inner: list[Knot] = []


@dataclass
class Point:
    x: int
    y: int


@tool(cap=3, idempotent=True, timeout=5, cost=0.5)
async def population(country: str, year: int = 2023) -> int:
    """Number of people who live in a country.

    Counted at mid-year.

    Args:
        country: the country's name,
            in English
        year (int): which year

    Returns:
        people
    """
    return len(country) * year


@tool
def shout(text: str) -> str:
    return text.upper()


async def test_sync_and_async_functions_are_called_alike() -> None:
    assert await population("Peru", year=2) == 8
    assert await population("Peru") == 8092
    assert await shout("peru") == "PERU"
    assert await shout.invoke({"text": "peru"}) == "PERU"


async def test_a_sync_function_runs_beside_the_event_loop() -> None:
    @tool
    def where() -> int:
        return threading.get_ident()

    assert await where() != threading.get_ident()


def test_a_tool_says_what_it_is() -> None:
    assert isinstance(population, Tool)
    assert (population.name, population.cap, population.timeout) == ("population", 3, 5)
    assert (population.idempotent, population.cost, population.returns) == (True, 0.5, int)
    assert population.description == "Number of people who live in a country.\n\nCounted at mid-year."
    assert population.parameters == {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "country": {"type": "string", "description": "the country's name, in English"},
            "year": {"type": "integer", "default": 2023, "description": "which year"},
        },
        "required": ["country"],
    }


def test_bare_tool_has_safe_limits() -> None:
    assert (shout.cap, shout.timeout, shout.idempotent, shout.cost) == (8, 60, False, 0)


def test_a_tool_is_frozen() -> None:
    with pytest.raises(AttributeError):
        shout.cap = 9  # type: ignore[misc]


def test_models_in_a_schema_are_inlined() -> None:
    @tool
    def visit(place: Place, then: list[Place]) -> str:
        return place.name

    place = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "kind": {"type": "string", "enum": ["city", "country"], "default": "country"},
        },
        "required": ["name"],
    }
    assert visit.parameters["properties"] == {"place": place, "then": {"type": "array", "items": place}}


async def test_arguments_get_their_types() -> None:
    @tool
    def visit(place: Place, point: Point, times: Annotated[int, Field(ge=1)]) -> str:
        return f"{place.kind} {point.x + point.y} {times!r}"

    assert await visit.invoke({"place": {"name": "Peru"}, "point": {"x": 1, "y": 2}, "times": "3"}) == "country 3 3"
    with pytest.raises(ToolArgumentError, match=r"argument 'times' = 0: input should be greater than or equal to 1"):
        await visit.invoke({"place": {"name": "Peru"}, "point": {"x": 1, "y": 2}, "times": 0})


async def test_argument_names_that_pydantic_keeps_for_itself_work() -> None:
    @tool
    def odd(schema: str, _hidden: int, model_config: int = 1, json: str = "j") -> str:
        return f"{schema}{_hidden}{model_config}{json}"

    assert await odd.invoke({"schema": "s", "_hidden": 2}) == "s21j"
    assert list(odd.parameters["properties"]) == ["schema", "_hidden", "model_config", "json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"tool 'population': argument 'country' is missing\. It takes \(country: str, year: int = 2023\)"),
        ({"country": 5}, r"argument 'country' = 5: input should be a valid string"),
        ({"country": "Peru", "yaer": 1}, r"there is no argument 'yaer' \(did you mean 'year'\?\)"),
        ({"country": "Peru", "year": "soon"}, r"argument 'year' = 'soon': input should be a valid integer"),
        (["Peru"], r"takes its arguments by name, as an object, not \['Peru'\]"),
    ],
)
async def test_wrong_arguments_are_named(arguments: Any, message: str) -> None:
    with pytest.raises(ToolArgumentError, match=message):
        await population.invoke(arguments)


async def test_too_many_and_repeated_arguments_are_named() -> None:
    loose: Tool = population
    with pytest.raises(ToolArgumentError, match="was given 3 arguments; it takes"):
        await loose("Peru", 2, 3)
    with pytest.raises(ToolArgumentError, match="argument 'country' is given twice"):
        await loose("Peru", country="Chile")


async def test_whatever_a_function_raises_is_a_tool_error() -> None:
    @tool
    def broken(kind: str) -> str:
        raise {
            "value": ValueError("no such place"),
            "exit": SystemExit(3),
            "stop": StopIteration(),
            "mute": KeyError(),
        }[kind]

    with pytest.raises(ToolError, match=r"^tool 'broken' failed: ValueError: no such place$") as caught:
        await broken("value")
    assert isinstance(caught.value.__cause__, ValueError)
    for kind in ("exit", "stop", "mute"):
        with pytest.raises(ToolError, match="tool 'broken' failed"):
            await broken(kind)


async def test_an_error_in_a_task_group_is_named() -> None:
    @tool
    async def grouped() -> str:
        async def fail() -> None:
            raise ValueError("inside")

        async with anyio.create_task_group() as group:
            group.start_soon(fail)
        return ""

    with pytest.raises(ToolError, match=r"^tool 'grouped' failed: ValueError: inside$"):
        await grouped()


async def test_a_wrong_result_is_a_tool_error() -> None:
    @tool
    async def count() -> int:
        return "many"  # type: ignore[return-value]

    with pytest.raises(
        ToolError, match=r"tool 'count' returned 'many', which is not the int that its signature promises"
    ):
        await count()


async def test_slow_tools_time_out_async_and_sync() -> None:
    @tool(timeout=0.05)
    async def dozing() -> None:
        await anyio.sleep(30)

    released = threading.Event()

    @tool(timeout=0.05)
    def hanging() -> None:
        released.wait(30)

    started = time.monotonic()
    for slow in (dozing, hanging):
        with pytest.raises(
            ToolTimeoutError, match=rf"tool '{slow.name}' took longer than its timeout of 0\.05 seconds"
        ):
            await slow()
    assert time.monotonic() - started < 5
    released.set()


async def test_a_functions_own_timeout_error_is_a_failure() -> None:
    @tool
    async def request() -> None:
        raise TimeoutError("gateway")

    with pytest.raises(ToolError, match="failed: TimeoutError: gateway") as caught:
        await request()
    assert not isinstance(caught.value, ToolTimeoutError)


async def test_cancelling_a_call_reaches_the_function() -> None:
    cancelled = False

    @tool(timeout=math.inf)
    async def dozing() -> None:
        nonlocal cancelled
        try:
            await anyio.sleep(30)
        except anyio.get_cancelled_exc_class():
            cancelled = True
            raise

    with anyio.move_on_after(0.05):
        await dozing()
    assert cancelled


async def test_many_sync_calls_run_at_once() -> None:
    barrier = threading.Barrier(64)

    @tool
    def meet() -> int:
        return barrier.wait(10)

    async with anyio.create_task_group() as group:
        for _ in range(64):
            group.start_soon(meet.invoke, {})


async def test_only_named_errors_are_retried() -> None:
    calls: list[str] = []

    @tool(idempotent=True, retry=Retry(on=(ConnectionError,), attempts=3, wait=0))
    async def flaky(kind: str) -> str:
        calls.append(kind)
        if kind == "value":
            raise ValueError(kind)
        if kind == "down" or len(calls) < 3:
            raise ConnectionResetError(kind)
        return kind

    assert await flaky("up") == "up"
    assert calls == ["up"] * 3
    calls.clear()
    with pytest.raises(ToolError, match="failed: ConnectionResetError: down"):
        await flaky("down")
    assert calls == ["down"] * 3
    calls.clear()
    with pytest.raises(ToolError, match="ValueError"):
        await flaky("value")
    assert calls == ["value"]


async def test_a_timeout_may_be_retried() -> None:
    calls = 0

    @tool(idempotent=True, timeout=0.05, retry=Retry(on=(ToolTimeoutError,), wait=0))
    async def warming() -> int:
        nonlocal calls
        calls += 1
        await anyio.sleep(30 if calls == 1 else 0)
        return calls

    assert await warming() == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tool(lambda text: text), "'<lambda>' can't be a tool's name"),
        (lambda: tool(cap=0)(shout.function), "cap=0 would never let a call start"),
        (lambda: tool(timeout=0)(shout.function), "timeout=0 would end every call"),
        (lambda: tool(timeout=math.nan)(shout.function), "timeout=nan"),
        (lambda: tool(cost=-1)(shout.function), "cost=-1 would refund"),
        (lambda: tool(retry=Retry(on=(OSError,)))(shout.function), "pass idempotent=True"),
        (lambda: tool(name="open it")(shout.function), "'open it' can't be a tool's name"),
        (lambda: Retry(on=("OSError",)), "no exception class"),  # type: ignore[arg-type]
        (lambda: Retry(attempts=0), "attempts=0"),
        (lambda: Retry(wait=-1), "wait=-1"),
        (lambda: tool(5), "@tool was put on 5"),  # type: ignore[call-overload]
    ],
)
def test_impossible_tools_are_refused(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_signatures_that_no_model_can_call_are_refused() -> None:
    def untyped(text) -> str:  # type: ignore[no-untyped-def]
        return str(text)

    def many(*texts: str) -> str:
        return "".join(texts)

    def positional(text: str, /) -> str:
        return text

    def opaque(lock: threading.Event) -> str:
        return str(lock)

    def knotted(knot: Knot) -> str:
        return str(knot)

    def unknown(text: Elsewhere) -> str:  # type: ignore[name-defined]  # noqa: F821
        return str(text)

    for function, message in (
        (untyped, "argument 'text' has no type"),
        (many, r"takes '\*texts: .str.'"),
        (positional, "tool 'positional' takes 'text"),
        (opaque, "has a type that pydantic can't check"),
        (knotted, "type 'Knot' contains itself"),
        (unknown, "type hints can't be read"),
    ):
        with pytest.raises(InputError, match=message):
            tool(function)


async def test_partial_functions_and_callable_objects_are_tools() -> None:
    class Counter:
        def __init__(self) -> None:
            self.count = 0

        async def __call__(self, step: int) -> int:
            self.count += step
            return self.count

    assert await tool(name="count")(Counter())(2) == 2
    yearly = tool(name="yearly")(functools.partial(population.function, year=1))
    assert await yearly.invoke({"country": "Peru"}) == 4


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Peru", "Peru"),
        (5, "5"),
        (True, "true"),
        (None, "null"),
        (["é", 1.5], '["é",1.5]'),
        ({"a": (1, 2)}, '{"a":[1,2]}'),
        (Place(name="Peru"), '{"name":"Peru","kind":"country"}'),
        (Point(1, 2), '{"x":1,"y":2}'),
    ],
)
def test_results_are_rendered_compactly(value: object, text: str) -> None:
    assert render(value) == text


def test_what_is_no_json_is_not_rendered() -> None:
    with pytest.raises(ToolError, match="a Event can't be shown to a model"):
        render(threading.Event())

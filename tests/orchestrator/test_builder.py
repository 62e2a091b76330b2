"""Wrong graphs are refused as they are written, by messages that name both ends and their lines."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

import pytest
from pydantic import BaseModel

import plait
from plait.engines import Capabilities
from plait.engines.scripted import ScriptedEngine
from plait.errors import GraphError
from plait.orchestrator import Builder, Graph, Scope, compile_graph
from plait.orchestrator.graph import Edge, Function, Where

HERE = "test_builder.py"


class Verdict(BaseModel):
    larger: str
    difference: int


@plait.tool
async def population(country: str, year: int = 2024) -> int:
    """Number of people."""
    return len(country) + year


def shout(text: str) -> str:
    return text.upper()


def count(text: str) -> int:
    return len(text)


async def drive(scope: Scope, question: str) -> str:
    return question


# ---- wrong graphs: builder function, what the message says


def int_into_str(g: Builder, text: str) -> str:
    number = g.function(count, text=text)
    return g.function(shout, text=number)  # type: ignore[arg-type, unused-ignore]


def optional_into_plain(g: Builder, text: str | None) -> str:
    return g.function(shout, text=text)


def wrong_return(g: Builder, text: str) -> str:
    return g.function(count, text=text)  # type: ignore[return-value]


def wrong_literal(g: Builder, text: str) -> int:
    return g.call(population, country=text, year="now")


def wrong_element(g: Builder, numbers: list[int]) -> list[int]:
    return g.map(population, numbers)


def map_over_text(g: Builder, text: str) -> list[int]:
    return g.map(population, text)


def map_without_a_place(g: Builder, texts: list[str], text: str) -> list[int]:
    return g.map(count, texts, text=text)


def unused_node(g: Builder, text: str) -> str:
    g.function(count, text=text, name="lonely")
    return g.function(shout, text=text)


def unused_input(g: Builder, text: str, spare: int) -> str:
    return g.function(shout, text=text)


def missing_field(g: Builder, text: str) -> str:
    return g.think("Say {text} and {more}.", text=text)


def extra_value(g: Builder, text: str) -> str:
    return g.think("Say it.", text=text)


def odd_field(g: Builder, text: str) -> str:
    return g.think('Fill {"a": 1} with {text}.', text=text)


def lone_brace(g: Builder, text: str) -> str:
    return g.think("Say {text", text=text)


def unknown_argument(g: Builder, text: str) -> int:
    return g.call(population, country=text, decade=2020)


def missing_argument(g: Builder, year: int) -> int:
    return g.call(population, year=year)


def no_tool(g: Builder, text: str) -> str:
    return g.call(shout, text=text)  # type: ignore[arg-type]


def unknown_after(g: Builder, text: str) -> str:
    return g.think("On {text}.", text=text, after="plan")


def after_a_function(g: Builder, text: str) -> str:
    return g.think("Go on.", after=g.function(shout, text=text))


def after_samples(g: Builder, text: str) -> str:
    return g.think("Go on.", after=g.think("Try {text}.", text=text, samples=3))


def after_a_number(g: Builder, text: str) -> str:
    return g.think("Go on with {text}.", text=text, after=3)


def cycle(g: Builder, text: str) -> str:
    first = g.think("One {text}.", text=text, name="first", after="second")
    return g.think("Two {first}.", first=first, name="second")


def same_name(g: Builder, text: str) -> str:
    a = g.function(shout, text=text, name="shout")
    return g.function(shout, text=a, name="shout")


def slash_in_name(g: Builder, text: str) -> str:
    return g.function(shout, text=text, name="a/b")


def used_as_value(g: Builder, text: str) -> str:
    return g.think(f"Say {text}.")


def branched_on(g: Builder, text: str) -> str:
    return text if text else g.function(shout, text="empty")


def unknown_field(g: Builder, text: str) -> int:
    verdict = g.think("Compare {text}.", text=text, returns=Verdict)
    return verdict.smaller  # type: ignore[attr-defined, no-any-return]


def field_of_wrong_type(g: Builder, text: str) -> str:
    verdict = g.think("Compare {text}.", text=text, returns=Verdict)
    return g.function(shout, text=verdict.difference)


def nothing_returned(g: Builder, text: str) -> None:
    g.function(shout, text=text)


def value_returned(g: Builder) -> int:
    return 3


def driver_argument(g: Builder, text: str) -> str:
    return g.drive(drive, task=text)


def driver_without_scope(g: Builder) -> str:
    return g.drive(lambda: "x")  # type: ignore[arg-type, misc]


def no_samples(g: Builder, text: str) -> str:
    return g.think("{text}", text=text, samples=0)  # type: ignore[return-value]


def no_schema(g: Builder, text: str) -> Any:
    return g.think("{text}", text=text, returns=Callable[[int], int])  # type: ignore[arg-type]


def rest_inputs(g: Builder, *texts: str) -> str:
    return g.function(shout, text="a")


def no_builder() -> str:
    return "x"


WRONG = [
    (
        int_into_str,
        "(FILE) gives int, but argument 'text' of function node 'shout' (FILE) takes str",
    ),
    (optional_into_plain, "input 'text' (FILE) gives str | None, but argument 'text' of function node 'shout' (FILE)"),
    (wrong_return, "function node 'count' (FILE) gives int, but graph 'wrong_return' (FILE) returns str"),
    (wrong_literal, "the value 'now' gives str, but argument 'year' of call node 'population' (FILE) takes int"),
    (
        wrong_element,
        "an element of input 'numbers' (FILE) gives int, but argument 'country' of map node",
    ),
    (map_over_text, "map node 'population' (FILE) maps over input 'text' (FILE) of type str, which is no list"),
    (map_without_a_place, "map node 'count' (FILE): no argument of 'count' is left for the elements"),
    (unused_node, "function node 'lonely' (FILE) is never used by the result of 'unused_node' (FILE)"),
    (unused_input, "input 'spare' (FILE) is never used by the result of 'unused_input' (FILE)"),
    (
        missing_field,
        "the template of think node 'think' (FILE) holds '{more}' but no such value was given",
    ),
    (extra_value, "think node 'think' (FILE) was given 'text' (input 'text' (FILE)), which its template does not hold"),
    (odd_field, """the template of think node 'think' (FILE) holds '{"a": 1}', which is no plain name"""),
    (lone_brace, "the template of think node 'think' (FILE) can't be read: expected '}' before end of string"),
    (
        unknown_argument,
        "call node 'population' (FILE) has no argument 'decade' (given the value 2020); it takes",
    ),
    (missing_argument, "call node 'population' (FILE) lacks argument 'country' of type str; given: year"),
    (no_tool, "which is no tool; use @plait.tool or g.function"),
    (unknown_after, "think node 'think' (FILE) comes after 'plan', which is no node of the graph; nodes: text, think"),
    (after_a_function, "think node 'think' (FILE) comes after function node 'shout' (FILE), which has no context"),
    (after_samples, "think node 'think_2' (FILE) comes after think node 'think' (FILE), which has 3 contexts"),
    (after_a_number, "after=3 at FILE is no thought"),
    (cycle, "has a cycle, so none of these can start: think node 'first' (FILE) → think node 'second' (FILE) → think"),
    (same_name, "two nodes are called 'shout' (FILE and FILE)"),
    (slash_in_name, "node name 'a/b' (FILE) holds '/'"),
    (used_as_value, "input 'text' (FILE) was used as a value while the graph is written"),
    (branched_on, "input 'text' (FILE) was used as a value while the graph is written"),
    (unknown_field, "think node 'think' (FILE) is of type Verdict, which has no field 'smaller'"),
    (field_of_wrong_type, "field 'difference' of think node 'think' (FILE) gives int, but argument 'text' of function"),
    (nothing_returned, "graph 'nothing_returned' (FILE) returns nothing"),
    (value_returned, "graph 'value_returned' (FILE) returns the value 3, not a node's"),
    (
        driver_argument,
        "drive node 'drive' (FILE) has no argument 'task' (given input 'text' (FILE)); it takes",
    ),
    (driver_without_scope, "takes no argument; its first one must be the scope"),
    (no_samples, "think node 'think' (FILE) asks for samples=0"),
    (no_schema, "which has no JSON schema"),
    (rest_inputs, "graph 'rest_inputs' (FILE) takes '*texts'"),
    (no_builder, "graph 'no_builder' (FILE) takes no argument; its first one must be the builder"),
]


@pytest.mark.parametrize(("function", "message"), WRONG, ids=[function.__name__ for function, _ in WRONG])
def test_a_wrong_graph_is_refused(function: Callable[..., Any], message: str) -> None:
    with pytest.raises(GraphError) as caught:
        plait.graph(function)
    shown = re.sub(r"[\w/.]*test_builder\.py:(\d+)", _check_line(function), str(caught.value))
    assert message in shown


def _check_line(function: Callable[..., Any]) -> Callable[[re.Match[str]], str]:
    """Lines named in messages are lines of the wrong graph."""
    first = function.__code__.co_firstlineno
    last = max(line for _, _, line in function.__code__.co_lines() if line)

    def check(found: re.Match[str]) -> str:
        assert first <= int(found[1]) <= last
        return "FILE"

    return check


def test_a_reference_of_another_graph_is_refused() -> None:
    taken: list[Any] = []

    @plait.graph
    def first(g: Builder, text: str) -> str:
        taken.append(text)
        return g.function(shout, text=text)

    with pytest.raises(GraphError, match=r"input 'text' \(.*\) belongs to graph 'first' and can't be used in 'second'"):

        @plait.graph
        def second(g: Builder, text: str) -> str:
            return g.think("{a} {text}", a=taken[0], text=text)


def test_a_missing_capability_is_refused_before_a_token() -> None:
    @plait.graph
    def judge(g: Builder, text: str) -> Verdict:
        return g.think("Judge {text}.", text=text, returns=Verdict, name="judge")

    @plait.graph
    def pruning(g: Builder, text: str) -> str:
        return g.drive(drive, question=text, needs=["prune:exact"])

    engine = ScriptedEngine([], capabilities=Capabilities(streaming=False, seeds=False))
    with pytest.raises(GraphError, match=r"think node 'judge' \(.*\) needs 'grammar:JsonSchema', which engine"):
        judge.run_sync("x", engine=engine)
    with pytest.raises(GraphError, match=r"needs 'prune:exact'.*it offers: nothing beyond plain text"):
        compile_graph(pruning, engine)
    with pytest.raises(GraphError, match=r"think node 'judge' \(.*\) needs an engine"):
        judge.run_sync("x", engine=None)
    assert engine.calls == 0


def test_a_hand_made_graph_is_checked_too() -> None:
    where = Where("hand.py", 1)
    node = Function(name="a", where=where, type=str, function=shout, arguments={"text": Edge("b")})
    with pytest.raises(GraphError, match=r"function node 'a' \(hand.py:1\) reads the value of 'b', which is no node"):
        Graph(name="hand", nodes=(node,), result=Edge("a"), returns=str, where=where)
    loop = Function(name="a", where=where, type=str, function=shout, arguments={"text": Edge("a")})
    with pytest.raises(GraphError, match="has a cycle"):
        Graph(name="hand", nodes=(loop,), result=Edge("a"), returns=str, where=where)
    with pytest.raises(GraphError, match="two nodes are called 'a'"):
        Graph(name="hand", nodes=(loop, loop), result=Edge("a"), returns=str, where=where)
    with pytest.raises(GraphError, match="returns 'c', which is no node"):
        Graph(name="hand", nodes=(), result=Edge("c"), returns=str, where=where)


# ---- right graphs


def test_the_function_is_called_once_with_references() -> None:
    calls = []

    @plait.graph(name="named")
    def build(g: Builder, text: str) -> str:
        calls.append(text)
        return g.function(shout, text=text)

    assert build.name == "named"
    assert build.run_sync("a") == build.run_sync("a") == "A"
    assert len(calls) == 1
    assert repr(build) == "<Graph named(text: str) -> str, 2 nodes>"


def test_names_made_up_are_numbered_and_local_classes_are_known() -> None:
    class Local(BaseModel):
        a: int

    def make(n: int) -> Local:
        return Local(a=n)

    @plait.graph
    def build(g: Builder, n: int) -> Local:
        first = g.function(make, n=n)
        return g.function(make, n=first.a)

    assert [node.name for node in build.nodes] == ["n", "make", "make_2"]
    assert build["make"].type is Local
    assert build.run_sync(3) == Local(a=3)


def test_choices_literals_constants_and_lists_of_references() -> None:
    @plait.graph
    def build(g: Builder, text: str) -> dict[str, Any]:
        tone = g.think("Tone of {text}?", text=text, returns=Literal["kind", "rude"], name="tone")
        limit = g.constant(7, name="limit")
        return g.function(lambda **all_of_them: all_of_them, parts=[tone, text, "x"], limit=limit, extra=None)

    engine = ScriptedEngine(["rude"])
    assert build.run_sync("Hey", engine=engine) == {"parts": ["rude", "Hey", "x"], "limit": 7, "extra": None}
    assert build["tone"].needs == ("grammar:Choice",)


def test_the_graph_as_json_and_as_a_drawing() -> None:
    @plait.graph
    def build(g: Builder, texts: list[str], year: int = 2000) -> Verdict:
        people = g.map(population, texts, year=year, cap=2)
        plan = g.think("Plan for {people}.", people=people, name="plan", samples=1)
        final = g.drive(drive, question=plan, timeout=3)
        return g.think("Judge {final} [{label}].", final=final, label="x", after=plan, returns=Verdict, name="judge")

    data = build.as_dict()
    assert data["name"] == "build"
    assert data["result"] == {"node": "judge"}
    by_name = {node["name"]: node for node in data["nodes"]}
    assert by_name["year"]["default"] == 2000
    assert by_name["population"]["over"] == "country"
    assert by_name["judge"]["after"] == "plan"
    assert by_name["judge"]["arguments"]["label"] == {"value": "x"}
    assert by_name["drive"]["timeout"] == 3
    lines = build.mermaid().splitlines()
    assert lines[0] == "flowchart TD"
    assert "  n3 ==> n5" in lines
    assert "  n3 -->|question| n4" in lines
    described = compile_graph(build, ScriptedEngine([])).describe()
    assert "continues the context of plan" in described
    assert "contexts kept: plan until judge ran" in described
    assert "one for each item of population" in described

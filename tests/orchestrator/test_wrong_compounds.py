"""Wrong graphs in graphs are refused as they are written, by messages that name both ends and their lines."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar

import pytest
from pydantic import BaseModel

import plait
from plait.engines import Capabilities
from plait.engines.scripted import ScriptedEngine
from plait.errors import GraphError
from plait.orchestrator import Builder, Settled, compile_graph

T = TypeVar("T")


class Box(BaseModel, Generic[T]):
    content: T


def shout(text: str) -> str:
    return text.upper()


def count(text: str) -> int:
    return len(text)


def first(items: list[T]) -> T:
    return items[0]


def same(value: T) -> T:
    return value


def box(value: T) -> Box[T]:
    return Box(content=value)


@plait.tool
async def lookup(query: str) -> str:
    """Look up."""
    return query


@plait.graph
def improve(g: Builder, draft: str) -> str:
    return g.think("Better.", after=draft)


@plait.graph
def measure(g: Builder, text: str) -> int:
    return g.function(count, text=text)


# ---- wrong graphs


def int_into_a_graph(g: Builder, n: int) -> int:
    return g.subgraph(measure, n)


def missing_input(g: Builder) -> int:
    return g.subgraph(measure)


def too_many_inputs(g: Builder, text: str) -> int:
    return g.subgraph(measure, text, text)


def no_graph(g: Builder, text: str) -> str:
    return g.subgraph(lookup, query=text)


def result_of_a_graph(g: Builder, text: str) -> str:
    return g.function(shout, text=g.subgraph(measure, text))  # type: ignore[arg-type, unused-ignore]


def no_thought_for_a_context(g: Builder, text: str) -> str:
    return g.subgraph(improve, g.function(shout, text=text))


def samples_for_a_context(g: Builder, text: str) -> str:
    return g.subgraph(improve, g.select(["a", text], by=count))


def outer_value_inside(g: Builder, text: str) -> str:
    return g.subgraph(lambda h: h.function(shout, text=text))


def unused_inside(g: Builder, text: str) -> str:
    def inner(h: Builder, text: str) -> str:
        h.function(count, text=text, name="lonely")
        return h.function(shout, text=text)

    return g.subgraph(inner, text)


def missing_arm(g: Builder, text: str) -> str:
    tone = g.think("Tone of {text}?", text=text, returns=Literal["kind", "rude"])
    return g.branch(tone, {"kind": lambda h: h.constant("x")})


def impossible_arm(g: Builder, flag: bool) -> str:
    return g.branch(flag, {True: lambda h: h.constant("x"), "no": lambda h: h.constant("y")})


def open_condition(g: Builder, text: str) -> str:
    return g.branch(text, {"a": lambda h: h.constant("x")})


def needless_otherwise(g: Builder, flag: bool) -> str:
    arms: dict[Any, Any] = {True: lambda h: h.constant("x"), False: lambda h: h.constant("y")}
    return g.branch(flag, arms, otherwise=lambda h: h.constant("z"))


def value_for_no_arm(g: Builder, flag: bool, text: str) -> str:
    arms: dict[Any, Any] = {True: lambda h: h.constant("x"), False: lambda h: h.constant("y")}
    return g.branch(flag, arms, text=text)


def reference_as_arm(g: Builder, flag: bool, text: str) -> str:
    arms: dict[Any, Any] = {True: text, False: lambda h: h.constant("y")}
    return g.branch(flag, arms)


def arm_of_wrong_type(g: Builder, flag: bool, n: int) -> int:
    arms: dict[Any, Any] = {True: measure, False: lambda h: h.constant(0)}
    return g.branch(flag, arms, text=n)


def union_of_arms(g: Builder, flag: bool) -> str:
    arms: dict[Any, Any] = {True: lambda h: h.constant("x"), False: lambda h: h.constant(3)}
    return g.branch(flag, arms)


def loop_never(g: Builder, text: str) -> str:
    return g.loop(lambda h, text: h.function(shout, text=text), text, at_most=0)


def loop_changes_type(g: Builder, text: str) -> Any:
    return g.loop(measure, text, at_most=2)  # type: ignore[arg-type]


def loop_without_a_place(g: Builder, text: str) -> str:
    return g.loop(lambda h, text: h.function(shout, text=text), "a", at_most=2, text=text)


def until_of_wrong_type(g: Builder, text: str) -> str:
    return g.loop(lambda h, text: h.function(shout, text=text), text, at_most=2, until=count)


def until_takes_something_else(g: Builder, text: str) -> str:
    def small(number: int) -> bool:
        return number < 3

    return g.loop(lambda h, text: h.function(shout, text=text), text, at_most=2, until=small)


def loop_loses_the_context(g: Builder, text: str) -> str:
    def body(h: Builder, draft: str) -> str:
        return h.function(shout, text=h.think("Better.", after=draft))

    return g.loop(body, g.think("{text}", text=text), at_most=2)


def score_of_wrong_type(g: Builder, texts: list[str]) -> str:
    return g.select(texts, by=shout)


def select_from_text(g: Builder, text: str) -> str:
    return g.select(text, by=count)


def narrowed_twice(g: Builder, text: str) -> str:
    drafts = g.think("{text}", text=text, samples=4, join=plait.k_of(3))
    return g.select(drafts, by=count, join=plait.k_of(2))


def narrowed_for_another(g: Builder, text: str) -> tuple[str, list[str]]:
    drafts = g.think("{text}", text=text, samples=4)
    shown = g.function(same, value=drafts)
    return g.function(lambda a, b: (a, b), a=g.select(drafts, by=count, join=plait.k_of(2)), b=shown)


def more_than_there_are(g: Builder, text: str) -> list[str]:
    return g.think("{text}", text=text, samples=2, join=plait.k_of(3))


def none_of(g: Builder, text: str) -> list[str]:
    return g.gather([text], join=plait.k_of(0))


def gather_a_list(g: Builder, texts: list[str]) -> list[str]:
    return g.gather(texts)


def gather_nothing(g: Builder) -> list[str]:
    return g.gather([])


def settled_as_a_plain_value(g: Builder, texts: list[str]) -> list[str]:
    return g.map(first, g.map(lookup, texts, join=plait.settled))  # type: ignore[arg-type]


def field_of_a_failure(g: Builder, text: str) -> str:
    ended = g.function(same, value=g.constant(Settled(text)))
    return ended.reason  # type: ignore[attr-defined, no-any-return]


def generic_result(g: Builder, numbers: list[int]) -> str:
    return g.function(shout, text=g.function(first, items=numbers))  # type: ignore[arg-type]


def generic_field(g: Builder, number: int) -> str:
    return g.function(shout, text=g.function(box, value=number).content)  # type: ignore[arg-type]


def team_of_nobody(g: Builder) -> list[str]:
    return g.team([])


def value_for_no_member(g: Builder, text: str) -> list[str]:
    return g.team(["One.", "Two."], text=text)


def after_a_team(g: Builder, text: str) -> str:
    return g.think("Go on.", after=g.team(["One {text}.", "Two."], text=text))


def question_without_a_value(g: Builder) -> bool:
    return g.ask("Approve {x}?", returns=bool)


def map_calls_a_value(g: Builder, texts: list[str], text: str) -> list[str]:
    return g.map(text, texts)  # type: ignore[call-overload, no-any-return]


WRONG = [
    (int_into_a_graph, "input 'n' (FILE) gives int, but argument 'text' of subgraph node 'measure' (FILE) takes str"),
    (missing_input, "subgraph node 'measure' (FILE) lacks argument 'text' of type str; given: none"),
    (too_many_inputs, "subgraph node 'measure' (FILE) was given 2 inputs; it takes text"),
    (no_graph, "is no graph; give a graph, or a function of a builder"),
    (
        result_of_a_graph,
        "subgraph node 'measure' (FILE) gives int, but argument 'text' of function node 'shout' (FILE)",
    ),
    (
        no_thought_for_a_context,
        "think node 'think' (OTHER) continues the context that comes with input 'draft', but subgraph node 'improve' "
        "(FILE) gives it function node 'shout' (FILE), which has no context; give it a thought",
    ),
    (samples_for_a_context, "gives it select node 'select' (FILE), which has no context"),
    (
        outer_value_inside,
        "input 'text' (FILE) belongs to graph 'outer_value_inside' and can't be used in 'subgraph' (FILE); give it to",
    ),
    (unused_inside, "graph 'inner': function node 'lonely' (FILE) is never used by the result of 'inner' (FILE)"),
    (missing_arm, "think node 'think' (FILE) may give 'rude', for which branch node 'branch' (FILE) has no arm"),
    (impossible_arm, "input 'flag' (FILE) gives bool, so arm 'no' of branch node 'branch' (FILE) can never be taken"),
    (
        open_condition,
        "input 'text' (FILE) gives str, which may be none of the arms of branch node 'branch' (FILE): 'a'",
    ),
    (needless_otherwise, "branch node 'branch' (FILE) has an arm for every bool, so otherwise= can never be taken"),
    (value_for_no_arm, "branch node 'branch' (FILE) was given 'text' (input 'text' (FILE)), which none of its arms"),
    (reference_as_arm, "arm True of branch node 'branch' (FILE) is input 'text' (FILE), which would run whichever arm"),
    (
        arm_of_wrong_type,
        "input 'n' (FILE) gives int, but argument 'text' of arm True of branch node 'branch' (FILE) takes str",
    ),
    (union_of_arms, "branch node 'branch' (FILE) gives str | int, but graph 'union_of_arms' (FILE) returns str"),
    (loop_never, "loop node 'loop' (FILE) runs its body at_most=0 times; use 1 or more"),
    (
        loop_changes_type,
        "graph 'measure' (OTHER) gives int, but its input 'text', which loop node 'loop' (FILE) carries, takes str",
    ),
    (loop_without_a_place, "loop node 'loop' (FILE): no input of 'lambda' is left for the value that it carries"),
    (until_of_wrong_type, "'count', which ends loop node 'loop' (FILE), gives int, but whether to end is a bool"),
    (
        until_takes_something_else,
        "gives str, but argument 'number' of 'small', which ends loop node 'loop' (FILE), takes int",
    ),
    (
        loop_loses_the_context,
        "the body of loop node 'loop' (FILE) continues the context that comes with 'draft', but its result, function "
        "node 'shout' (FILE), has none for the next round",
    ),
    (score_of_wrong_type, "select node 'select' (FILE): 'shout' gives str, but a score is a number"),
    (select_from_text, "select node 'select' (FILE) selects over input 'text' (FILE) of type str, which is no list"),
    (narrowed_twice, "select node 'select' (FILE) and think node 'think' (FILE) both say how many samples are enough"),
    (
        narrowed_for_another,
        "select node 'select' (FILE) lets think node 'think' (FILE) stop at k_of(2), but function node 'same' (FILE) "
        "reads its samples too",
    ),
    (more_than_there_are, "think node 'think' (FILE) waits for k_of(3) of 2, which can never be; use 2 or fewer"),
    (none_of, "k_of(0) waits for nothing; use 1 or more"),
    (gather_a_list, "gather node 'gather' (FILE) was given input 'texts' (FILE); write the items out"),
    (gather_nothing, "gather node 'gather' (FILE) was given no items"),
    (
        settled_as_a_plain_value,
        "an element of map node 'lookup' (FILE) gives Settled[str], but argument 'items' of map node 'first' (FILE)",
    ),
    (field_of_a_failure, "function node 'same' (FILE) is of type Settled, which has no field 'reason'"),
    (generic_result, "function node 'first' (FILE) gives int, but argument 'text' of function node 'shout' (FILE)"),
    (generic_field, "field 'content' of function node 'box' (FILE) gives int, but argument 'text' of function"),
    (team_of_nobody, "team node 'team' (FILE) has no members; give it a template for each"),
    (
        value_for_no_member,
        "team node 'team' (FILE) was given 'text' (input 'text' (FILE)), which its template does not",
    ),
    (after_a_team, "comes after team node 'team' (FILE), which has several contexts; continue a thought with one"),
    (question_without_a_value, "the template of ask node 'ask' (FILE) holds '{x}' but no such value was given"),
    (
        map_calls_a_value,
        "map node 'Ref' (FILE) was given input 'text' (FILE) to call; give it a tool, graph or function",
    ),
]


@pytest.mark.parametrize(("function", "message"), WRONG, ids=[function.__name__ for function, _ in WRONG])
def test_a_wrong_graph_is_refused(function: Callable[..., Any], message: str) -> None:
    with pytest.raises(GraphError) as caught:
        plait.graph(function)
    lines = range(function.__code__.co_firstlineno, max(line for *_, line in function.__code__.co_lines() if line) + 3)
    shown = re.sub(
        r"[\w/.]*test_wrong_compounds\.py:(\d+)",
        lambda found: "FILE" if int(found[1]) in lines else "OTHER",
        str(caught.value),
    )
    assert message in shown


def test_a_graph_that_continues_an_input_can_not_run_by_itself() -> None:
    message = r"think node 'think' \(.*\) continues the context that comes with input 'draft', which has none when"
    with pytest.raises(GraphError, match=message):
        improve.run_sync("x", engine=ScriptedEngine(["y"]))


@pytest.mark.parametrize("place", ["at the top", "in a loop in an arm"])
def test_a_team_is_refused_on_an_engine_without_its_layout(place: str) -> None:
    @plait.graph
    def solve(g: Builder, task: str) -> str:
        return g.function(first, items=g.team(["One {t}.", "Two {t}."], layout="tokenwise", t=task, name="both"))

    @plait.graph
    def nested(g: Builder, task: str, flag: bool) -> str:
        arms: dict[Any, Any] = {True: lambda h, task: h.loop(solve, task, at_most=2), False: lambda h, task: task}
        return g.branch(flag, arms, task=task)

    engine = ScriptedEngine([], capabilities=Capabilities(team=frozenset({"combined"})))
    message = (
        r"graph 'solve': team node 'both' \(.*\) needs 'team:tokenwise', which engine 'scripted' can't do; .*"
        r"engines that can: local, transformers, scripted"
    )
    with pytest.raises(GraphError, match=message):
        compile_graph(solve if place == "at the top" else nested, engine)
    assert engine.calls == 0

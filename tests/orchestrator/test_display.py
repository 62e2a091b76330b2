"""The tree in the terminal, from events alone."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

import plait
from plait.engines.scripted import ScriptedEngine
from plait.errors import NodeError
from plait.orchestrator import (
    Budget,
    BudgetSpent,
    Builder,
    Display,
    Event,
    Graph,
    NodeCancelled,
    NodeFailed,
    NodeFinished,
    NodeNote,
    NodeStarted,
    NodeText,
    RunFailed,
    RunFinished,
    RunStarted,
    Scope,
)
from plait.orchestrator.display import CHILDREN_SHOWN
from plait.usage import Usage


@plait.tool
async def population(country: str) -> int:
    """Number of people."""
    return {"Peru": 34}[country]


async def drive(scope: Scope, question: str) -> str:
    context = await scope.start(question)
    with scope.grow("task", "look [both] up") as task:
        await task.settle([(population, {"country": name}) for name in ("Peru", "Atlantis")])
    return (await scope.generate(context, title="answer")).text


@pytest.fixture
def graph() -> Graph[str]:
    @plait.graph
    def ask(g: Builder, question: str) -> str:
        return g.drive(drive, question=question)

    return ask


def shown(graph: Graph[str], console: Console, *, enabled: bool = True) -> Display:
    with Display(enabled=enabled, console=console) as display:
        graph.run_sync("q", engine=ScriptedEngine(["thirty four"]), listeners=[display])
    return display


def test_without_a_terminal_there_are_plain_lines(graph: Graph[str]) -> None:
    out = io.StringIO()
    shown(graph, Console(file=out, width=40))
    text = out.getvalue()
    assert text.startswith("ask on scripted\n")
    assert "      ✓ call population(country='Peru') → 34" in text
    assert "✗ call population(country='Atlantis') ✗ tool 'population' failed: KeyError: 'Atlantis'" in text
    assert "    ✓ task look [both] up" in text
    assert "  ✓ drive → thirty four  2 tokens" in text
    assert text.splitlines()[-1].startswith("✓ ask on scripted  5 nodes, 2 tokens, 2 calls, ")
    assert "\x1b" not in text


def test_in_a_terminal_the_tree_is_live(graph: Graph[str]) -> None:
    out = io.StringIO()
    display = shown(graph, Console(file=out, width=100, force_terminal=True))
    still = Console(file=io.StringIO(), width=100, record=True)
    still.print(display.tree())
    tree = still.export_text()
    assert "└── ✓ drive → thirty four  2 tokens, 2 calls, " in tree
    assert "    ├── ✓ task look [both] up" in tree
    assert "    │   ├── ✓ call population(country='Peru') → 34" in tree
    assert "    └── ✓ think answer → thirty four  2 tokens" in tree
    assert "look [both] up" in out.getvalue()


def test_quiet_shows_nothing(graph: Graph[str]) -> None:
    out = io.StringIO()
    shown(graph, Console(file=out), enabled=False)
    assert out.getvalue() == ""


def test_a_failed_run_leaves_its_tree(graph: Graph[str]) -> None:
    out = io.StringIO()
    with Display(console=Console(file=out, width=200)) as display, pytest.raises(NodeError):
        graph.run_sync("q", engine=ScriptedEngine([]), listeners=[display])
    assert "✗ think answer ✗ the script has no more than 0 replies" in out.getvalue()


# ---- the tree as it goes on


def drawn(display: Display, width: int = 80) -> str:
    still = Console(file=io.StringIO(), width=width, record=True)
    still.print(display.tree())
    return still.export_text()


def told(*events: tuple[type[Event], dict[str, Any]]) -> Display:
    """A display that has been told of events."""
    display = Display(console=Console(file=io.StringIO(), width=80))
    for number, (kind, fields) in enumerate(events):
        display.show(kind(sequence=number, at=0.0, **fields))
    return display


def start(path: str, kind: str, title: str, parent: str = "") -> tuple[type[Event], dict[str, Any]]:
    return NodeStarted, {"path": path, "kind": kind, "title": title, "parent": parent}


def end(path: str, summary: str = "", **usage: float) -> tuple[type[Event], dict[str, Any]]:
    return NodeFinished, {"path": path, "summary": summary, "usage": Usage(**usage), "seconds": 0.0}  # type: ignore[arg-type]


BEGIN = (RunStarted, {"run": "r", "graph": "compare", "engine": "scripted", "seed": 0})


def test_a_map_shows_how_many_are_done_of_how_many_and_what_they_have_used() -> None:
    display = told(
        BEGIN,
        start("people", "map", "people"),
        (NodeNote, {"path": "people", "name": "items", "data": 4}),
        start("people/1", "call", "population('Peru')", "people"),
        start("people/2", "call", "population('Chile')", "people"),
        end("people/1", "34", calls=1, cost=0.25),
    )
    assert drawn(display).splitlines() == [
        "… compare on scripted  1 of 3 nodes, 1 call, cost 0.25",
        "└── … map people ━━━━━━━━━━━━ 1/4  cost 0.25",
        "    ├── ✓ call population('Peru') → 34  cost 0.25",
        "    └── … call population('Chile')",
    ]


def test_a_map_with_failures_says_how_many_have_come_through() -> None:
    failed = {"path": "m/1", "error": "E", "message": "no", "usage": Usage(), "seconds": 0.0}
    display = told(
        start("m", "map", "m"),
        (NodeNote, {"path": "m", "name": "items", "data": 2}),
        start("m/1", "call", "one", "m"),
        start("m/2", "call", "two", "m"),
        (NodeFailed, failed),
        end("m/2", "2"),
        end("m", "[…]"),
    )
    assert "✓ map m 1/2 → […]" in drawn(display)
    assert "✗ call one ✗ no" in drawn(display)


def test_tokens_and_money_rise_while_a_run_goes_on_and_are_the_meters_own_in_the_end() -> None:
    events: list[tuple[type[Event], dict[str, Any]]] = [
        BEGIN,
        start("task", "drive", "task"),
        start("task/1", "think", "one", "task"),
        start("task/2", "think", "two", "task"),
        (NodeText, {"path": "task/1", "text": "a b ", "tokens": 2}),
        (NodeText, {"path": "task/2", "text": "c", "tokens": 1}),
    ]
    assert drawn(told(*events)).splitlines()[:2] == [
        "… compare on scripted  0 of 3 nodes, 3 tokens",
        "└── … drive task  3 tokens",
    ]
    events += [end("task/1", "a b c", generated=3, cost=0.5), end("task/2", "c", generated=1, cost=0.125)]
    assert "0 of 3" not in drawn(told(*events))
    assert drawn(told(*events)).splitlines()[1] == "└── … drive task  4 tokens, cost 0.625"
    events += [end("task", "x", generated=5, cost=1234.5)]  # it said one token itself
    assert drawn(told(*events)).splitlines()[:2] == [
        "… compare on scripted  3 nodes, 5 tokens, cost 1,234.50",
        "└── ✓ drive task → x  5 tokens, cost 1,234.50",
    ]


def test_of_many_children_the_failed_the_running_and_the_latest_are_shown() -> None:
    events = [start("m", "map", "m"), (NodeNote, {"path": "m", "name": "items", "data": 1000})]
    for number in range(500):
        events.append(start(f"m/{number}", "call", f"call {number}", "m"))
        if number == 17:
            events.append(
                (NodeFailed, {"path": "m/17", "error": "E", "message": "no", "usage": Usage(), "seconds": 0.0})
            )
        elif number < 498:
            events.append(end(f"m/{number}", "x"))
    lines = drawn(told(*events)).splitlines()
    assert lines[1] == "└── … map m ━━━━━━━━━━━━ 498/1,000"
    assert lines[2] == f"    ├── … {500 - CHILDREN_SHOWN} more: {500 - CHILDREN_SHOWN} done"
    assert lines[3] == "    ├── ✗ call 17 ✗ no"
    assert lines[-1] == "    └── … call 499"
    assert len(lines) == 3 + CHILDREN_SHOWN


def test_a_tree_higher_than_the_window_hides_what_is_below_ended_nodes_until_the_end() -> None:
    out = io.StringIO()
    console = Console(file=out, width=60, height=6, force_terminal=True, color_system=None)
    with Display(console=console) as display:
        for number in range(4):
            for kind, fields in (
                start(f"{number}", "task", f"outer {number}"),
                start(f"{number}/1", "think", f"inner {number}", f"{number}"),
            ):
                display.show(kind(sequence=0, at=0.0, **fields))
            if number < 3:
                for kind, fields in (end(f"{number}/1", "x"), end(f"{number}", "y")):
                    display.show(kind(sequence=0, at=0.0, **fields))
        live = Console(file=io.StringIO(), width=60, record=True)
        live.print(display._fitting())
    shown_live = live.export_text()
    assert "inner 3" in shown_live
    assert "inner 1" not in shown_live
    assert all(f"inner {number}" in out.getvalue() for number in range(4))


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_lines_are_cut_to_the_terminals_width_and_keep_what_matters(width: int) -> None:
    display = told(
        BEGIN,
        start("t", "think", "日本の人口は"),
        (NodeText, {"path": "t", "text": "word " * 100 + "last", "tokens": 101}),
        start("u", "think", "title " * 50),
        end("u", "value " * 50, generated=7),
    )
    lines = drawn(display, width).splitlines()
    assert len(lines) == 3
    assert all(cell_len(line) <= width for line in lines)
    if width >= 40:
        assert "日本の人口は …" in lines[1]
        assert "st  101 tokens" in lines[1]


def test_a_budget_that_is_spent_is_said_where_it_ended_something() -> None:
    async def drive(scope: Scope) -> str:
        context = await scope.start("q")
        scope.offer("half")
        while True:
            await scope.generate(context, max_tokens=3)

    out = io.StringIO()
    graph = plait.graph(lambda g: g.drive(drive, name="search"))
    with Display(console=Console(file=out, width=200)) as display:
        engine = ScriptedEngine(lambda prompt, index: "a b c")
        assert graph.run_sync(engine=engine, listeners=[display], budget=Budget(tokens=10)) == "half"
    assert "! the budget of the run is spent: tokens=10" in out.getvalue()
    assert "✓ drive search ! the budget of the run is spent: tokens=10" in drawn(display, 200)


# ---- whatever comes


names = st.sampled_from(["", "a", "b", "a/1", "a/1/2", "b/1", "/", "a//", "run"])
texts = st.one_of(
    st.text(max_size=30), st.sampled_from(["\x1b[2J", "[red]", "\u202e", "\ud800", "\n\r\t\a", "x" * 500])
)
floats = st.floats() | st.sampled_from([math.inf, -math.inf, math.nan, -1.0, 1e300])
numbers = st.integers(-(10**12), 10**12)
usages = st.builds(Usage, generated=numbers, calls=numbers, cost=floats, seconds=floats)
common = {"sequence": st.integers(), "at": floats}
ends = {"usage": usages, "seconds": floats}
hostile = st.one_of(
    st.builds(RunStarted, **common, run=texts, graph=texts, engine=texts, seed=numbers),
    st.builds(NodeStarted, **common, path=names, kind=texts, title=texts, parent=names),
    st.builds(NodeText, **common, path=names, text=texts, tokens=numbers),
    st.builds(NodeNote, **common, path=names, name=st.just("items") | texts, data=numbers | floats | texts | st.none()),
    st.builds(NodeFinished, **common, **ends, path=names, summary=texts),
    st.builds(NodeFailed, **common, **ends, path=names, error=texts, message=texts),
    st.builds(NodeCancelled, **common, **ends, path=names),
    st.builds(BudgetSpent, **common, path=names, message=texts, answered=st.booleans()),
    st.builds(RunFinished, **common, **ends, run=texts, summary=texts),
    st.builds(RunFailed, **common, **ends, run=texts, error=texts, message=texts),
)


def check_bears(events: list[Event], width: int, *, terminal: bool) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    console = Console(file=out, width=width, force_terminal=terminal, color_system=None)
    display = Display(console=console)
    for event in events:
        display.show(event)
    console.print(display.tree())
    console.print(display._fitting())
    out.flush()
    text = out.buffer.getvalue().decode()  # type: ignore[attr-defined]
    assert not any(letter in text for letter in "\x1b\u202e\a\r"), "a terminal would obey"
    assert all(cell_len(line) <= width for line in drawn(display, width).splitlines())


@settings(max_examples=150)
@given(st.lists(hostile, max_size=25), st.sampled_from([20, 80]), st.booleans())
def test_a_display_bears_whatever_events_come_in_whatever_order(
    events: list[Event], width: int, terminal: bool
) -> None:
    check_bears(events, width, terminal=terminal)


@pytest.mark.long
@settings(max_examples=10_000)
@given(st.lists(hostile, max_size=25), st.sampled_from([20, 80]), st.booleans())
def test_a_display_bears_ten_thousand_streams_of_events(events: list[Event], width: int, terminal: bool) -> None:
    check_bears(events, width, terminal=terminal)

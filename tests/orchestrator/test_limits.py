"""Limits: whatever stands inside what, no more is in flight anywhere than each limit around it allows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

import plait
from plait.engines.scripted import Reply, ScriptedEngine
from plait.errors import InputError, NodeError
from plait.orchestrator import Builder, Event, Graph, Limits, NodeStarted, Scope

pytestmark = pytest.mark.anyio


class Traffic:
    """A tool and an engine that count what is in flight, by the mark that each call and prompt bears."""

    def __init__(self, cap: int = 1000) -> None:
        self.now: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()

        @plait.tool(name="go", cap=cap)
        async def go(mark: str, number: int) -> int:
            await self.pass_by(mark, "go", "all")
            return number

        self.tool = go
        self.engine = ScriptedEngine(lambda prompt, index: Reply("x", latency=0.0005))

    async def pass_by(self, *marks: str) -> None:
        self.now.update(marks)
        self.peak |= self.now
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        self.now.subtract(marks)


def turns(traffic: Traffic, left: int, right: int, drafts: int) -> Graph[list[Any]]:
    """Two drivers that make all their calls in one turn, and a thought of several samples, side by side."""

    async def drive(scope: Scope, mark: str, count: int) -> list[int]:
        calls = [(traffic.tool, {"mark": mark, "number": number}) for number in range(count)]
        return [outcome.value for outcome in await scope.settle(calls)]

    @plait.graph
    def build(g: Builder) -> list[Any]:
        first = g.drive(drive, mark="left", count=left, name="left")
        second = g.drive(drive, mark="right", count=right, name="right")
        return [first, second, g.think("Go.", samples=drafts, name="drafts")]

    return build


async def test_eight_hundred_calls_of_one_turn_come_back_in_order_under_cap_and_node_limit() -> None:
    for limits, peak in [(Limits(), 16), (Limits(nodes={"left": 5}), 5), (Limits(nodes={"left": 50}), 16)]:
        traffic = Traffic(cap=16)
        value = await turns(traffic, 800, 1, 1).run(engine=traffic.engine, limits=limits)
        assert value[0] == list(range(800))
        assert traffic.peak["left"] == peak


async def test_a_nodes_limit_leaves_others_alone() -> None:
    traffic = Traffic(cap=20)
    limits = Limits(nodes={"left": 3})
    await turns(traffic, 40, 40, 1).run(engine=traffic.engine, limits=limits)
    assert traffic.peak["left"] == 3
    assert traffic.peak["right"] > 3
    assert traffic.peak["go"] == 20


async def test_a_nodes_limit_holds_for_its_generations_and_for_all_that_it_grows() -> None:
    engine = ScriptedEngine(lambda prompt, index: Reply("x", latency=0.001))

    async def think(scope: Scope) -> str:
        return (await scope.generate(await scope.start("q"))).text

    async def drive(scope: Scope) -> list[str]:
        return await scope.gather([(f"thought {number}", think) for number in range(9)])

    for limits, peak in [({"tree": 2}, 2), ({"tree": 0}, 9), ({"tree": 4, "tree/1-thought-0": 1}, 4)]:
        engine.peak_active = 0
        graph = plait.graph(lambda g: g.drive(drive, name="tree"))
        assert await graph.run(engine=engine, limits=Limits(nodes=limits)) == ["x"] * 9
        assert engine.peak_active == peak


async def test_a_limit_on_a_node_within_a_graph_is_named_by_its_path() -> None:
    traffic = Traffic(cap=8)

    @plait.graph
    def inner(g: Builder, numbers: list[int]) -> list[int]:
        return g.map(traffic.tool, numbers, mark="inner", name="calls")

    graph = plait.graph(lambda g: g.subgraph(inner, numbers=list(range(30))))
    started: list[str] = []

    def note(event: Event) -> None:
        if isinstance(event, NodeStarted):
            started.append(event.path)

    await graph.run(limits=Limits(nodes={"inner/calls": 2}), listeners=[note])
    assert "inner/calls" in started
    assert traffic.peak["inner"] == 2


@given(
    cap=st.integers(1, 9),
    run=st.integers(0, 9),
    engine=st.integers(0, 4),
    left=st.integers(0, 6),
    tool=st.integers(0, 9),
    counts=st.tuples(st.integers(0, 25), st.integers(0, 25), st.integers(1, 8)),
)
def test_nested_limits_all_hold_at_once_and_let_everything_through(
    cap: int, run: int, engine: int, left: int, tool: int, counts: Sequence[int]
) -> None:
    traffic = Traffic(cap)
    limits = Limits(run=run, engine=engine, tools={"go": tool}, nodes={"left": left})

    async def main() -> None:
        with anyio.fail_after(60):
            value = await turns(traffic, *counts).run(engine=traffic.engine, limits=limits)
        assert value == [list(range(counts[0])), list(range(counts[1])), ["x"] * counts[2] if counts[2] > 1 else "x"]

    anyio.run(main)
    assert not any(traffic.now.values())
    for peak, limit in [
        (traffic.peak["left"], left),
        (traffic.peak["go"], tool),
        (traffic.peak["all"], run),
        (traffic.engine.peak_active, engine),
        (traffic.engine.peak_active, run),
    ]:
        assert not limit or peak <= limit


async def test_a_failure_or_a_cancelled_run_leaves_no_place_of_a_node_taken() -> None:
    @plait.tool(cap=4)
    async def fail(number: int) -> int:
        await anyio.lowlevel.checkpoint()
        raise ValueError("no")

    @plait.graph
    def build(g: Builder) -> list[int]:
        return g.map(fail, list(range(50)), name="all")

    async with build.stream(limits=Limits(nodes={"all": 3}, run=2)) as run:
        with pytest.raises(NodeError, match="ValueError: no"):
            async for _ in run:
                pass
        run.check_integrity()


async def test_a_limit_of_a_node_that_is_not_there_is_refused() -> None:
    traffic = Traffic()
    with pytest.raises(InputError, match="limits name node 'lift', which graph 'build' has not; it has left, right"):
        await turns(traffic, 1, 1, 1).run(engine=traffic.engine, limits=Limits(nodes={"lift": 3}))
    with pytest.raises(InputError, match="limit left=-1 is negative"):
        Limits(nodes={"left": -1})

"""Random graphs: what the ready queue computes equals a direct evaluation, on either event loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import plait
from plait.orchestrator import Builder, Event, Graph, NodeFinished, NodeStarted

KINDS = ("quick", "async", "call", "map", "subgraph", "branch", "loop", "gather", "select")


@dataclass(frozen=True)
class Spec:
    """One node: its kind, the earlier nodes that it reads, and turns of the loop that it takes."""

    kind: str
    reads: tuple[int, ...]
    turns: int


@st.composite
def specs(draw: st.DrawFn) -> list[Spec]:
    count = draw(st.integers(1, 14))
    return [
        Spec(
            draw(st.sampled_from(KINDS)),
            tuple(draw(st.lists(st.integers(-1, index - 1), min_size=1, max_size=3))),
            draw(st.integers(0, 3)),
        )
        for index in range(count)
    ]


def combine(numbers: list[int]) -> int:
    return (sum((place + 2) * number for place, number in enumerate(numbers)) + 1) % 1_000_003


async def combine_slowly(numbers: list[int], turns: int) -> int:
    for _ in range(turns):
        await anyio.lowlevel.checkpoint()
    return combine(numbers)


@plait.tool(cap=2)
async def combine_tool(numbers: list[int], turns: int) -> int:
    """Combine as a tool."""
    return await combine_slowly(numbers, turns)


def square(number: int) -> int:
    return number * number


def is_even(number: int) -> bool:
    return number % 2 == 0


def is_round(number: int) -> bool:
    return number % 5 == 0


def last_digit(number: int) -> int:
    return number % 10


@plait.graph
def combined(g: Builder, numbers: list[int], turns: int = 1) -> int:
    return g.function(combine_slowly, numbers=numbers, turns=turns)


@plait.graph
def again(g: Builder, number: int, turns: int) -> int:
    return g.subgraph(combined, [number], turns=turns)


def evaluate(kind: str, numbers: list[int]) -> int:
    value = combine(numbers)
    match kind:
        case "map":
            return combine([square(number) for number in numbers])
        case "branch":
            return combine([value]) if is_even(value) else square(value) % 1000
        case "loop":
            for _ in range(3):
                value = combine([value])
                if is_round(value):
                    break
            return value
        case "select":
            return max(numbers, key=last_digit)
    return value


def direct(nodes: list[Spec], start: int) -> int:
    values: dict[int, int] = {-1: start}
    for index, spec in enumerate(nodes):
        numbers = [values[read] for read in spec.reads]
        values[index] = evaluate(spec.kind, numbers)
    return combine(list(values.values()))


def build(nodes: list[Spec]) -> Graph[int]:
    def write(g: Builder, start: int) -> int:
        refs: dict[int, Any] = {-1: start}
        for index, spec in enumerate(nodes):
            numbers = [refs[read] for read in spec.reads]
            match spec.kind:
                case "quick":
                    refs[index] = g.function(combine, numbers=numbers)
                case "async":
                    refs[index] = g.function(combine_slowly, numbers=numbers, turns=spec.turns)
                case "call":
                    refs[index] = g.call(combine_tool, numbers=numbers, turns=spec.turns)
                case "map":
                    refs[index] = g.function(combine, numbers=g.map(square, numbers))
                case _:
                    refs[index] = write_compound(g, spec, numbers)
        return g.function(combine, numbers=list(refs.values()))

    return plait.graph(name="random")(write)


def write_compound(g: Builder, spec: Spec, numbers: list[Any]) -> Any:
    match spec.kind:
        case "subgraph":
            return g.subgraph(combined, numbers, turns=spec.turns)
        case "branch":
            value = g.function(combine, numbers=numbers)
            even = g.function(is_even, number=value)
            odd = plait.graph(lambda h, number: h.function(lambda number: square(number) % 1000, number=number))
            arms: dict[Any, Any] = {True: again, False: odd}
            return g.branch(even, arms, number=value, turns=spec.turns)
        case "loop":
            start = g.function(combine, numbers=numbers)
            return g.loop(again, start, until=is_round, at_most=3, turns=spec.turns)
        case "gather":
            return g.function(combine, numbers=g.gather(numbers))
    return g.select(numbers, by=last_digit)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=40, deadline=None)
@given(nodes=specs(), start=st.integers(-5, 5))
def test_values_equal_a_direct_evaluation(backend: str, nodes: list[Spec], start: int) -> None:
    graph, events = build(nodes), list[Event]()

    async def main() -> tuple[int, int]:
        return await graph.run(start, engine=None), await graph.run(start, engine=None, listeners=[events.append])

    assert set(anyio.run(main, backend=backend)) == {direct(nodes, start)}
    finished = {event.path: event.sequence for event in events if isinstance(event, NodeFinished)}
    started = {event.path: event.sequence for event in events if isinstance(event, NodeStarted)}
    assert started.keys() == finished.keys()
    assert len(started) == sum(isinstance(event, NodeStarted) for event in events)
    for node in graph.nodes:
        for source in node.sources - {"start"}:
            assert finished[source] < started[node.name]

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

KINDS = ("quick", "async", "call", "map")


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


def direct(nodes: list[Spec], start: int) -> int:
    values: dict[int, int] = {-1: start}
    for index, spec in enumerate(nodes):
        numbers = [values[read] for read in spec.reads]
        values[index] = combine([square(number) for number in numbers] if spec.kind == "map" else numbers)
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
                case _:
                    refs[index] = g.function(combine, numbers=g.map(square, numbers))
        return g.function(combine, numbers=list(refs.values()))

    return plait.graph(name="random")(write)


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
    for node in graph.nodes:
        for source in node.sources - {"start"}:
            assert finished[source] < started[node.name]

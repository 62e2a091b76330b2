"""What does a node cost? plait beside LangGraph and pydantic-graph, in one run, on the same work.

Every node is an async function that adds one, so that nobody is spared a task; `plain` are plait's plain functions. All
answers are compared before anything is timed. The systems take turns; median and spread of the rounds are printed.
LangGraph runs without a checkpointer, as bare as it goes. Peak memory is Python's (tracemalloc), in a run of its own.
"""

from __future__ import annotations

import json
import operator
import sys
import tracemalloc
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Annotated, Any, TypeAlias, TypedDict

import anyio
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send
from pydantic_graph import GraphBuilder, StepContext, reduce_list_append

import plait
from plait.benchmarks.table import Cell, Table, spread

ROUNDS = 5
Job: TypeAlias = Callable[[], Awaitable[Any]]

COLUMNS = ("work", "system", "ms", "± spread", "µs a node", "of plait", "peak MB")


async def add_one(number: int) -> int:
    return number + 1


def add_one_plain(number: int) -> int:
    return number + 1


async def wait_10_ms(number: int) -> int:
    await anyio.sleep(0.01)
    return number + 1


def main(*, as_json: bool = False) -> None:
    """Print both tables, or the same as data."""
    with TemporaryDirectory() as folder:
        tables = [anyio.run(costs, Path(folder)), anyio.run(barriers)]
    if as_json:
        print(json.dumps({"tables": [table.as_dict() for table in tables]}))
        return
    for table in tables:
        print(table.text(), end="\n\n")


async def costs(folder: Path) -> Table:
    """Chains and fan-outs of nodes that do nothing, and of nodes that wait."""
    works: list[tuple[str, int, Any, dict[str, Job]]] = [
        ("chain of 1,000", 1000, 1000, _chains(1000, folder)),
        ("fan-out of 1,000", 1000, list(range(1, 1001)), _fan_outs(1000, add_one, folder)),
        ("fan-out of 10,000", 10_000, list(range(1, 10_001)), _fan_outs(10_000, add_one, folder)),
        ("1,000 that wait 10 ms", 1000, list(range(1, 1001)), _fan_outs(1000, wait_10_ms, folder)),
    ]
    rows: list[tuple[Cell, ...]] = []
    for work, nodes, expected, jobs in works:
        sys.stderr.write(f"measuring {work} …\n")
        for system, job in jobs.items():
            found = await job()
            assert found == expected, f"{system} gave {str(found)[:80]} for {work}"
        rows += await _timed(work, nodes, jobs)
    question = f"{ROUNDS} rounds; langgraph {version('langgraph')}, pydantic-graph {version('pydantic-graph')}"
    return Table("nodes", question, COLUMNS, tuple(rows))


async def _timed(work: str, nodes: int, jobs: dict[str, Job]) -> list[tuple[Cell, ...]]:
    seconds: dict[str, list[float]] = {system: [] for system in jobs}
    for _ in range(ROUNDS):
        for system, job in jobs.items():
            start = perf_counter()
            await job()
            seconds[system].append(perf_counter() - start)
    rows: list[tuple[Cell, ...]] = []
    ours = spread(seconds["plait"])[0]
    for system, job in jobs.items():
        took, spread_of_it = spread(seconds[system])
        rows.append((work, system, 1e3 * took, 1e3 * spread_of_it, 1e6 * took / nodes, took / ours, await _peak(job)))
    return rows


async def _peak(job: Job) -> float:
    tracemalloc.start()
    await job()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


async def barriers() -> Table:
    """A branch of five quick nodes beside one that waits half a second: when does its last node run?"""
    rows: list[tuple[Cell, ...]] = []
    for system, branch in (("plait", _plait_branches), ("langgraph", _langgraph_branches)):
        found = [await branch() for _ in range(ROUNDS)]
        rows.append((system, *(1000 * value for value in spread(found))))
    question = "ms until the last of five quick nodes has run beside a sibling that waits 500 ms"
    return Table("barriers", question, ("system", "ms", "± spread"), tuple(rows))


# ---- plait


def _chains(length: int, folder: Path) -> dict[str, Job]:
    def written(step: Any) -> plait.Graph[int]:
        @plait.graph
        def chain(g: plait.Builder, number: int) -> int:
            for _ in range(length):
                number = g.function(step, number=number)
            return number

        return chain

    waiting, plain = written(add_one), written(add_one_plain)
    return {
        "plait": lambda: waiting.run(0, engine=None),
        "plait, plain": lambda: plain.run(0, engine=None),
        "plait, events": lambda: waiting.run(0, engine=None, listeners=[_ignore]),
        "plait, journal": _journaled(waiting, 0, folder),
        "langgraph": _langgraph_chain(length),
        "pydantic-graph": _pydantic_chain(length),
    }


def _fan_outs(width: int, step: Any, folder: Path) -> dict[str, Job]:
    @plait.graph
    def fan_out(g: plait.Builder, numbers: list[int]) -> list[int]:
        return g.map(step, numbers)

    numbers = list(range(width))
    return {
        "plait": lambda: fan_out.run(numbers, engine=None),
        "plait, events": lambda: fan_out.run(numbers, engine=None, listeners=[_ignore]),
        "plait, journal": _journaled(fan_out, numbers, folder),
        "langgraph": _langgraph_fan_out(width, step),
        "pydantic-graph": _pydantic_fan_out(width, step),
    }


def _journaled(graph: plait.Graph[Any], value: Any, folder: Path) -> Job:
    """With events and a journal on disk, opened and closed with the run."""

    async def run() -> Any:
        return await graph.run(value, engine=None, listeners=[_ignore], journal=folder / "journal.db")

    return run


def _ignore(event: object) -> None:
    """A listener that does nothing with what it hears."""


async def _plait_branches() -> float:
    start, ended = perf_counter(), []

    async def quick(number: int) -> int:
        ended.append(perf_counter())
        return number + 1

    async def slow(number: int) -> int:
        await anyio.sleep(0.5)
        return number

    @plait.graph
    def build(g: plait.Builder, number: int) -> list[int]:
        waiting, fast = g.function(slow, number=number), number
        for _ in range(5):
            fast = g.function(quick, number=fast)
        return [fast, waiting]

    await build.run(0, engine=None)
    return ended[-1] - start


# ---- LangGraph


class Number(TypedDict):
    number: int


class Found(TypedDict):
    found: Annotated[list[tuple[int, int]], operator.add]


def _langgraph_chain(length: int) -> Job:
    async def step(state: Number) -> Number:
        return {"number": await add_one(state["number"])}

    builder = StateGraph(Number)
    for index in range(length):
        builder.add_node(str(index), step)
    builder.add_edge(START, "0")
    for index in range(length - 1):
        builder.add_edge(str(index), str(index + 1))
    builder.add_edge(str(length - 1), END)
    compiled = builder.compile()

    async def run() -> int:
        ended = await compiled.ainvoke({"number": 0}, {"recursion_limit": length + 10})
        return int(ended["number"])

    return run


def _langgraph_fan_out(width: int, function: Callable[[int], Awaitable[int]]) -> Job:
    async def step(state: Number) -> Found:
        return {"found": [(state["number"], await function(state["number"]))]}

    builder = StateGraph(Found)
    builder.add_node("step", step)
    builder.add_conditional_edges(START, lambda _: [Send("step", {"number": number}) for number in range(width)])
    builder.add_edge("step", END)
    compiled = builder.compile()

    async def run() -> list[int]:
        ended = await compiled.ainvoke({"found": []})
        return [value for _, value in sorted(ended["found"])]

    return run


async def _langgraph_branches() -> float:
    start, ended = perf_counter(), []

    async def quick(state: Found) -> Found:
        ended.append(perf_counter())
        return {"found": []}

    async def slow(state: Found) -> Found:
        await anyio.sleep(0.5)
        return {"found": []}

    builder = StateGraph(Found)
    builder.add_node("slow", slow)
    builder.add_edge(START, "slow")
    before = START
    for index in range(5):
        builder.add_node(str(index), quick)
        builder.add_edge(before, str(index))
        before = str(index)
    await builder.compile().ainvoke({"found": []})
    return ended[-1] - start


# ---- pydantic-graph


def _pydantic_chain(length: int) -> Job:
    builder = GraphBuilder(input_type=int, output_type=int, auto_instrument=False)
    before: Any = builder.start_node
    edges = []
    for index in range(length):

        async def step(context: StepContext[None, None, int]) -> int:
            return await add_one(context.inputs)

        node = builder.step(step, node_id=f"step_{index}")
        edges.append(builder.edge_from(before).to(node))
        before = node
    builder.add(*edges, builder.edge_from(before).to(builder.end_node))
    graph = builder.build()
    return lambda: graph.run(inputs=0)


def _pydantic_fan_out(width: int, function: Callable[[int], Awaitable[int]]) -> Job:
    builder = GraphBuilder(input_type=list[int], output_type=list[int], auto_instrument=False)

    async def step(context: StepContext[None, None, int]) -> int:
        return await function(context.inputs)

    node = builder.step(step, node_id="step")
    collect = builder.join(reduce_list_append, initial_factory=list[int])
    builder.add_mapping_edge(builder.start_node, node)
    builder.add(builder.edge_from(node).to(collect), builder.edge_from(collect).to(builder.end_node))
    graph = builder.build()

    async def run() -> list[int]:
        return sorted(await graph.run(inputs=list(range(width))))

    return run

"""What is gained by asking for independent facts at once? Formats beside one query a turn, with tools that take time.

The embedded model answers held-out questions that need several facts, most of which don't depend on each other, one at
a time, in each format in turn. A tool takes 20 to 80 ms, drawn for the call, and a call in a hundred fails and is tried
again; every format gets the same draws. `turns` are the generations of a question: a task tree is one in pieces, which
goes on after every call. `tool s` is the time in which calls were in flight, `faster` the baseline's time over the
format's.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from time import perf_counter
from typing import Any

import anyio

import plait
from plait.benchmarks.table import Cell, Table
from plait.engines import Engine, open_engine
from plait.errors import InputError, RunError
from plait.orchestrator import NodeStarted
from plait.recipes.training.evaluate import Item, fact_items
from plait.recipes.training.questions import FAMILIES as KNOWN
from plait.tools import Retry, Tool
from plait.usage import Usage

BASELINE = "serial_search"
RECIPES: Mapping[str, Callable[..., plait.Graph[str]]] = {
    "serial_search": plait.recipes.serial_search,
    "hybrid_search": plait.recipes.hybrid_search,
    "dta": plait.recipes.dta,
    "tim": plait.recipes.tim,
}
FAMILIES = ("total of 2-6", "difference of sums", "comparison of sums")
QUESTIONS = 300
LATENCY = (0.02, 0.08)
FAILURES = 0.01
RETRY = Retry(on=(ConnectionError,), attempts=4, wait=0.02)
COLUMNS = ("format", "questions", "right", "turns", "calls", "tool s", "wall s", "faster", "tokens", "generated")


@dataclass(slots=True)
class Waiting:
    """Measures how long there were calls in flight."""

    seconds: float = 0.0
    _now: int = 0
    _since: float = 0.0

    def begin(self) -> None:
        if not self._now:
            self._since = perf_counter()
        self._now += 1

    def end(self) -> None:
        self._now -= 1
        if not self._now:
            self.seconds += perf_counter() - self._since


@dataclass(frozen=True, slots=True)
class Answered:
    """One question in one format."""

    family: str
    right: bool
    turns: int
    tool_seconds: float
    seconds: float
    usage: Usage


@dataclass(slots=True)
class SlowTools:
    """Gives tools the ways of a network, the same for the same call whatever the format."""

    question: str
    waiting: Waiting = field(default_factory=Waiting)
    asked: dict[str, int] = field(default_factory=dict)

    def slow(self, tool: Tool) -> Tool:
        async def call(**arguments: Any) -> Any:
            draw = self._draw(f"{tool.name} {sorted(arguments.items())}")
            self.waiting.begin()
            try:
                await anyio.sleep(draw.uniform(*LATENCY))
                if draw.random() < FAILURES:
                    raise ConnectionError("the line is busy")
                return await tool(**arguments)
            finally:
                self.waiting.end()

        return replace(tool, function=call, idempotent=True, retry=RETRY)

    def _draw(self, call: str) -> random.Random:
        self.asked[call] = self.asked.get(call, 0) + 1
        return random.Random(f"{self.question} {call} {self.asked[call]}")


def main(*, engine: str, questions: int, families: Sequence[str], as_json: bool) -> None:
    """Print the tables: all questions, and each family."""
    unknown = [family for family in families if family not in KNOWN]
    if unknown:
        raise InputError(f"family '{unknown[0]}' is unknown; known: {', '.join(KNOWN)}")
    tables = anyio.run(measure, engine, questions, families)
    print(json.dumps([table.as_dict() for table in tables]) if as_json else "\n\n".join(t.text() for t in tables))


async def measure(engine: str = "local", questions: int = QUESTIONS, families: Sequence[str] = FAMILIES) -> list[Table]:
    """All formats on the same questions."""
    async with open_engine(engine) as opened:
        answered = await answer_all(opened, questions, families)
    asked = f"{questions} held-out questions of {len(families)} families, one at a time, engine {engine}"
    whole = tuple(_row(name, "", answered) for name in RECIPES)
    parts = tuple((family, *_row(name, family, answered)) for family in families for name in RECIPES)
    return [Table("agents", asked, COLUMNS, whole), Table("families", "the same", ("family", *COLUMNS), parts)]


async def answer_all(engine: Engine, questions: int, families: Sequence[str]) -> dict[str, list[Answered]]:
    """Every question in every format, one after the other; which format begins moves on from question to question."""
    count, names = -(-questions // len(families)), list(RECIPES)
    asked = {(family, name): _asked(family, RECIPES[name], count) for family in families for name in names}
    answered: dict[str, list[Answered]] = {name: [] for name in names}
    drawn = [(family, number) for number in range(count) for family in families][:questions]
    for turn, (family, number) in enumerate(drawn):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            answered[name].append(await _answer(engine, family, *asked[family, name][number]))
    return answered


def _asked(family: str, recipe: Callable[..., plait.Graph[str]], count: int) -> list[tuple[Item, Waiting]]:
    """The family's questions, each with tools of its own and what is counted of them."""
    made: list[SlowTools] = []

    def with_slow_tools(tools: Sequence[Tool] | None) -> plait.Graph[str]:
        made.append(SlowTools(f"{family} {len(made)}"))
        return recipe([made[-1].slow(tool) for tool in tools or ()])

    return [
        (item, slow.waiting) for item, slow in zip(fact_items(family, with_slow_tools, count, 4242), made, strict=True)
    ]


async def _answer(engine: Engine, family: str, item: Item, waiting: Waiting) -> Answered:
    began, turns = perf_counter(), 0
    async with item.graph.stream(item.task, engine=engine) as run:
        try:
            async for event in run:
                turns += isinstance(event, NodeStarted) and event.kind == "think"
            right = item.is_right(run.value)
        except RunError:
            right = False
    seconds = perf_counter() - began
    return Answered(family, right, turns or run.usage.calls + 1, waiting.seconds, seconds, run.usage)


def _row(name: str, family: str, answered: Mapping[str, Sequence[Answered]]) -> tuple[Cell, ...]:
    mine, baseline = ([each for each in answered[one] if family in ("", each.family)] for one in (name, BASELINE))
    seconds = sum(each.seconds for each in mine)
    return (
        name,
        len(mine),
        f"{fmean(each.right for each in mine):.1%}",
        fmean(each.turns for each in mine),
        fmean(each.usage.calls for each in mine),
        fmean(each.tool_seconds for each in mine),
        seconds / len(mine),
        sum(each.seconds for each in baseline) / seconds,
        fmean(each.usage.prompt + each.usage.generated for each in mine),
        fmean(each.usage.generated for each in mine),
    )

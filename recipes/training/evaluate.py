"""How often the embedded model is right: the real engine, real tools in the loop, greedy, grammars on.

Fact questions are held out: their entities are never in the training data, and in the family "unseen words" neither are
the attributes and relations. Every operand of a hop family has that many hops. Country questions are written by hand. A
Countdown task counts if the path that the model claims is right by arithmetic.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import anyio

from ...engines import Engine
from ...errors import RunError
from ...orchestrator import Graph
from ...tools import Tool, calculator, default_tools
from ...tools.facts import FactTable, lookup_in
from ...tools.table import Row, Table
from ..countdown import countdown, countdown_serial
from ..dta import dta
from ..hybrid_search import hybrid_search, serial_search
from ..tim import tim
from .facts_tasks import Facts, answer
from .questions import FAMILIES, countdown_tasks, questions, same_answer

Recipe = Callable[[Sequence[Tool] | None], Graph[str]]

FORMATS: dict[str, Recipe] = {
    "task tree": tim,
    "parallel queries": hybrid_search,
    "one query a turn": serial_search,
    "function calls": dta,
}
COUNTRIES = "countries, written by hand"
COUNTRY_QUESTIONS = Path(__file__).parent / "country_questions.jsonl"
AT_ONCE = 48


@dataclass(frozen=True, slots=True)
class Score:
    """Right answers of one family in one format. `failed` runs ended without an answer; `wrong` shows a few misses."""

    family: str
    format: str
    right: int
    asked: int
    failed: int
    seconds: float
    wrong: tuple[tuple[str, str, str], ...] = ()

    @property
    def rate(self) -> float:
        return self.right / self.asked


@dataclass(frozen=True, slots=True)
class Item:
    """A task, the graph that solves it, and whether an answer is right."""

    task: str
    expected: str
    graph: Graph[str]
    is_right: Callable[[str], bool]


async def evaluate(
    engine: Engine,
    *,
    count: int = 500,
    seed: int = 4242,
    families: Sequence[str] = (),
    formats: Sequence[str] = (),
    report: Callable[[Score], None] = lambda score: None,
) -> list[Score]:
    """Score every family (or those named) in every format (or those named), `count` tasks each (Countdown with
    four numbers: a tenth). `report` is told each score as it comes.
    """
    scores = []
    for family, format_name, items in _plan(count, seed):
        if (not families or family in families) and (not formats or format_name in formats):
            scores.append(await _score(engine, family, format_name, items()))
            report(scores[-1])
    return scores


def table(scores: Sequence[Score]) -> str:
    """The scores as a Markdown table, formats side by side."""
    columns = list(dict.fromkeys(score.format for score in scores))
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for family in dict.fromkeys(score.family for score in scores):
        cells = {score.format: f"{score.rate:.1%} of {score.asked}" for score in scores if score.family == family}
        lines.append(f"| {family} | " + " | ".join(cells.get(column, "") for column in columns) + " |")
    return "\n".join(lines)


def as_data(scores: Sequence[Score]) -> list[dict[str, Any]]:
    return [asdict(score) for score in scores]


def _plan(count: int, seed: int) -> Iterator[tuple[str, str, Callable[[], list[Item]]]]:
    for format_name, recipe in FORMATS.items():
        for family in FAMILIES:
            yield family, format_name, partial(fact_items, family, recipe, count, seed)
        yield COUNTRIES, format_name, partial(_country_items, recipe)
    for numbers, share in ((3, 1), (4, 10)):  # a search over four numbers is some 400 threads: a tenth of them
        spawning = partial(_countdown_items, countdown, numbers, -(-count // share), seed)
        yield f"Countdown, {numbers} numbers", "spawn and join", spawning
    yield "Countdown, 3 numbers", "serial", partial(_countdown_items, countdown_serial, 3, count, seed)


def fact_items(family: str, recipe: Recipe, count: int, seed: int) -> list[Item]:
    items = []
    for asked in questions(family, count, seed=seed):
        right = answer(asked)
        graph = recipe([lookup_in(fact_table(asked.facts)), calculator])
        items.append(Item(asked.question, right, graph, partial(same_answer, right=right)))
    return items


def fact_table(facts: Facts) -> FactTable:
    """A problem's facts as the real look-up holds them."""
    attributes = tuple(dict.fromkeys(attribute for attribute, _ in facts))
    entities = dict.fromkeys(entity for _, entity in facts)
    rows = tuple(
        Row(line, (entity, *(facts.get((attribute, entity), "") for attribute in attributes)))
        for line, entity in enumerate(entities, 2)
    )
    return FactTable([Table(Path("problem"), ("entity", *attributes), rows)])


def _country_items(recipe: Recipe) -> list[Item]:
    graph = recipe(default_tools())
    asked = [json.loads(line) for line in COUNTRY_QUESTIONS.read_text(encoding="utf-8").splitlines()]
    return [Item(item["question"], item["answer"], graph, partial(same_answer, right=item["answer"])) for item in asked]


def _countdown_items(recipe: Callable[[], Graph[str]], numbers: int, count: int, seed: int) -> list[Item]:
    graph = recipe()
    tasks = [f"{target}: {' '.join(map(str, state))}" for target, state in countdown_tasks(numbers, count, seed=seed)]
    return [Item(task, "a path", graph, lambda given: given != "none") for task in tasks]


async def _score(engine: Engine, family: str, format_name: str, items: list[Item]) -> Score:
    """Run all items, some at once; a run that fails is a miss."""
    given: list[str] = [""] * len(items)
    failed: list[str] = []
    limit = anyio.CapacityLimiter(AT_ONCE)

    async def one(index: int) -> None:
        async with limit:
            try:
                given[index] = await items[index].graph.run(items[index].task, engine=engine)
            except RunError as error:
                given[index] = f"({error})"
                failed.append(items[index].task)

    start = perf_counter()
    async with anyio.create_task_group() as group:
        for index in range(len(items)):
            group.start_soon(one, index)
    misses = [
        (item.task, answered, item.expected)
        for item, answered in zip(items, given, strict=True)
        if not item.is_right(answered)
    ]
    right = len(items) - len(misses)
    return Score(family, format_name, right, len(items), len(failed), perf_counter() - start, tuple(misses[:5]))

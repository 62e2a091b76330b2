"""How well, and at what cost, are questions answered from a folder of documents: in parallel queries, and one a turn?

`em` is the share of exact matches and `f1` the mean word overlap with the right answer. `auc` is the area under the
curve of F1 within so many turns, calls or tokens, up to what the dearest run of all formats needed: 1 would be right
answers for nothing. A run that fails scores 0 and counts with what it cost.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import anyio

import plait
from plait.benchmarks.table import Cell, Table
from plait.engines import Engine, open_engine
from plait.errors import DataError, RunError
from plait.orchestrator import NodeStarted
from plait.orchestrator.together import together
from plait.recipes import embed_by
from plait.recipes.scores import area_under, exact_match, f1
from plait.tools import calculator, file_search
from plait.usage import Usage

RECIPES: Mapping[str, Callable[..., plait.Graph[str]]] = {
    "hybrid_search": plait.recipes.hybrid_search,
    "serial_search": plait.recipes.serial_search,
}
AT_ONCE = 8
COLUMNS = ("format", "questions", "em", "f1", "turns", "calls", "tokens", "auc turns", "auc calls", "auc tokens")


@dataclass(frozen=True, slots=True)
class Searched:
    """One question in one format."""

    em: float
    f1: float
    turns: int
    usage: Usage

    @property
    def tokens(self) -> int:
        return self.usage.prompt + self.usage.generated


def main(*, folder: Path, questions: Path, engine: str, read: int, meaning: bool, as_json: bool) -> None:
    """Print the table."""
    table = anyio.run(partial(measure, folder, read_questions(questions), engine, read=read, meaning=meaning))
    print(json.dumps(table.as_dict()) if as_json else table.text())


def read_questions(path: Path) -> list[tuple[str, str]]:
    """Questions with their answers, from JSONL lines with "question" and "answer". Raises DataError."""
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
        return [(str(line["question"]), str(line["answer"])) for line in lines]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} holds no questions with answers: {type(error).__name__} {error}") from error


async def measure(
    folder: Path, questions: Sequence[tuple[str, str]], engine: str, *, read: int = 0, meaning: bool = False
) -> Table:
    """Both formats on all questions. With `meaning` the search is by embeddings, too, which the engine makes."""
    if not questions:
        raise DataError("no questions, no scores; give one at least")
    async with open_engine(engine) as opened:
        search = replace(file_search(folder, embed=embed_by(opened) if meaning else None), name="lookup")
        runs = {
            name: await together(
                [partial(_search, opened, recipe([search, calculator], read=read), *asked) for asked in questions],
                at_once=AT_ONCE,
            )
            for name, recipe in RECIPES.items()
        }
    rows = tuple(_row(name, mine, [run for ran in runs.values() for run in ran]) for name, mine in runs.items())
    how = f"{len(questions)} questions, engine {engine}" + (f", {read} readers a search" if read else "")
    return Table("searchers", how, COLUMNS, rows)


async def _search(engine: Engine, graph: plait.Graph[str], question: str, right: str) -> Searched:
    turns, answer = 0, ""
    async with graph.stream(question, engine=engine) as run:
        try:
            async for event in run:
                turns += isinstance(event, NodeStarted) and event.kind == "think" and _is_turn(event.title)
            answer = run.value
        except RunError:
            pass
    return Searched(exact_match(answer, right), f1(answer, right), turns, run.usage)


def _is_turn(title: str) -> bool:
    return title.startswith(("turn ", "forced answer"))


def _row(name: str, mine: Sequence[Searched], every: Sequence[Searched]) -> tuple[Cell, ...]:
    costs: list[Callable[[Searched], float]] = [
        lambda run: run.turns,
        lambda run: run.usage.calls,
        lambda run: run.tokens,
    ]
    areas = [
        area_under([cost(run) for run in mine], [run.f1 for run in mine], max(max(map(cost, every)), 1.0))
        for cost in costs
    ]
    means: list[Any] = [fmean(cost(run) for run in mine) for cost in costs]
    return (name, len(mine), fmean(run.em for run in mine), fmean(run.f1 for run in mine), *means, *areas)

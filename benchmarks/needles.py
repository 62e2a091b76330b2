"""How far can threads be followed through a haystack that outgrows the window, with and without pruning?

The haystack stands in the prompt, or in files that a full-text index is searched for; found lines come with two
neighbours on each side. Chains grow with the haystack. Without pruning a task tree keeps all that it was shown, with it
the context stays under a stated number of tokens. The default model is scripted: it never misreads what its context
holds (`needle_reader`), so that the table shows what the context holds. A score is the share of right values; a run
that fails scores 0.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import anyio

import plait
from plait.benchmarks.needle_reader import read
from plait.benchmarks.table import Cell, Table
from plait.engines import Engine, open_engine
from plait.engines.scripted import ALL, ScriptedEngine, tokenise
from plait.errors import PlaitError
from plait.recipes.needles import KINDS, Kind, NeedleTask, needle_task
from plait.tools import Tool
from plait.tools.files import FileIndex
from plait.usage import Usage

LENGTHS = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000)
WINDOW, LIVE = 4_096, 1_024
TASKS = 10
MAX_TOKENS = 512
CALLS = 1_000
"""Calls that a run may make: a model that has lost its thread would go on for ever."""
NEIGHBOURS = 2
FOUND = 4
"""Passages that a search gives at most."""
COLUMNS = ("kind", "haystack", "hops", "in the prompt", "no pruning", "pruned", "peak", "calls")


@dataclass(frozen=True, slots=True)
class Ran:
    """How a run ended."""

    score: float
    usage: Usage


def main(*, engine: str, lengths: Sequence[int], tasks: int, as_json: bool) -> None:
    """Print the table. `engine` "" stands for the scripted reader."""
    table = anyio.run(measure, engine, lengths, tasks)
    print(json.dumps(table.as_dict()) if as_json else table.text())


async def measure(engine: str = "", lengths: Sequence[int] = LENGTHS, tasks: int = TASKS) -> Table:
    """All kinds at all lengths."""
    reader = engine or f"scripted reader with a window of {WINDOW:,}"
    question = f"share of right values of {tasks} tasks each, {reader}, pruned to {LIVE:,} tokens"
    if engine:
        async with open_engine(engine) as opened:
            rows = [await _row(opened, kind, length, tasks) for kind in KINDS for length in lengths]
    else:
        rows = [await _row(scripted(), kind, length, tasks) for kind in KINDS for length in lengths]
    return Table("needles", question, COLUMNS, tuple(rows))


def scripted() -> ScriptedEngine:
    """The reader that makes no mistakes."""
    return ScriptedEngine(read, capabilities=replace(ALL, window=WINDOW))


def hops_of(length: int) -> int:
    """How long the chains of a haystack are: 2 at 1,000 tokens, 27 at 50,000."""
    return 2 + length // 2_000


async def _row(engine: Engine, kind: Kind, length: int, tasks: int) -> tuple[Cell, ...]:
    hops = hops_of(length)
    drawn = [
        needle_task(kind, tokens=length, hops=hops, seed=seed, count=lambda text: len(tokenise(text)))
        for seed in range(tasks)
    ]
    whole = [await _run(_asks(), f"{task.question}\n\n{task.text}", task, engine) for task in drawn]
    kept = [await _with_search(task, engine, partial(plait.recipes.tim, mode="none")) for task in drawn]
    pruned = [await _with_search(task, engine, partial(plait.recipes.tim, live=LIVE, recall=True)) for task in drawn]
    scores = [f"{fmean(ran.score for ran in arm):.0%}" for arm in (whole, kept, pruned)]
    peak, calls = max(ran.usage.peak_live for ran in pruned), fmean(ran.usage.calls for ran in pruned)
    return (kind, length, hops, *scores, peak, round(calls))


async def _with_search(task: NeedleTask, engine: Engine, recipe: Callable[..., plait.Graph[str]]) -> Ran:
    with TemporaryDirectory() as folder:
        task.write(Path(folder))
        graph = recipe([search_in(Path(folder))], max_tokens=MAX_TOKENS)
        return await _run(graph, task.question, task, engine)


async def _run(graph: plait.Graph[str], text: str, task: NeedleTask, engine: Engine) -> Ran:
    async with graph.stream(text, engine=engine, budget=plait.Budget(calls=CALLS)) as run:
        try:
            async for _ in run:
                pass
            return Ran(task.score(run.value), run.usage)
        except PlaitError:
            return Ran(0.0, run.usage)


def _asks() -> plait.Graph[str]:
    @plait.graph(name="asks")
    def build(g: plait.Builder, question: str) -> str:
        return g.think("{question}", question=question, max_tokens=MAX_TOKENS)

    return build


def search_in(folder: Path) -> Tool[[str], str]:
    """A tool that shows the lines of a folder's files in which words stand, with their neighbours."""
    index = FileIndex(folder, (".txt",))

    @plait.tool(name="search", idempotent=True)
    async def search(words: str) -> str:
        """Find the lines of the notes that hold these words.

        Args:
            words: Words, such as a key.
        """
        found = await index.search(words, FOUND)
        return "\n".join(line for passage in found for line in _around(words, passage.text.splitlines()))

    return search


def _around(words: str, lines: Sequence[str]) -> list[str]:
    """The lines that hold all the words, and their neighbours."""
    wanted = words.split()
    hits = [number for number, line in enumerate(lines) if all(word in line for word in wanted)]
    return [line for number, line in enumerate(lines) if any(abs(number - hit) <= NEIGHBOURS for hit in hits)]

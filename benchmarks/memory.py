"""How long does it take to select from a large memory, and what is missed?

Concepts of made-up words whose frequencies follow Zipf's law, as those of a language do. Recall is measured against
searching for all words of the task, and against comparing every vector in float64. Directions are random: what is timed
does not depend on them, and embedding so many texts would take an hour; the task is embedded by the embedded model.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import numpy

from plait.benchmarks.table import Cell, Table, spread
from plait.engines import Engine, open_engine
from plait.memory import Concept, Memory, Selector, store

WORDS = 30_000
TASKS = 40
TOP = 10
COLUMNS = ("selected by", "task words", "median ms", "spread ms", f"recall@{TOP}")


def main(*, concepts: int, as_json: bool) -> None:
    """Print the table."""
    table = anyio.run(measure, concepts)
    print(json.dumps(table.as_dict()) if as_json else table.text())


async def measure(concepts: int = 100_000, tasks: int = TASKS) -> Table:
    """Selection by words, by meaning and by both, of short and of long tasks."""
    chance = random.Random(0)
    rows = list[tuple[Cell, ...]]()
    with TemporaryDirectory() as folder, Memory(Path(folder) / "memory.db") as memory:
        async with open_engine("local") as engine:
            memory.add(_concepts(chance, concepts), what="made up")
            size = len(await (await engine.start("size")).embed())
            _keep_directions(memory, engine, size)
            selector = Selector(memory, engine)
            for length in (8, 40):
                asked = [_words(chance, length) for _ in range(tasks)]
                words, meaning = _words_recall(memory, asked), await _meaning_recall(memory, selector, engine, asked)
                rows += [
                    ("words", length, *await _timed(lambda task: _search(memory, task), asked), words),
                    ("meaning", length, *await _timed(lambda task: _nearest(selector, task), asked), meaning),
                    ("both", length, *await _timed(lambda task: selector.select(task, top=TOP), asked), ""),
                ]
    return Table("memory", f"selecting {TOP} of {concepts:,} concepts, {tasks} tasks", COLUMNS, tuple(rows))


async def _search(memory: Memory, task: str) -> object:
    return memory.search(task, TOP)


async def _nearest(selector: Selector, task: str) -> object:
    return await selector.select(task, top=TOP, by="meaning")


async def _timed(select: Callable[[str], Awaitable[object]], tasks: list[str]) -> tuple[float, float]:
    """Median and spread, in ms; the first task is not counted."""
    seconds = []
    for task in tasks:
        started = time.perf_counter()
        await select(task)
        seconds.append((time.perf_counter() - started) * 1e3)
    return spread(seconds[1:])


def _words_recall(memory: Memory, tasks: list[str]) -> float:
    """The share of what a search for all words finds that one for the rarest finds too."""
    found = [set(memory.find(task, TOP)) for task in tasks]
    bound, store.SEARCHED = store.SEARCHED, 1 << 60
    try:
        every = [set(memory.find(task, TOP)) for task in tasks]
    finally:
        store.SEARCHED = bound
    return sum(len(one & all_) for one, all_ in zip(found, every, strict=True)) / sum(map(len, every))


async def _meaning_recall(memory: Memory, selector: Selector, engine: Engine, tasks: list[str]) -> float:
    rows = memory.vectors(engine.name)
    matrix = numpy.stack([numpy.frombuffer(row, numpy.float32) for _, row in rows]).astype(numpy.float64)
    hits = 0
    for task in tasks:
        vector = numpy.asarray(await (await engine.start(task)).embed())
        nearest = numpy.argsort(-(matrix @ vector))[:TOP]
        best = {entry.name for entry in memory.take([rows[index][0] for index in nearest])}
        hits += len(best & {entry.name for entry in await selector.select(task, top=TOP, by="meaning")})
    return hits / (TOP * len(tasks))


def _keep_directions(memory: Memory, engine: Engine, size: int) -> None:
    generator = numpy.random.default_rng(0)
    while items := memory.without_vector(engine.name, 10_000):
        vectors = generator.standard_normal((len(items), size)).astype(numpy.float32)
        vectors /= numpy.linalg.norm(vectors, axis=1, keepdims=True)
        memory.keep_vectors(engine.name, {item: vector.tobytes() for item, vector in zip(items, vectors, strict=True)})


def _concepts(chance: random.Random, count: int) -> Iterator[Concept]:
    for number in range(count):
        yield Concept(
            name=f"{_words(chance, 3)} {number}",
            kind="routine",
            description=_words(chance, 12),
            cues=(_words(chance, 8), _words(chance, 8)),
            implementation=(_words(chance, 10),),
            used_in=(f"puzzle {number % 997}",),
        )


_VOCABULARY = [f"word{number}" for number in range(WORDS)]
_SHARES = list(accumulate(1 / (rank + 3) for rank in range(WORDS)))


def _words(chance: random.Random, count: int) -> str:
    return " ".join(chance.choices(_VOCABULARY, cum_weights=_SHARES, k=count))

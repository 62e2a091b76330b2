"""What do forks and prunes cost? Beside what an engine without them does: encoding the prompt again.

Each way is taken from the same context, in turns; the first token that follows is compared with a fresh prefill's.
`shift` may differ there: how far is measured by `plait bench shift`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from time import perf_counter

import anyio

from plait.benchmarks.checkpoints import checkpoints
from plait.benchmarks.table import Cell, Table, spread
from plait.engines.base import Context
from plait.engines.local import LocalEngine
from plait.orchestrator.together import together

ROUNDS = 3
FORKS = 8
SENTENCE = "The number of people in town {} is {}, and the area of village {} is {}. "
PARTS = (10, 12, 25)
"""Sentences before the cut, in it and after it."""

COLUMNS = ("model", "way", "ms to next token", "± spread", "tokens encoded", "pages added", "same next token")


def measure(folder: Path) -> Table:
    """Forks and prunes on both checkpoints, which are made in `folder`."""
    rows = [row for name, path in checkpoints(folder) for row in anyio.run(compare, name, path)]
    _, cut, after = PARTS
    question = (
        f"{sum(PARTS)} sentences: {FORKS} forks of their context beside {FORKS} prefills of them, and a prune of {cut} "
        f"before the last {after} beside a prefill of what is kept; median of {ROUNDS} rounds"
    )
    return Table("edits", question, COLUMNS, tuple(rows))


async def compare(name: str, path: Path) -> list[tuple[Cell, ...]]:
    """All ways on one checkpoint."""
    async with LocalEngine.open(path, dtype="float32", prefix_cache=False) as engine:
        head, cut, tail = _texts()
        opened = await engine.start(head)
        context = await (await opened.extend(cut)).extend(tail)
        await context.generate(max_tokens=1)
        start = opened.length
        stop = start + context.length - (await opened.extend(tail)).length

        async def forks() -> list[Context]:
            return [context] * FORKS

        async def copies() -> list[Context]:
            return await together([partial(_started, engine, head, cut, tail)] * FORKS)

        async def pruned_exact() -> list[Context]:
            return [await context.prune(start, stop, mode="exact")]

        async def pruned_shift() -> list[Context]:
            return [await context.prune(start, stop, mode="shift")]

        async def fresh() -> list[Context]:
            return [await _started(engine, head, tail)]

        groups: list[dict[str, Callable[[], Awaitable[list[Context]]]]] = [
            {f"{FORKS} forks": forks, f"{FORKS} prefills": copies},
            {"prune shift": pruned_shift, "prune exact": pruned_exact, "prefill of the kept": fresh},
        ]
        return [row for ways in groups for row in await _rows(name, engine, ways)]


async def _rows(
    name: str, engine: LocalEngine, ways: dict[str, Callable[[], Awaitable[list[Context]]]]
) -> list[tuple[Cell, ...]]:
    """Each way in turns, against the last of them."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    counted: dict[str, tuple[int, int, tuple[int, ...]]] = {}
    for _ in range(ROUNDS):
        for way, make in ways.items():
            engine.check_integrity()  # what was given up before is free by now
            before, start = engine.stats(), perf_counter()
            contexts = await make()
            first = await _next_tokens(contexts)
            seconds[way].append(perf_counter() - start)
            after = engine.stats()
            del contexts
            counted[way] = (after.encoded - before.encoded, after.pages_used - before.pages_used, first)
    expected = counted[list(ways)[-1]][2]
    return [
        (name, way, *(1000 * value for value in spread(seconds[way])), encoded, pages, _share(first, expected))
        for way, (encoded, pages, first) in counted.items()
    ]


async def _started(engine: LocalEngine, first: str, *more: str) -> Context:
    context: Context = await engine.start(first)
    for text in more:
        context = await context.extend(text)
    return context


async def _next_tokens(contexts: list[Context]) -> tuple[int, ...]:
    """The greedy next token of each, all asked at once."""
    written = await together([partial(context.generate, max_tokens=1) for context in contexts])
    return tuple(generation.tokens[0] for generation in written)


def _texts() -> list[str]:
    numbers = iter(range(10_000))
    return ["".join(SENTENCE.format(*(next(numbers) for _ in range(4))) for _ in range(count)) for count in PARTS]


def _share(first: tuple[int, ...], expected: tuple[int, ...]) -> str:
    return f"{sum(map(int.__eq__, first, expected))} of {len(expected)}"

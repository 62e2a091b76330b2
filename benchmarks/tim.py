"""What does pruning finished subtasks do? TIM on held-out fact questions, with and without it.

The embedded model, which was not trained to do without finished lists, answers the same questions in every setting, 16
at once. `peak` is the mean of the most tokens that a run held at a time; `pruned` is the share of all tokens of a run
that were dropped before its end; `recomputed` those encoded again because of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any

import anyio

from plait.benchmarks.table import Cell, Table
from plait.engines.local import LocalEngine
from plait.errors import RunError
from plait.orchestrator.together import together
from plait.recipes.tim import KEEP_ALL, tim
from plait.recipes.training.evaluate import Item, fact_items
from plait.usage import Usage

FAMILIES = ("total of 2-6", "two hops")
TASKS = 30
AT_ONCE = 16
MAX_TOKENS = 400
"""A model that has lost its thread goes on to here, not to the end of its window."""
SETTINGS: dict[str, dict[str, Any]] = {
    "no pruning": {"buffer": KEEP_ALL},
    "buffer 2, exact": {"buffer": 2, "mode": "exact"},
    "buffer 1, exact": {"buffer": 1, "mode": "exact"},
    "buffer 0, exact": {"buffer": 0, "mode": "exact"},
    "buffer 1, shift": {"buffer": 1, "mode": "shift"},
    "buffer 0, shift": {"buffer": 0, "mode": "shift"},
}
COLUMNS = ("tasks", "pruning", "right", "peak", "pruned", "recomputed a run", "generated tok/s")


def measure(folder: Path) -> Table:
    """All settings on all families."""
    question = f"{TASKS} questions of each family, {AT_ONCE} at once, once each (greedy: no spread but in tok/s)"
    return Table("tim", question, COLUMNS, tuple(anyio.run(compare)))


async def compare() -> list[tuple[Cell, ...]]:
    rows: list[tuple[Cell, ...]] = []
    async with LocalEngine.open(prefix_cache=False) as engine:
        for family in FAMILIES:
            for setting, options in SETTINGS.items():
                items = fact_items(family, partial(tim, max_tokens=MAX_TOKENS, **options), TASKS, 4242)
                rows.append((family, setting, *await _score(engine, items)))
    return rows


async def _score(engine: LocalEngine, items: Sequence[Item]) -> tuple[Cell, ...]:
    start = perf_counter()
    found = await together([partial(_answer, engine, item) for item in items], at_once=AT_ONCE)
    seconds = perf_counter() - start
    usages = [usage for _, usage in found]
    pruned = sum(usage.pruned for usage in usages) / sum(usage.prompt + usage.generated for usage in usages)
    return (
        f"{sum(right for right, _ in found) / len(found):.1%}",
        fmean(usage.peak_live for usage in usages),
        f"{pruned:.1%}",
        fmean(usage.recomputed for usage in usages),
        sum(usage.generated for usage in usages) / seconds,
    )


async def _answer(engine: LocalEngine, item: Item) -> tuple[bool, Usage]:
    async with item.graph.stream(item.task, engine=engine) as run:
        try:
            async for _ in run:
                pass
            return item.is_right(run.value), run.usage
        except RunError:
            return False, run.usage

"""Does spawning pay? Countdown searched in one thread and by spawn and join (APR), at growing budgets.

Both are the embedded model on the same held-out tasks. A serial search is cut by `max_tokens`, a parallel one by the
children that it may run. What is compared is accuracy against all tokens generated, and against the longest chain of
tokens that depend on each other, which is what one waits for.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from statistics import fmean

import anyio

from plait.benchmarks.table import Cell, Table
from plait.engines.local import LocalEngine
from plait.errors import RunError
from plait.orchestrator import Graph
from plait.orchestrator.together import together
from plait.recipes.countdown import countdown, countdown_serial
from plait.recipes.training.questions import countdown_tasks
from plait.usage import Usage

TASKS = 100
AT_ONCE = 32
SERIAL_TOKENS = (50, 100, 150, 200, 300, 2048)
CHILDREN = (0, 2, 4, 6, 9, 100)
COLUMNS = ("search", "budget", "right", "tokens generated", "longest chain", "parallelism")


def measure(folder: Path) -> Table:
    """All budgets on the embedded model."""
    question = f"accuracy on {TASKS} held-out tasks of three numbers, against mean tokens a task (greedy: no spread)"
    return Table("countdown", question, COLUMNS, tuple(anyio.run(compare)))


async def compare() -> list[tuple[Cell, ...]]:
    tasks = [f"{target}: {' '.join(map(str, state))}" for target, state in countdown_tasks(3, TASKS, seed=4242)]
    rows = []
    async with LocalEngine.open() as engine:
        for tokens in SERIAL_TOKENS:
            graph = countdown_serial(max_tokens=tokens)
            rows.append(("one thread", f"{tokens} tokens", *await _score(engine, graph, tasks)))
        for children in CHILDREN:
            graph = countdown(max_children=max(children, 1), max_calls=children)
            rows.append(("spawn and join", f"{children} children", *await _score(engine, graph, tasks)))
    return rows


async def _score(engine: LocalEngine, graph: Graph[str], tasks: list[str]) -> tuple[Cell, ...]:
    found = await together([partial(_solve, engine, graph, task) for task in tasks], at_once=AT_ONCE)
    right = sum(answer != "none" for answer, _ in found) / len(found)
    generated, chain = (fmean(getattr(usage, name) for _, usage in found) for name in ("generated", "steps"))
    return f"{right:.1%}", generated, chain, generated / chain


async def _solve(engine: LocalEngine, graph: Graph[str], task: str) -> tuple[str, Usage]:
    """The recipe checks the path by arithmetic: anything but "none" is right."""
    async with graph.stream(task, engine=engine) as run:
        try:
            async for _ in run:
                pass
            return run.value, run.usage
        except RunError:  # cut before it returned
            return "none", run.usage

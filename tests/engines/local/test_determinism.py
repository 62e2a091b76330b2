"""A run's seed, a node's path and a sample's index say what is drawn, and nothing that runs beside it (law 6)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

import plait
from plait.engines import Sampling
from plait.engines.local import LocalEngine

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


def joined(one: list[str], two: list[str], first: str) -> list[str]:
    return [first, *one, *two]


@plait.graph
def drafts(g: plait.Builder, task: str) -> list[str]:
    """Samples, and after a first thought more of them, so that paths and indices differ."""
    first = g.think("plan {task}", task=task, temperature=1.0, max_tokens=6)
    one = g.think("now {first}", first=first, samples=3, temperature=1.0, max_tokens=8)
    two = g.think("again", after=first, samples=2, temperature=1.0, max_tokens=8)
    return g.function(joined, one=one, two=two, first=first)


async def drawn(engine: LocalEngine, seed: int, others: int) -> list[str]:
    """What a run draws while others, and generations outside any run, go on in the same engine."""
    found: list[list[str]] = []

    async def run(task: str, seed: int, keep: bool) -> None:
        written = await drafts.run(task, engine=engine, seed=seed)
        if keep:
            found.append(written)

    async def disturb(index: int) -> None:
        context = await engine.start("hello people " * (index + 1))
        await context.samples(2, max_tokens=9 + index, sampling=Sampling(1.0, seed=index))

    async with anyio.create_task_group() as group:
        for index in range(others):
            group.start_soon(disturb, index)
            group.start_soon(run, f"task {index}", index, False)
        group.start_soon(run, "the cat", seed, True)
    return found[0]


@pytest.mark.parametrize("options", [{}, {"dtype": "float32", "batch_invariant": True}], ids=["float64", "invariant"])
async def test_the_same_seed_draws_the_same_whatever_runs_beside_it(
    checkpoint: Path, open_local: Callable[..., LocalEngine], options: dict[str, object]
) -> None:
    async with open_local(checkpoint, **options) as engine:
        alone = await drawn(engine, 7, 0)
        assert len(set(alone)) == len(alone) == 6, "each sample has a seed of its own"
        assert await drawn(engine, 7, 4) == alone
        assert await drawn(engine, 8, 0) != alone
    async with open_local(checkpoint, **options, kv_tokens=800, step_tokens=11, page_size=5) as engine:
        assert await drawn(engine, 7, 4) == alone, "chunks, pages and preemption have no part in it either"
        engine.check_integrity()

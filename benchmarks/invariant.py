"""What does the batch-invariant mode cost? Prompts and steps in it beside the default, on the embedded model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from time import perf_counter

import anyio

from plait.benchmarks.checkpoints import embedded_checkpoint
from plait.benchmarks.table import Cell, Table, spread
from plait.engines.local import LocalEngine
from plait.orchestrator.together import together

ROUNDS = 5
NEW_TOKENS = 32
SENTENCE = "The number of people in town {} is {}, and the area of village {} is {}. "
SENTENCES = 40
THREADS = (1, 16)
COLUMNS = ("work", "default ms", "± spread", "invariant ms", "± spread of it", "factor", "equal tokens")


def measure(folder: Path) -> Table:
    """Both modes on the checkpoint, which is made in `folder`."""
    question = f"ms of a prompt of {SENTENCES} sentences, and of a step; float32, one thread, median of {ROUNDS} rounds"
    return Table("invariant", question, COLUMNS, tuple(anyio.run(compare, embedded_checkpoint(folder / "embedded"))))


async def compare(path: Path) -> list[tuple[Cell, ...]]:
    opened = partial(LocalEngine.open, path, dtype="float32", threads=1, prefix_cache=False)
    async with opened() as default, opened(batch_invariant=True) as invariant:
        works = {"prompt": _prompt} | {f"step of {count}": partial(_steps, count) for count in THREADS}
        rows: list[tuple[Cell, ...]] = []
        for name, work in works.items():
            found = [(await work(default), await work(invariant)) for _ in range(ROUNDS)]
            ours, theirs = (spread([1000 * pair[side][0] for pair in found]) for side in (0, 1))
            equal = [left == right for pair in found for left, right in zip(pair[0][1], pair[1][1], strict=True)]
            rows.append((name, *ours, *theirs, theirs[0] / ours[0], f"{sum(equal) / len(equal):.1%}"))
    return rows


async def _prompt(engine: LocalEngine) -> tuple[float, list[int]]:
    """Seconds to the first token of a prompt, and that token."""
    prompt = "".join(SENTENCE.format(index, index * 3, index + 1, index * 7) for index in range(SENTENCES))
    start = perf_counter()
    written = await (await engine.start(prompt)).generate(max_tokens=1)
    return perf_counter() - start, list(written.tokens)


async def _steps(count: int, engine: LocalEngine) -> tuple[float, list[int]]:
    """Seconds of one step of so many threads, and all their tokens."""
    contexts = [await engine.start(SENTENCE.format(index, 1, 2, 3)) for index in range(count)]
    await together([partial(context.generate, max_tokens=1) for context in contexts])
    start = perf_counter()
    written = await together([partial(context.generate, max_tokens=NEW_TOKENS) for context in contexts])
    return (perf_counter() - start) / NEW_TOKENS, [token for one in written for token in one.tokens]

"""What does the prefix cache save? A prompt that was encoded before, beside one that was not, and beside no cache."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import anyio

from plait.benchmarks.checkpoints import checkpoints
from plait.benchmarks.table import Cell, Table, spread
from plait.engines.local import LocalEngine

ROUNDS = 3
SENTENCE = "The number of people in town {} is {}, and the area of village {} is {}. "
SENTENCES = 45
COLUMNS = ("model", "prompt", "ms to first token", "± spread", "tokens encoded", "same tokens")


def measure(folder: Path) -> Table:
    """Both checkpoints, which are made in `folder`."""
    rows = [row for name, path in checkpoints(folder) for row in anyio.run(compare, name, path)]
    question = (
        f"a prompt of {SENTENCES} sentences, seen before (hit), seen first (cold), and with the cache off; "
        f"new prompts only, with the cache on and off; median of {ROUNDS} rounds"
    )
    return Table("prefix", question, COLUMNS, tuple(rows))


async def compare(name: str, path: Path) -> list[tuple[Cell, ...]]:
    async with (
        LocalEngine.open(path, dtype="float32") as on,
        LocalEngine.open(path, dtype="float32", prefix_cache=False) as off,
    ):
        seconds: dict[str, list[float]] = {way: [] for way in ("hit", "cold", "cache off", "new, on", "new, off")}
        encoded: dict[str, int] = {}
        tokens: dict[str, list[int]] = {way: [] for way in seconds}
        for number in range(ROUNDS):
            on.drop_cache()
            same, new = _prompt(0), _prompt(1 + number)
            for way, engine, prompt in (
                ("cold", on, same),
                ("hit", on, same),
                ("cache off", off, same),
                ("new, on", on, new),
                ("new, off", off, new),
            ):
                took, count, token = await _first_token(engine, prompt)
                seconds[way].append(took)
                encoded[way] = count
                tokens[way].append(token)
    equal = {"hit": "cold", "cache off": "cold", "cold": "cold", "new, on": "new, off", "new, off": "new, off"}
    return [
        (
            name,
            way,
            *(1000 * value for value in spread(seconds[way])),
            encoded[way],
            "yes" if tokens[way] == tokens[equal[way]] else "no",
        )
        for way in seconds
    ]


async def _first_token(engine: LocalEngine, prompt: str) -> tuple[float, int, int]:
    before, start = engine.stats().encoded, perf_counter()
    context = await engine.start(prompt)
    written = await context.generate(max_tokens=1)
    return perf_counter() - start, engine.stats().encoded - before, written.tokens[0]


def _prompt(number: int) -> str:
    """Distinct from the first word on."""
    return "".join(SENTENCE.format(number, index, index * 3, number + index) for index in range(SENTENCES))

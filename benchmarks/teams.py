"""What does a team cost? N members who see each other, beside N threads on one prefix, and N with copies of it.

All go on from the same prompt and write as much. `team` reads the prompt and every member's tail once a step for all
of them; `forks` share the prompt and see their own tails only; `copies` are what an engine without sharing does. First
the tokens are compared: a team whose members never end a step sees nothing of the others, so it must write what forks
do. Of one member there is nothing to gain.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

import anyio

from plait.benchmarks.checkpoints import checkpoints
from plait.benchmarks.table import Cell, Table, spread
from plait.engines.base import Context, Generation, Layout, Member, Sampling, Teamwork
from plait.engines.local import LocalEngine
from plait.orchestrator.together import together

ROUNDS = 3
MEMBERS = (1, 2, 4, 8)
NEW_TOKENS = 48
SENTENCE = "The number of people in town {} is {}, and the area of village {} is {}. "
SENTENCES = 40
COLUMNS = ("model", "threads", "way", "tok/s", "± spread", "K/V MB read a step", "K/V tokens stored", "equal tokens")


def measure(folder: Path) -> Table:
    """Both checkpoints, which are made in `folder`."""
    rows = [row for name, path in checkpoints(folder) for row in anyio.run(compare, name, path)]
    question = (
        f"{NEW_TOKENS} tokens of each thread after a prompt of {SENTENCES} sentences, which is encoded before; "
        f"median of {ROUNDS} rounds"
    )
    return Table("teams", question, COLUMNS, tuple(rows))


async def compare(name: str, path: Path) -> list[tuple[Cell, ...]]:
    rows: list[tuple[Cell, ...]] = []
    async with LocalEngine.open(path, dtype="float32", prefix_cache=False) as engine:
        prompt = "".join(SENTENCE.format(index, index * 3, index + 1, index * 7) for index in range(SENTENCES))
        shared = await engine.start(prompt)
        await shared.generate(max_tokens=1)
        for count in MEMBERS:
            copies = [await engine.start(prompt) for _ in range(count)]
            await _independent(copies, max_tokens=1)
            ways: dict[str, Callable[[], Awaitable[list[Generation]]]] = {
                "team": partial(_team, engine, [shared] * count, "combined"),
                "forks": partial(_independent, [shared] * count),
                "copies": partial(_independent, copies),
            }
            apart = await _team(engine, [shared] * count, "interleaved")
            rows += await _rows(name, count, engine, ways, [written.tokens for written in apart])
            for copy in copies:
                copy.release()
    return rows


async def _rows(
    name: str,
    count: int,
    engine: LocalEngine,
    ways: dict[str, Callable[[], Awaitable[list[Generation]]]],
    apart: list[tuple[int, ...]],
) -> list[tuple[Cell, ...]]:
    rates: dict[str, list[float]] = {way: [] for way in ways}
    counted: dict[str, tuple[float, int, str]] = {}
    token_bytes = engine.decoder.config.kv_bytes_per_token(engine.decoder.dtype.itemsize)
    for _ in range(ROUNDS):
        for way, run in ways.items():
            before, start = engine.stats(), perf_counter()
            written = await run()
            rates[way].append(count * NEW_TOKENS / (perf_counter() - start))
            after = engine.stats()
            read = (after.keys_read - before.keys_read) * token_bytes / (after.steps - before.steps)
            equal = "-" if way == "team" else "yes" if [one.tokens for one in written] == apart else "no"
            counted[way] = (read / 1e6, after.encoded - before.encoded, equal)
    return [(name, count, way, *spread(rates[way]), *counted[way]) for way in ways]


async def _independent(contexts: Sequence[Context], *, max_tokens: int = NEW_TOKENS) -> list[Generation]:
    jobs = [
        partial(context.generate, max_tokens=max_tokens, sampling=Sampling(temperature=1.0, seed=seed))
        for seed, context in enumerate(contexts)
    ]
    return await together(jobs)


async def _team(engine: LocalEngine, contexts: Sequence[Context], layout: Layout) -> list[Generation]:
    members = [
        Member(context=context, max_tokens=NEW_TOKENS, sampling=Sampling(temperature=1.0, seed=seed))
        for seed, context in enumerate(contexts)
    ]
    return await engine.team(members, Teamwork(layout=layout))

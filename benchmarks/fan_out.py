"""Do look-ups of one turn really run at once? Eight of 200 ms beside one, and the most in flight under a cap of 4."""

from __future__ import annotations

import json
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import anyio

import plait
from plait.engines.scripted import ScriptedEngine

LATENCY = 0.2
REPEATS = 5


@dataclass(slots=True)
class Gauge:
    """Counts calls in flight."""

    now: int = 0
    most: int = 0

    async def hold(self, seconds: float) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        await anyio.sleep(seconds)
        self.now -= 1


def measure(lookups: int, *, cap: int) -> tuple[list[float], int]:
    """Seconds of each run, and the most calls in flight."""
    gauge = Gauge()

    @plait.tool(name="lookup", cap=cap)
    async def lookup(query: str) -> str:
        """A slow look-up."""
        await gauge.hold(LATENCY)
        return f"{query}!"

    queries = ";\n".join(f"query {number}" for number in range(lookups))
    turns = [f"<|begin_search_queries|>{queries}<|end_search_queries|>", "\\boxed{done}"]
    seconds = []
    for _ in range(REPEATS):
        engine = ScriptedEngine(turns)
        start = perf_counter()
        answer = plait.recipes.hybrid_search([lookup]).run_sync("go", engine=engine)
        seconds.append(perf_counter() - start)
        assert answer == "done"
    return seconds, gauge.most


def main(*, as_json: bool = False) -> None:
    """Print the table, or the same as data."""
    rows: list[dict[str, float]] = []
    for lookups, cap in ((1, 8), (8, 8), (8, 4)):
        seconds, most = measure(lookups, cap=cap)
        spread = max(seconds) - min(seconds)
        rows.append({"lookups": lookups, "cap": cap, "median": median(seconds), "spread": spread, "in_flight": most})
    if as_json:
        print(json.dumps({"latency": LATENCY, "repeats": REPEATS, "rows": rows}))
        return
    print("look-ups  cap  median s  spread s  of one  in flight")
    for row in rows:
        share = row["median"] / rows[0]["median"]
        print(
            f"{row['lookups']:8}  {row['cap']:3}  {row['median']:8.3f}  {row['spread']:8.3f}  {share:6.2f}"
            f"  {row['in_flight']:9}"
        )

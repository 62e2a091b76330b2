"""What does a search on the real embedded model save where candidates share node results?

The same searches, with the same seeds, over the space of techniques on the embedded task "queries": once each candidate
takes what others have sampled from the journal, once each samples for itself. Tokens are those that the engine really
generated. Both come to the same scores, since samples are seeded by their place in the graph.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import anyio

from ..engines import Engine, open_engine
from ..orchestrator import Journal
from ..recipes.evaluation import Dataset, embedded_dataset, find_scorer
from ..recipes.search import Plan, Study, search, techniques_space
from .table import Table


async def one(engine: Engine, data: Dataset, folder: Path, plan: Plan) -> dict[str, Any]:
    """One search: what the engine generated for it, seconds, the best point and its score."""
    study = Study(techniques_space(data), storage=folder / "study.db", seed=plan.seed)
    start = perf_counter()
    with Journal(folder / "journal.db") as journal:
        outcomes = await search(
            study, data, find_scorer(data.scorer), engine=engine, journal=journal, folder=folder / "items", plan=plan
        )
    best = study.best()
    assert best is not None
    return {
        "candidates": len(outcomes),
        "generated": study.spent["generated"],
        "prompt": study.spent.get("prompt", 0.0),
        "seconds": perf_counter() - start,
        "best": best.values["quality"],
        "scores": {outcome.key: outcome.values["quality"] for outcome in outcomes},
    }


async def measure(searches: int, items: int, candidates: int) -> list[dict[str, Any]]:
    """Each seeded search both ways; `found`: it came to the best score that any search saw."""
    data = embedded_dataset(f"queries:{items}")
    rows: list[dict[str, Any]] = []
    async with open_engine("local") as engine:
        for shared in (True, False):
            for seed in range(searches):
                with tempfile.TemporaryDirectory() as folder:
                    plan = Plan(candidates=candidates, shared=shared, seed=seed, at_once=items)
                    rows.append({"shared": shared, "seed": seed, **await one(engine, data, Path(folder), plan)})
    top = {seed: max(row["best"] for row in rows if row["seed"] == seed) for seed in range(searches)}
    return [{**row, "found": row["best"] >= top[row["seed"]]} for row in rows]


def main(*, searches: int = 2, items: int = 8, candidates: int = 60, as_json: bool = False) -> None:
    """Print the table."""
    rows = anyio.run(measure, searches, items, candidates)
    shown: list[tuple[str | int | float, ...]] = []
    for name, shared in (("shared", True), ("each for itself", False)):
        mine = [row for row in rows if row["shared"] == shared]

        def mean(key: str, mine: list[dict[str, Any]] = mine) -> float:
            return float(sum(row[key] for row in mine) / len(mine))

        tokens = (round(mean("generated")), round(mean("prompt")))
        shown.append((name, len(mine), 100 * mean("found"), 100 * mean("best"), *tokens, mean("seconds")))
    ratio = float(shown[0][4]) / float(shown[1][4])
    found = Table(
        "search, shared node results",
        f"{candidates} candidates on {items} items a search; shared generates {ratio:.3f} of the tokens",
        ("node results", "searches", "% found the best", "best score", "generated", "prompt", "seconds"),
        tuple(shown),
    )
    sys.stdout.write((json.dumps(found.as_dict()) if as_json else found.text()) + "\n")

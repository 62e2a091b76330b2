"""The program of the crash test: a search that is killed and begun again. `python searching.py FOLDER WORKER`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import anyio

from plait.engines.scripted import Reply, ScriptedEngine
from plait.orchestrator import Journal
from plait.recipes.evaluation import Dataset, Item, find_scorer
from plait.recipes.search import Choice, Plan, Space, Study, Whole, search

DATA = Dataset(name="numbers", items=tuple(Item(id=str(n), task=f"Number {n}.", answer="even") for n in range(6)))


def architecture(point: Any) -> list[dict[str, Any]]:
    generate = {"component": "generate", "samples": point["samples"], "temperature": point["temperature"]}
    return [generate, {"component": "vote"}] if point["vote"] else [generate]


SPACE = Space(
    "voting",
    [Whole("samples", 1, 4), Choice("temperature", (0.5, 1.0)), Choice("vote", (False, True))],
    architecture,
)


def engine(latency: float = 0.004) -> ScriptedEngine:
    return ScriptedEngine(lambda prompt, count: Reply("even" if count % 3 else "odd", latency=latency))


def main() -> None:
    folder, worker = Path(sys.argv[1]), int(sys.argv[2])
    study = Study(SPACE, storage=folder / "study.db", optimiser="random", seed=worker)

    async def run() -> None:
        with Journal(folder / "journal.db") as journal:
            await search(
                study, DATA, find_scorer("exact"), engine=engine(), journal=journal, folder=folder / "items",
                plan=Plan(at_once=2), report=lambda outcome, count: print(outcome.key, flush=True),  # noqa: T201
            )  # fmt: skip

    anyio.run(run)


if __name__ == "__main__":
    main()

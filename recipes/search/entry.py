"""`plait.search`: a space, a dataset and a metric; what comes of it is a study and its best on held-out items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...engines import open_engine
from ...orchestrator import Budget, Journal
from ...orchestrator.budget import UNBOUNDED
from ...orchestrator.sync import wait
from ..evaluation import Dataset, find_scorer, read_dataset
from ..evaluation.scorers import Score
from .claims import Outcome
from .search import HeldOut, Plan, hold_out
from .search import search as search_dev
from .space import Space
from .study import Objective, Optimiser, Study


@dataclass(frozen=True, slots=True)
class Found:
    """What a search has found: all candidates, those that nothing dominates on the dev items, and these held out."""

    study: Study
    front: list[Outcome]
    held_out: list[HeldOut]

    @property
    def best(self) -> Outcome | None:
        """The best candidate of the first objective, on the dev items."""
        return self.study.best()


def search(
    space: Space,
    *,
    data: Dataset | str | Path,
    metric: str | Score = "",
    budget: Budget = UNBOUNDED,
    candidates: int = 0,
    engine: str = "local",
    objectives: Sequence[Objective] = ("quality",),
    optimiser: Optimiser = "tpe",
    seed: int = 0,
    folder: str | Path = "study",
) -> Found:
    """Search a space on the dev items of a dataset, and try what was found on the others.

    It ends with the budget, with `candidates`, or with the space; the same call goes on from `folder`. See
    `plait.recipes.search` for the parts of it. Raises InputError, DataError, BudgetError, MissingExtraError.
    """

    async def main() -> Found:
        found = data if isinstance(data, Dataset) else read_dataset(data)
        dev, others = found.split(seed=seed)
        place, plan = Path(folder), Plan(budget=budget, candidates=candidates, seed=seed)
        async with open_engine(engine) as opened:
            scorer = find_scorer(metric or found.scorer, judge=opened)
            study = Study(
                space,
                storage=place / "study.db",
                objectives=objectives,
                optimiser=optimiser,
                seed=seed,
                about=f"{dev.fingerprint} {scorer.version} {opened.name} {seed}",
            )
            with Journal(place / "journal.db") as journal:
                await search_dev(study, dev, scorer, engine=opened, journal=journal, folder=place / "items", plan=plan)
                front = study.front()
                held_out = await hold_out(
                    space, front, others, scorer, engine=opened, folder=place / "items", journal=journal, plan=plan
                )
        return Found(study, front, held_out)

    return wait(main)

"""Does IterDRAG's allocation model find planted coefficients, and does it lower a search's evaluations as a prior?

Both on a simulated task: accuracy follows planted coefficients, cut where the context is full, and each measurement has
the noise of 400 items. The prior is fitted on 12 allocations that were measured with 100 items each, of the same task
at small budgets; they are counted, at a quarter of an evaluation each.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random
from statistics import fmean, median
from typing import Any

from ..recipes.search import Choice, Rule, Space, Study
from ..recipes.search.allocation import AXES, Allocation, fit_allocation
from ..recipes.search.space import Point, key_of
from .table import Table

ITEMS, FEW_ITEMS, SMALL = 400, 100, 12
WINDOW = 4000
"""Tokens that an allocation may have: 10 a document and 20 a shot, an iteration each time."""


def tokens(point: Mapping[str, Any]) -> int:
    return int((10 * point["documents"] + 20 * point["shots"]) * point["iterations"])


SPACE = Space(
    "allocation",
    [
        Choice("documents", (1, 2, 5, 10, 20, 50, 100, 200)),
        Choice("shots", (0, 1, 2, 4, 8, 16, 32)),
        Choice("iterations", (1, 2, 3, 4, 5)),
    ],
    lambda point: [],
    [Rule(f"at most {WINDOW} tokens", lambda point: tokens(point) <= WINDOW)],
)


def planted(seed: int) -> Allocation:
    drawn = Random(f"planted {seed}")
    return Allocation({name: drawn.uniform(0.05, 0.4) for name in AXES}, drawn.uniform(-1.6, -0.8))


def measured(truth: Allocation, point: Point, items: int, seed: int) -> float:
    expected = truth.predict(point)
    drawn = Random(f"{seed} {items} {key_of(point)}")
    return min(1.0, max(0.0, drawn.gauss(expected, math.sqrt(expected * (1 - expected) / items))))


def evaluations(truth: Allocation, seed: int, prior: Callable[[Point], float] | None) -> int:
    """Evaluations until an allocation within half a point of the best was tried."""
    enough = max(truth.predict(point) for point in SPACE.points()) - 0.005
    study = Study(SPACE, seed=seed, prior=prior)
    count = 0
    while (candidate := study.ask()) is not None:
        count += 1
        if truth.predict(candidate.point) >= enough:
            break
        study.tell(replace(candidate, state="done", values={"quality": measured(truth, candidate.point, ITEMS, seed)}))
    return count


def fitted(truth: Allocation, seed: int) -> Allocation:
    """The model from the small allocations."""
    small = [point for point in SPACE.points() if tokens(point) <= WINDOW / 4]
    chosen = Random(f"small {seed}").sample(small, SMALL)
    return fit_allocation(chosen, [measured(truth, point, FEW_ITEMS, seed) for point in chosen])


def errors(truths: Sequence[Allocation], models: Sequence[Allocation]) -> list[float]:
    """How far coefficients are from the planted ones."""
    pairs = list(zip(truths, models, strict=True))
    return [abs(model.coefficients[name] - truth.coefficients[name]) for truth, model in pairs for name in AXES]


def main(*, searches: int = 100, as_json: bool = False) -> None:
    """Print the tables."""
    points = list(SPACE.points())
    truths = [planted(seed) for seed in range(searches)]
    models = [fitted(truth, seed) for seed, truth in enumerate(truths)]
    exact = [fit_allocation(points, [truth.predict(point) for point in points]) for truth in truths]
    seeded = list(enumerate(zip(truths, models, strict=True)))
    plain = [float(evaluations(truth, seed, None)) for seed, (truth, _) in seeded]
    told = [evaluations(truth, seed, model.predict) + SMALL * FEW_ITEMS / ITEMS for seed, (truth, model) in seeded]
    clean, noisy = errors(truths, exact), errors(truths, models)
    tables = [
        Table(
            "allocation",
            "how far fitted coefficients are from the planted ones (0.05 to 0.4)",
            ("measured", "mean", "most"),
            (
                ("all points, no noise", fmean(clean), max(clean)),
                (f"{SMALL} small points, {FEW_ITEMS} items each", fmean(noisy), max(noisy)),
            ),
        ),
        Table(
            "search, prior",
            f"evaluations until within half a point of the best of {len(points)}, {searches} planted tasks",
            ("search", "mean", "median", "most"),
            tuple(
                (name, fmean(counts), median(counts), max(counts))
                for name, counts in (("tpe", plain), ("tpe with the fitted prior, its points counted", told))
            ),
        ),
    ]
    text = "\n\n".join(table.text() for table in tables)
    sys.stdout.write((json.dumps([table.as_dict() for table in tables]) if as_json else text) + "\n")

"""How many evaluations does a search need to find the best architecture, when what it measures is noisy?

The objective is simulated: a response surface over Archon's published space with the shape that the paper reports (§3.3
and fig. 5 to 8: generators and samples help with falling gains, critics with rankers and a second fusion layer help,
deeper ones little, verifiers and unit tests a point or two), and the noise of a dev set of 400 items. Random asks for
candidates evenly, each once.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from statistics import fmean, median
from typing import Any

from ..recipes.search import Space, Study, archon_space
from ..recipes.search.archon_space import UNIT_TESTS, VERIFIER
from ..recipes.search.space import key_of
from .table import Table

ITEMS = 400
"""Dev items that a score is the mean of."""
LAST = {VERIFIER: 0.012, UNIT_TESTS: 0.022}


def quality(point: Mapping[str, Any], tilt: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> float:
    """The expected accuracy of an architecture; a tilt stretches its four effects."""
    generators, samples, layers = point["generators"], point["samples"], point["fusion_layers"]
    drawn = 0.05 * math.log(generators) + 0.035 * math.log(samples)
    deep = 0.04 * math.log(layers) - 0.014 * (layers - 1)
    wide = 0.016 * (1 - ((point["fusers"] - 6) / 4) ** 2) if layers > 1 else 0.0
    judged = 0.03 * point["ranked"] + (0.01 if point["ranked"] and layers > 1 else 0.0)
    crowded = -0.0006 * max(0, generators * samples - 12)
    parts = (drawn, deep + wide, judged, LAST.get(point["last"], 0.0))
    return float(0.5 + crowded + sum(stretch * part for stretch, part in zip(tilt, parts, strict=True)))


def measured(point: Mapping[str, Any], expected: float, seed: int) -> float:
    """What a dev set says: the expected accuracy with the noise of its items, the same each time for one search."""
    noise = Random(f"{seed} {key_of(point)}").gauss(0.0, math.sqrt(expected * (1 - expected) / ITEMS))
    return expected + noise


def evaluations(space: Space, optimiser: Any, seed: int, most: int) -> int | None:
    """How many candidates a search evaluates until it has evaluated the best; None if it has not by `most`."""
    drawn = Random(f"surface {seed}")
    tilt = [drawn.uniform(0.7, 1.3) for _ in range(4)]
    best = key_of(max(space.points(), key=lambda point: quality(point, tilt)))
    study = Study(space, optimiser=optimiser, seed=seed)
    for count in range(1, most + 1):
        candidate = study.ask()
        if candidate is None:
            return None
        if candidate.key == best:
            return count
        score = measured(candidate.point, quality(candidate.point, tilt), seed)
        study.tell(replace(candidate, state="done", values={"quality": score}))
    return None


def by_chance(size: int, seed: int) -> int:
    """When an even draw without return comes to the best."""
    return Random(f"chance {seed}").randint(1, size)


def row(optimiser: str, counts: Sequence[int | None], most: int, chance: float) -> tuple[str | int | float, ...]:
    """A search that does not come to the best counts as long as it went on."""
    reached = [most if count is None else count for count in counts]
    found = 100 * sum(count is not None for count in counts) / len(counts)
    return optimiser, len(counts), found, fmean(reached), median(reached), max(reached), 100 * fmean(reached) / chance


def main(
    *,
    searches: int = 200,
    most: int = 400,
    optimisers: Sequence[str] = ("tpe",),
    gp_searches: int = 20,
    as_json: bool = False,
) -> None:
    """Print the table. A Gaussian process takes a second a step: it runs `gp_searches` searches."""
    space = archon_space()
    size = len(list(space.points()))
    chance = [Random(f"chance {seed}").randint(1, size) for seed in range(searches)]
    rows = [row("random", chance, size, fmean(chance))]
    for optimiser in optimisers:
        seeds = range(min(gp_searches, searches) if optimiser == "gp" else searches)
        counts = [evaluations(space, optimiser, seed, most) for seed in seeds]
        rows.append(row(optimiser, counts, most, fmean(chance)))
    found = Table(
        "search, simulated",
        f"evaluations until the best of {size} candidates was tried, {most} at most, each of {ITEMS} dev items",
        ("optimiser", "searches", "% found it", "mean", "median", "most", "% of random's"),
        tuple(rows),
    )
    sys.stdout.write((json.dumps(found.as_dict()) if as_json else found.text()) + "\n")

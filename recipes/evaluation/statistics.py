"""Statistics of an evaluation: intervals of a mean, and whether two recipes on the same items differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from statistics import NormalDist, fmean

from ...errors import InputError

CONFIDENCE = 0.95
_DRAWS = 2000
_FLIPS = 4000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the bounds within which it lies with the given confidence."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.1%} [{self.low:.1%}, {self.high:.1%}]"


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better the second of two is on the same items, and the chance of so great a difference if neither is."""

    items: int
    better: int
    worse: int
    difference: Interval
    p_value: float


def interval(scores: Sequence[float], *, confidence: float = CONFIDENCE, seed: int = 0) -> Interval:
    """The mean of scores: Wilson's interval where all are 0 or 1, else the bootstrap's."""
    if not scores:
        raise InputError("no scores, no mean; evaluate at least one item")
    mean, count = fmean(scores), len(scores)
    if all(score in (0.0, 1.0) for score in scores):
        z = NormalDist().inv_cdf(0.5 + confidence / 2)
        centre = (mean + z * z / (2 * count)) / (1 + z * z / count)
        half = z / (1 + z * z / count) * math.sqrt(mean * (1 - mean) / count + z * z / (4 * count * count))
        return Interval(mean, max(0.0, centre - half), min(1.0, centre + half))
    return _bootstrap(scores, confidence, seed)


def paired(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> Difference:
    """Compare two on the same items, in the same order.

    The p value is exact where at most 16 items differ or all that differ do so by the same amount (McNemar's test, the
    binomial one); else signs of differences are flipped at random.
    """
    differences = [two - one for one, two in zip(first, second, strict=True)]
    better, worse = sum(value > 0 for value in differences), sum(value < 0 for value in differences)
    found = _bootstrap(differences, CONFIDENCE, seed) if differences else Interval(0.0, 0.0, 0.0)
    return Difference(len(differences), better, worse, found, _p_value([value for value in differences if value], seed))


def _p_value(differences: Sequence[float], seed: int) -> float:
    if not differences:
        return 1.0
    count, observed = len(differences), abs(sum(differences))
    if len({abs(value) for value in differences}) == 1:
        least = min(sum(value > 0 for value in differences), sum(value < 0 for value in differences))
        total = sum(math.comb(count, wins) for wins in range(least + 1))
        return min(1.0, 2.0 * total / 2.0**count)
    close = observed - 1e-12
    if count <= 16:
        sums = [0.0]
        for value in differences:
            sums = [total + sign * value for total in sums for sign in (1, -1)]
        return sum(abs(total) >= close for total in sums) / len(sums)
    drawn = Random(f"flips {seed}")
    extreme = sum(
        abs(sum(value if drawn.random() < 0.5 else -value for value in differences)) >= close for _ in range(_FLIPS)
    )
    return (extreme + 1) / (_FLIPS + 1)


def _bootstrap(values: Sequence[float], confidence: float, seed: int) -> Interval:
    drawn, count = Random(f"bootstrap {seed}"), len(values)
    means = sorted(fmean(drawn.choices(values, k=count)) for _ in range(_DRAWS))
    tail = (1 - confidence) / 2
    return Interval(fmean(values), means[int(tail * (_DRAWS - 1))], means[math.ceil((1 - tail) * (_DRAWS - 1))])

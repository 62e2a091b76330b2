"""IterDRAG's allocation model: how good a choice of documents, shots and iterations is, by their logarithms.

σ⁻¹(P) = (a + b ∘ i) · log θ + c, with θ = (documents, shots, iterations) and σ⁻¹ the logit; `i` says how informative
each is for the task, of one task here. (Yue et al., Inference Scaling for Long-Context RAG, arXiv:2410.04343, §5.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import InputError

AXES = ("documents", "shots", "iterations")
_CLOSEST = 0.01
"""How near to 0 and 1 a measured share of right answers is taken to be."""


@dataclass(frozen=True, slots=True)
class Allocation:
    """Coefficients of the logarithms, by name, and a constant. `predict` is a prior for a Study."""

    coefficients: Mapping[str, float]
    constant: float

    def predict(self, point: Mapping[str, Any]) -> float:
        """The expected share of right answers. A count of 0 counts as none of it: its term is left out."""
        terms = [weight * _log(point[name]) for name, weight in self.coefficients.items()]
        return 1 / (1 + math.exp(-(self.constant + sum(terms))))


def fit_allocation(
    points: Sequence[Mapping[str, Any]], qualities: Sequence[float], axes: Sequence[str] = AXES
) -> Allocation:
    """The coefficients that fit measured qualities best, by least squares of the logits.

    Raises InputError where there are too few points, or they are too alike, to tell the coefficients apart.
    """
    import numpy

    rows = [[*(_log(point[name]) for name in axes), 1.0] for point in points]
    logits = [_logit(quality) for quality in qualities]
    if len(rows) != len(logits):
        raise InputError(f"{len(rows)} points with {len(logits)} qualities can't be fitted; each point has one")
    if not rows or numpy.linalg.matrix_rank(numpy.array(rows)) < len(axes) + 1:
        raise InputError(
            f"{len(rows)} points don't tell {len(axes) + 1} coefficients apart; measure points that differ in each of "
            f"{', '.join(axes)}"
        )
    solved = numpy.linalg.lstsq(numpy.array(rows), numpy.array(logits), rcond=None)[0]
    return Allocation(dict(zip(axes, map(float, solved[:-1]), strict=True)), float(solved[-1]))


def _log(count: float) -> float:
    return math.log(count) if count > 0 else 0.0


def _logit(quality: float) -> float:
    held = min(1 - _CLOSEST, max(_CLOSEST, quality))
    return math.log(held / (1 - held))

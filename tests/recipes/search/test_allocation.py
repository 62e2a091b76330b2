"""IterDRAG's allocation model: planted coefficients are found again, and what can't be told is said."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.errors import InputError
from plait.recipes.search.allocation import AXES, Allocation, fit_allocation

POINTS = [
    {"documents": documents, "shots": shots, "iterations": iterations}
    for documents in (1, 5, 20, 100)
    for shots in (0, 2, 8)
    for iterations in (1, 2, 4)
]
weights = st.floats(-0.3, 0.3)


@given(weights, weights, weights, st.floats(-0.5, 0.5))
def test_planted_coefficients_are_recovered(a: float, b: float, c: float, constant: float) -> None:
    planted = Allocation(dict(zip(AXES, (a, b, c), strict=True)), constant)
    found = fit_allocation(POINTS, [planted.predict(point) for point in POINTS])
    assert found.constant == pytest.approx(constant, abs=1e-6)
    for name in AXES:
        assert found.coefficients[name] == pytest.approx(planted.coefficients[name], abs=1e-6)


def test_coefficients_are_recovered_from_noisy_measurements() -> None:
    planted, drawn = Allocation({"documents": 0.3, "shots": 0.1, "iterations": 0.4}, -0.8), Random(3)
    measured = []
    for point in POINTS:
        right = sum(drawn.random() < planted.predict(point) for _ in range(1000))
        measured.append(right / 1000)
    found = fit_allocation(POINTS, measured)
    for name in AXES:
        assert found.coefficients[name] == pytest.approx(planted.coefficients[name], abs=0.05)


def test_points_that_do_not_tell_coefficients_apart_are_refused() -> None:
    with pytest.raises(InputError, match="don't tell 4 coefficients apart"):
        fit_allocation([{"documents": 5, "shots": 1, "iterations": n} for n in (1, 2, 3, 4)], [0.1, 0.2, 0.3, 0.4])
    with pytest.raises(InputError, match="each point has one"):
        fit_allocation(POINTS, [0.5])

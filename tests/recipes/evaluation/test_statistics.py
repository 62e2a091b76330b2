"""Intervals and paired comparisons."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.errors import InputError
from plait.recipes.evaluation import interval, paired

scores = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(scores)
def test_an_interval_holds_its_mean(values: list[float]) -> None:
    found = interval(values)
    assert found.low - 1e-9 <= found.mean <= found.high + 1e-9


def test_wilsons_interval_is_the_published_one() -> None:
    found = interval([1.0] * 8 + [0.0] * 2)
    assert (found.low, found.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    drawn = Random(1)
    covered = 0
    for _ in range(300):
        found = interval([float(drawn.random() < 0.7) for _ in range(40)])
        covered += found.low <= 0.7 <= found.high
    assert 270 <= covered <= 299


def test_no_scores_are_refused() -> None:
    with pytest.raises(InputError, match="at least one item"):
        interval([])


@given(scores)
def test_equal_results_do_not_differ(values: list[float]) -> None:
    found = paired(values, values)
    assert (found.p_value, found.better, found.worse) == (1.0, 0, 0)


def test_mcnemars_test_is_exact() -> None:
    found = paired([0.0] * 9 + [1.0] * 11, [1.0] * 8 + [0.0] + [1.0] * 10 + [0.0])
    assert (found.better, found.worse) == (8, 1)
    assert found.p_value == pytest.approx(2 * (1 + 9) / 2**9)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=10))
def test_the_order_of_the_two_does_not_change_the_chance(pairs: list[tuple[float, float]]) -> None:
    first, second = [one for one, _ in pairs], [two for _, two in pairs]
    assert paired(first, second).p_value == pytest.approx(paired(second, first).p_value)


def test_sign_flips_find_a_difference_and_none_where_there_is_none() -> None:
    drawn = Random(2)
    noise = [drawn.random() / 2 for _ in range(60)]
    better = [value + 0.2 + drawn.random() / 10 for value in noise]
    assert paired(noise, better).p_value < 0.001
    swapped = [value + drawn.choice((-1, 1)) * drawn.random() / 10 for value in noise]
    assert paired(noise, swapped).p_value > 0.01

"""Scores of answers, and areas under curves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.errors import InputError
from plait.recipes.scores import area_under, exact_match, f1


@pytest.mark.parametrize(
    ("answer", "right", "em", "overlap"),
    [
        ("The Lima.", "lima", 1.0, 1.0),
        ("Lima, Peru", "Lima", 0.0, 2 / 3),
        ("Lima Lima", "Lima", 0.0, 2 / 3),
        ("Quito", "Lima", 0.0, 0.0),
        ("", "Lima", 0.0, 0.0),
        ("the", "a", 1.0, 1.0),
    ],
)
def test_scores_of_answers(answer: str, right: str, em: float, overlap: float) -> None:
    assert exact_match(answer, right) == em
    assert f1(answer, right) == pytest.approx(overlap)


def test_a_right_answer_counts_from_its_cost_on() -> None:
    assert area_under([0.0], [1.0], 10) == 1.0
    assert area_under([5.0, 10.0], [1.0, 1.0], 10) == 0.25
    assert area_under([5.0, 2.0], [1.0, 0.0], 10) == 0.25
    assert area_under([50.0], [1.0], 10) == 0.0
    for costs, scores, limit in (([], [], 1.0), ([1.0], [], 1.0), ([1.0], [1.0], 0.0)):
        with pytest.raises(InputError, match="make no curve"):
            area_under(costs, scores, limit)


@given(st.lists(st.tuples(st.integers(0, 20), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=9))
def test_the_area_is_that_of_the_steps(runs: list[tuple[int, float]]) -> None:
    costs, scores = [cost for cost, _ in runs], [score for _, score in runs]
    steps = [sum(s for c, s in runs if c <= within) / len(runs) for within in range(20)]
    assert area_under(costs, scores, 20) == pytest.approx(sum(steps) / 20)

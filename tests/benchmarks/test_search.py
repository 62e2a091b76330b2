"""The benchmarks of searches, a small piece of each."""

from __future__ import annotations

import json

import pytest

from plait.benchmarks import search_prior, search_simulated
from plait.recipes.search import archon_space


def test_a_guided_search_finds_the_best_of_the_simulated_surface_with_a_fraction_of_chances_evaluations(
    capsys: pytest.CaptureFixture[str],
) -> None:
    search_simulated.main(searches=4, optimisers=["tpe"], as_json=True)
    chance, guided = json.loads(capsys.readouterr().out)["rows"]
    assert guided["% found it"] == 100
    assert guided["mean"] < chance["mean"] / 3


def test_the_surface_has_one_best_point_and_its_noise_is_the_same_each_time() -> None:
    points = list(archon_space().points())
    qualities = sorted(map(search_simulated.quality, points))
    assert qualities[-1] > qualities[-2]
    expected = search_simulated.quality(points[0])
    assert search_simulated.measured(points[0], expected, 1) == search_simulated.measured(points[0], expected, 1)
    assert search_simulated.measured(points[0], expected, 1) != search_simulated.measured(points[0], expected, 2)


def test_a_fitted_prior_lowers_the_evaluations_of_a_search(capsys: pytest.CaptureFixture[str]) -> None:
    search_prior.main(searches=4, as_json=True)
    coefficients, searches = json.loads(capsys.readouterr().out)
    assert coefficients["rows"][0]["most"] < 1e-9
    plain, told = searches["rows"]
    assert told["mean"] < plain["mean"]

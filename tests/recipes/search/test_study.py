"""Studies: candidates asked for and told of, never twice, by any worker, whatever ends it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.errors import DataError, InputError
from plait.recipes.search import Choice, Outcome, Real, Space, Study, Whole, read_outcomes
from plait.recipes.search.space import key_of
from plait.recipes.search.study import dominates, promising

SPACE = Space("grid", [Whole("x", 0, 5), Whole("y", 0, 5), Choice("z", ("a", "b"))], lambda point: [])


FEW = Space("few", [Whole("x", 0, 3), Whole("y", 0, 2), Choice("z", ("a", "b"))], lambda point: [])


def value(point: Any) -> float:
    return 10 - (point["x"] - 4) ** 2 - (point["y"] - 2) ** 2 + (point["z"] == "b")


def done(candidate: Outcome, **values: float) -> Outcome:
    return replace(candidate, state="done", values=values or {"quality": value(candidate.point)})


@pytest.mark.parametrize("optimiser", ["tpe", "nsga2", "random", "greedy"])
def test_an_optimiser_asks_for_every_candidate_once_and_then_for_none(optimiser: Any) -> None:
    study = Study(SPACE, optimiser=optimiser, seed=3)
    asked = []
    while (candidate := study.ask()) is not None:
        asked.append(candidate.key)
        study.tell(done(candidate))
    assert len(asked) == len(set(asked)) == 72
    best = study.best()
    assert best is not None
    assert dict(best.point) == {"x": 4, "y": 2, "z": "b"}


@pytest.mark.parametrize("optimiser", ["tpe", "gp", "greedy"])
def test_an_optimiser_learns_from_what_it_is_told(optimiser: Any) -> None:
    study = Study(SPACE, optimiser=optimiser, seed=1)
    for _ in range(16 if optimiser == "gp" else 30):  # its model takes a while
        candidate = study.ask()
        assert candidate is not None
        study.tell(done(candidate))
    best = study.best()
    assert best is not None
    assert value(best.point) >= 10


def test_of_candidates_that_are_equally_good_the_one_of_fewest_tokens_is_best() -> None:
    study = Study(FEW, optimiser="random")
    while (candidate := study.ask()) is not None:
        study.tell(done(candidate, quality=0.5, tokens=abs(candidate.point["x"] - 2.0) + candidate.point["y"]))
    best, front = study.best(), study.front()
    assert best is not None
    assert (best.point["x"], best.point["y"]) == (2, 0)
    assert front[0] == best
    assert len(front) == 24


def test_the_front_holds_what_nothing_dominates() -> None:
    study = Study(SPACE, objectives=("quality", "tokens"), optimiser="random")
    for _ in range(25):
        candidate = study.ask()
        assert candidate is not None
        study.tell(done(candidate, quality=value(candidate.point), tokens=float(candidate.point["x"])))
    front = [(-one.values["quality"], one.values["tokens"]) for one in study.front()]
    everything = [(-one.values["quality"], one.values["tokens"]) for one in study.done()]
    assert front
    for loss in everything:
        assert (loss in front) == (not any(dominates(other, loss) for other in everything))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8))
def test_nothing_dominates_itself_and_no_two_each_other(losses: list[tuple[float, float]]) -> None:
    for one in losses:
        assert not dominates(one, one)
        assert not any(dominates(one, other) and dominates(other, one) for other in losses)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(2, 4))
@settings(max_examples=50)
def test_the_best_of_a_rung_goes_on_and_the_worst_of_many_does_not(scores: list[float], keep: int) -> None:
    assert promising(max(scores), scores, keep)
    if len(scores) >= 2 * keep and scores.count(min(scores)) == 1:
        assert not promising(min(scores), scores, keep)


def test_a_study_goes_on_from_its_file_and_learns_nothing_twice(tmp_path: Path) -> None:
    first = Study(SPACE, storage=tmp_path / "study.db")
    told = [first.ask() for _ in range(5)]
    for candidate in told:
        assert candidate is not None
        first.tell(done(candidate))
    first.close()
    second = Study(SPACE, storage=tmp_path / "study.db")
    assert [one.key for one in second.done()] == [one.key for one in told if one is not None]
    candidate = second.ask()
    assert candidate is not None
    assert candidate.key not in {one.key for one in second.done()}
    assert len(read_outcomes(tmp_path / "study.db")) == 6


def test_a_study_of_something_else_is_refused(tmp_path: Path) -> None:
    Study(SPACE, storage=tmp_path / "study.db", about="dev items").close()
    with pytest.raises(InputError, match="is of something else"):
        Study(SPACE, storage=tmp_path / "study.db", about="other items")
    (tmp_path / "no.db").write_text("This is no database at all, but a text.")
    with pytest.raises(DataError, match="can't be opened"):
        Study(SPACE, storage=tmp_path / "no.db")


def test_unknown_objectives_and_optimisers_are_named() -> None:
    with pytest.raises(InputError, match="quality, tokens, critical_path, cost"):
        Study(SPACE, objectives=("speed",))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="known: tpe, gp, nsga2, random, greedy"):
        Study(SPACE, optimiser="luck")  # type: ignore[arg-type]


def test_an_earlier_study_tells_what_it_found_and_its_candidates_stay_free() -> None:
    earlier = Study(SPACE, optimiser="random", seed=5)
    for _ in range(40):
        candidate = earlier.ask()
        assert candidate is not None
        earlier.tell(done(candidate))
    wider = Space("wider", [*SPACE.dimensions], SPACE.architecture)
    study = Study(wider, seed=2)
    assert study.warm(earlier.outcomes()) == 40
    assert study.outcomes() == []
    asked = []
    for _ in range(12):
        candidate = study.ask()
        assert candidate is not None
        study.tell(done(candidate))
        asked.append(value(candidate.point))
    assert max(asked) >= 10


def test_a_prior_is_tried_first() -> None:
    study = Study(SPACE, prior=lambda point: point["x"] - point["y"], trusted=2)
    for _ in range(2):
        candidate = study.ask()
        assert candidate is not None
        assert (candidate.point["x"], candidate.point["y"]) == (5, 0)


def test_a_space_of_any_numbers_is_searched_too() -> None:
    study = Study(Space("numbers", [Real("t", 0.0, 2.0)], lambda point: []), seed=4)
    for _ in range(30):
        candidate = study.ask()
        assert candidate is not None
        study.tell(done(candidate, quality=-((candidate.point["t"] - 1.3) ** 2)))
    best = study.best()
    assert best is not None
    assert abs(best.point["t"] - 1.3) < 0.2


# ---- several processes

WORKER = """
import json, sys
from dataclasses import replace
from plait.recipes.search import Choice, Space, Study, Whole
space = Space("few", [Whole("x", 0, 3), Whole("y", 0, 2), Choice("z", ("a", "b"))], lambda point: [])
study = Study(space, storage=sys.argv[1], optimiser=sys.argv[2], seed=int(sys.argv[3]))
print("ready", flush=True)
stop = int(sys.argv[4])
while (candidate := study.ask()) is not None:
    print(candidate.key, flush=True)
    if stop == 0:
        sys.stdin.read()
    stop -= 1
    study.tell(replace(candidate, state="done", values={"quality": float(candidate.point["x"])}))
"""


def start(path: Path, optimiser: str, seed: int, stop: int = 1000) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-W", "ignore", "-c", WORKER, str(path), optimiser, str(seed), str(stop)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_four_workers_never_evaluate_a_candidate_twice(tmp_path: Path) -> None:
    Study(FEW, storage=tmp_path / "study.db").close()
    workers = [start(tmp_path / "study.db", "tpe" if seed % 2 else "random", seed) for seed in range(4)]
    asked = [line for worker in workers for line in worker.communicate(timeout=300)[0].splitlines() if line != "ready"]
    assert all(worker.returncode == 0 for worker in workers)
    assert max(Counter(asked).values()) == 1
    assert set(asked) == {key_of(point) for point in FEW.points()}
    assert len(read_outcomes(tmp_path / "study.db")) == 24


def test_the_candidate_of_a_worker_that_was_killed_is_asked_for_first(tmp_path: Path) -> None:
    worker = start(tmp_path / "study.db", "tpe", 0, stop=3)
    assert worker.stdout is not None
    lines = [worker.stdout.readline().strip() for _ in range(5)]
    living = Study(FEW, storage=tmp_path / "study.db")
    other = living.ask()
    assert other is not None
    assert other.key not in lines  # the worker still has its own
    worker.kill()
    worker.wait()
    candidate = living.ask()
    assert candidate is not None
    assert candidate.key == lines[-1]
    assert [json.loads(one.key) == dict(one.point) for one in living.done()] == [True] * 3

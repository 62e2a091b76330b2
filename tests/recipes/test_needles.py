"""Needle threading tasks: their chains are there, the answers are theirs, and scores are what they say."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.engines.scripted import tokenise
from plait.errors import InputError
from plait.recipes.needles import KINDS, Kind, NeedleTask, needle_task, values_of


def count(text: str) -> int:
    return len(tokenise(text))


def chains(task: NeedleTask, start: str) -> list[list[str]]:
    """All chains from a key to their ends."""
    following = [value for key, value in task.lines if key == start]
    if not following:
        return [[start]]
    return [[start, *rest] for value in following for rest in chains(task, value)]


@given(st.sampled_from(KINDS), st.integers(1, 9), st.integers(1, 3), st.integers(0, 99))
@settings(deadline=None)
def test_the_answers_end_the_chains_that_are_asked_for(kind: Kind, hops: int, width: int, seed: int) -> None:
    task = needle_task(kind, tokens=2_000, hops=hops, width=width, seed=seed, count=count)
    starts = task.question.partition("Begin with")[2].partition("and go on")[0].replace(",", " ").split()
    starts = [word for word in starts if len(word) == 8]
    longest = [max(chains(task, start), key=len) for start in starts]
    assert [chain[-1] for chain in longest] == list(task.answers)
    assert [len(chain) for chain in longest] == [hops + 1] * (width if kind == "multi" else 1)
    if kind == "branched":
        assert len([chain for chain in chains(task, starts[0]) if len(chain) == hops + 1]) == 1
        assert (len(chains(task, starts[0])) > 1) == (hops > 1 and width > 1)
    assert abs(count(task.text) - 2_000) < 100
    assert task == needle_task(kind, tokens=2_000, hops=hops, width=width, seed=seed, count=count)


def test_what_is_written_is_the_haystack(tmp_path: Path) -> None:
    task = needle_task("single", tokens=5_000, hops=5, count=count)
    task.write(tmp_path)
    files = sorted(tmp_path.iterdir())
    assert len(files) > 2
    text = "".join(path.read_text() for path in files)
    assert [line for line in text.splitlines() if line] == [line for line in task.text.splitlines() if line]
    for key, value in task.lines:
        assert value in values_of(key, text)


def test_a_score_is_the_share_of_right_values_in_place() -> None:
    task = needle_task("multi", tokens=1_000, hops=2, width=3, count=count)
    first, second, third = task.answers
    assert task.score(f"{first}, {second} and {third}.") == 1.0
    assert task.score(f"{first}, {third}, {second}") == pytest.approx(1 / 3)
    assert task.score("unknown") == 0.0


def test_what_can_not_be_drawn_is_refused() -> None:
    with pytest.raises(InputError, match="don't fit a haystack of 100 tokens"):
        needle_task("multi", tokens=100, hops=30, count=count)
    with pytest.raises(InputError, match="known: single, multi, branched"):
        needle_task("twisted", tokens=100, hops=3, count=count)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="hops=0"):
        needle_task("single", tokens=100, hops=0, count=count)

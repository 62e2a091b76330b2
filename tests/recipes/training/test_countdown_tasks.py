"""Countdown: the solver finds what the verifier accepts, and documents hold true searches."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.recipes.countdown import reaches
from plait.recipes.training import countdown, questions

STATES = st.lists(st.integers(1, 25), min_size=2, max_size=4).map(lambda numbers: tuple(sorted(numbers, reverse=True)))


@settings(max_examples=60, deadline=None)
@given(STATES, st.integers(10, 100))
def test_solutions_verify(state: tuple[int, ...], target: int) -> None:
    path = countdown.solve(target, state)
    assert path is None or reaches(",".join(path), target, list(state))


@settings(max_examples=60, deadline=None)
@given(STATES, st.randoms(use_true_random=False))
def test_what_can_be_reached_is_solved(state: tuple[int, ...], rng: random.Random) -> None:
    reached = state
    while len(reached) > 1 and countdown.expand(reached):
        reached = rng.choice(countdown.expand(reached))[1]
    if len(reached) == 1:
        assert countdown.solve(reached[0], state) is not None


@pytest.mark.parametrize(
    "path", ["none", "", "3+4=7", "3+4=7,7*2=15", "3+4=7,7+2=9", "3*4=12,12+2=14,14+0=14", "2+2=4,4+3=7", "7/2=3"]
)
def test_false_claims_are_refused(path: str) -> None:
    assert not reaches(path, 14, [4, 3, 2])


def test_true_claims_are_accepted() -> None:
    assert reaches("4+3=7,7*2=14", 14, [4, 3, 2])


def test_documents_claim_only_what_verifies() -> None:
    rng = random.Random(3)
    for count in (3, 3, 3, 4, 4):
        target, state = countdown.task(rng, count)
        claimed = countdown.parallel_document(target, state)[-1].text.removeprefix("<ret>").removesuffix("</ret><eos>")
        if claimed == "none":
            assert countdown.solve(target, state) is None
        else:
            assert reaches(claimed, target, list(state))


def test_a_parent_copies_the_first_of_its_labelled_results() -> None:
    document = countdown.parallel_document(21, (23, 13, 11))
    assert [piece.learnt for piece in document] == [False, True, False, True]
    assert document[1].text.startswith("<spawn>23+13=36;36 11|23-13=10;11 10|")
    assert document[2].text == "<join>23-13=10,11+10=21|23+11=34,34-13=21|13-11=2,23-2=21</join>"
    assert document[3].text == "<ret>23-13=10,11+10=21</ret><eos>"


def test_held_out_sets_are_never_drawn_for_training() -> None:
    rng = random.Random(4)
    assert not any(countdown.is_held_out(countdown.task(rng, 3)[1]) for _ in range(200))
    assert not any(countdown.is_held_out(countdown.substate(rng, 3)[1]) for _ in range(100))
    assert all(countdown.is_held_out(state) for _, state in questions.countdown_tasks(3, 20))

"""Fact questions: the same for the same seed, and answered rightly."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.recipes.training import facts_tasks, names, questions
from plait.recipes.training.facts_tasks import Problem

SUMS = st.lists(st.integers(0, 10**10), min_size=1, max_size=6)


def drawn(count: int) -> list[Problem]:
    rng = random.Random(11)
    return [facts_tasks.problem(rng) for _ in range(count)]


def figure(asked: Problem, entity: str, relations: tuple[str, ...]) -> str | None:
    for relation in relations[::-1]:
        if (relation, entity) not in asked.facts:
            return None
        entity = asked.facts[relation, entity]
    return asked.facts.get((asked.attribute, entity))


def expected(asked: Problem) -> str:
    """The answer, computed anew with fractions."""
    figures = [[figure(asked, operand.entity, operand.relations) for operand in side] for side in asked.sides]
    if any(found is None for side in figures for found in side):
        return "unknown"
    if len(asked.operands) == 1:
        return str(figures[0][0])
    sums = [sum(Fraction(found) for found in side if found) for side in figures]
    if asked.kind == "total":
        return plain(sums[0])
    if asked.kind == "difference":
        return plain(sums[0] - sums[1])
    if sums[0] == sums[1]:
        return "equal"
    side = asked.sides[0 if (sums[0] > sums[1]) == (asked.kind == "larger") else 1]
    return " plus ".join("".join(f"the {word} of " for word in one.relations) + one.entity for one in side)


def plain(number: Fraction) -> str:
    return str(number.numerator) if number.denominator == 1 else f"{float(number):.2f}".rstrip("0")


def test_the_same_seed_draws_the_same_questions() -> None:
    assert drawn(50) == drawn(50)
    assert questions.questions("one hop", 20) == questions.questions("one hop", 20)


def test_answers_agree_with_an_independent_computation() -> None:
    for asked in drawn(400):
        assert facts_tasks.answer(asked) == expected(asked), asked


def test_training_never_sees_what_is_held_out() -> None:
    held_out = {*names.HELD_OUT_NAMES, *names.HELD_OUT_ATTRIBUTES, *names.HELD_OUT_RELATIONS}
    for asked in drawn(400):
        words = {word for operand in asked.operands for word in (operand.entity, *operand.relations)}
        assert not held_out & {asked.attribute, *words}
    assert not set(names.HELD_OUT_NAMES) & {*names.SEEN_NAMES, *names.ARTICLE_NAMES}


@pytest.mark.parametrize("family", questions.FAMILIES)
def test_families_hold_what_they_say(family: str) -> None:
    for asked in questions.questions(family, 60):
        hops = {len(operand.relations) for operand in asked.operands}
        assert (facts_tasks.answer(asked) == "unknown") == (family == "unknown fact")
        assert family not in ("number", "text") or asked.kind == family
        assert family not in ("one hop", "two hops") or hops == {1 if family == "one hop" else 2}


@given(SUMS, SUMS)
def test_the_calculator_agrees_with_python(left: list[int], right: list[int]) -> None:
    first, second = "+".join(map(str, left)), "+".join(map(str, right))
    assert facts_tasks.calculate(first) == str(sum(left))
    assert facts_tasks.calculate(f"sub {first},{second}") == str(sum(left) - sum(right))
    larger = "equal" if sum(left) == sum(right) else "first" if sum(left) > sum(right) else "second"
    assert facts_tasks.calculate(f"max {first},{second}") == larger


def test_the_calculator_refuses_other_text() -> None:
    assert facts_tasks.calculate("2*3") == "error"
    assert facts_tasks.calculate("0.49+2.02") == "2.51"


def test_answers_compare_without_case_and_articles() -> None:
    assert questions.same_answer("The Netherlands", "netherlands")
    assert not questions.same_answer("12", "21")

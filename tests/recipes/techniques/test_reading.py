"""What judges answer: read as far as it says something, whatever it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.recipes.techniques.answers import answer_of, same_form
from plait.recipes.techniques.reading import (
    read_critiques,
    read_passes,
    read_ranking,
    read_score,
    read_tests,
    read_verdict,
)

HOSTILE = st.one_of(
    st.text(),
    st.text(alphabet="[]0123456789> \n:.-*٣²correctincorrectpassfail\"'\\"),
    st.lists(
        st.sampled_from(["[1]", "[2]", "[99]", "[0]", "[-1]", ">", "\n", "[" * 500, "9" * 5000, "[1] Passed"])
    ).map(" ".join),
)


@pytest.mark.parametrize(
    ("text", "count", "places"),
    [
        ("[2] > [1] > [3]", 3, [1, 0, 2]),
        ("[4] > [2]", 4, [3, 1, 0, 2]),
        ("[2] > [2] > [9] > [0] > [1]", 3, [1, 0, 2]),
        ("[1] is short. [3] is wrong.\nFinal: [3] > [1]", 3, [2, 0, 1]),
        ("none of them", 2, [0, 1]),
        ("[3], then [1]", 3, [2, 0, 1]),
        ("[2]>[1]", 2, [1, 0]),
    ],
)
def test_rankings_name_every_candidate_once(text: str, count: int, places: list[int]) -> None:
    assert read_ranking(text, count) == places


@given(HOSTILE, st.integers(0, 12))
def test_any_ranking_is_a_permutation(text: str, count: int) -> None:
    assert sorted(read_ranking(text, count)) == list(range(count))


@given(st.permutations(range(7)))
def test_a_whole_ranking_is_read_as_it_stands(places: list[int]) -> None:
    assert read_ranking(" > ".join(f"[{place + 1}]" for place in places), 7) == places


def test_critiques_belong_to_their_numbers() -> None:
    text = "Here they are.\n[2] Strengths: short\nWeaknesses: see [1]\n\n**[1]**: long\n[2] again\n[7] nobody"
    assert read_critiques(text, 3) == ["long", "Strengths: short\nWeaknesses: see [1]", ""]


@given(HOSTILE, st.integers(0, 8))
def test_any_critiques_are_one_for_each_candidate(text: str, count: int) -> None:
    assert len(read_critiques(text, count)) == count


@pytest.mark.parametrize(
    ("text", "passes"),
    [("[Correct]", True), ("not [correct] but [ Incorrect ]", False), ("It is correct.", None), ("", None)],
)
def test_verdicts_are_taken_from_brackets_only(text: str, passes: bool | None) -> None:
    assert read_verdict(text) is passes


@pytest.mark.parametrize(
    ("text", "tests"),
    [
        ('Tests: ["names a year", "is short"]', ["names a year", "is short"]),
        ("['names a year', 'names a year']", ["names a year"]),
        ("1. names a year\n2) is short\n- is true\nThat is all.", ["names a year", "is short", "is true"]),
        ("[[1, 2]]", []),
        ("[" * 5000, []),
        ("nothing", []),
    ],
)
def test_tests_are_read_from_lists_of_any_kind(text: str, tests: list[str]) -> None:
    assert read_tests(text) == tests


@given(HOSTILE, st.integers(1, 5))
def test_any_tests_are_texts_within_the_cap(text: str, cap: int) -> None:
    found = read_tests(text, cap)
    assert len(found) <= cap
    assert all(test and test == " ".join(test.split()) for test in found)


def test_a_test_that_is_not_named_is_not_passed() -> None:
    text = "[1] It does. Passed\n[3] Failed, though others passed\n[1] failed\n[9] passed"
    assert read_passes(text, 4) == [True, False, False, False]


@given(HOSTILE, st.integers(0, 6))
def test_any_passes_are_one_for_each_test(text: str, count: int) -> None:
    assert len(read_passes(text, count)) == count


@given(HOSTILE)
def test_any_verdict_is_a_verdict_or_none(text: str) -> None:
    assert read_verdict(text) in (True, False, None)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Score: 7", 7.0),
        ("8/10", 8.0),
        ("It has 3 faults.\nScore: 2.5 of 10", 2.5),
        ("Score: 99", 10.0),
        ("-4", 0.0),
        ("no idea", None),
        ("9" * 5000, None),
        ("v1.2.3", None),
    ],
)
def test_scores_are_held_to_the_scale(text: str, score: float | None) -> None:
    assert read_score(text, 0.0, 10.0) == score


@given(HOSTILE)
def test_any_score_is_on_the_scale(text: str) -> None:
    score = read_score(text, 0.0, 10.0)
    assert score is None or 0.0 <= score <= 10.0


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{4}", "4"),
        (r"\boxed{1} no, \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        ("Thus\nThe final answer is: Peru.", "Peru."),
        ("#### 12", "12"),
        ("  Peru ", "Peru"),
    ],
)
def test_answers_stand_where_the_marks_say(text: str, answer: str) -> None:
    assert answer_of(text) == answer


def test_a_pattern_says_where_the_answer_is() -> None:
    assert answer_of("<ret>1</ret><ret>2</ret>", r"<ret>(.*?)</ret>") == "2"
    assert answer_of("nothing", r"<ret>(.*?)</ret>") == ""


@pytest.mark.parametrize(("one", "other"), [("1,000", "1000.0"), (" Peru. ", "peru"), ("**4**", "4"), ("$5", "5")])
def test_equal_answers_have_one_form(one: str, other: str) -> None:
    assert same_form(one) == same_form(other)


@given(st.text())
def test_a_form_is_its_own_form(text: str) -> None:
    assert same_form(same_form(text)) == same_form(text)

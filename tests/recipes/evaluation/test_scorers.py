"""Scorers: what counts as right, and what is said where that can't be told."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.engines.scripted import ScriptedEngine
from plait.errors import FormatError, InputError, UnknownNameError
from plait.recipes.evaluation import Item, find_scorer
from plait.recipes.evaluation.scorers import extract
from plait.tools.sandbox import protections


def score(name: Any, item: Item, answer: str, **options: Any) -> float:
    return anyio.run(find_scorer(name, **options), item, answer)


def item(answer: str = "", **values: Any) -> Item:
    return Item(id="1", task="24: 8 3 1", answer=answer, **values)


@pytest.mark.parametrize(
    ("name", "right", "given", "expected"),
    [
        ("exact", "Lima", " lima. ", 1),
        ("exact", "Lima", "Lima, Peru", 0),
        ("exact", "1,200", "1200", 1),
        ("numeric", "42", "It is 41, no: 42.", 1),
        ("numeric", "0.5", "50%", 1),
        ("numeric", "1200", "1,200", 1),
        ("numeric", "42", "many", 0),
        ("f1", "the red car", "a red bus", 0.5),
        ("f1", "", "", 1),
        ("countdown", "", "8*3=24,24*1=24", 1),
        ("countdown", "", "8*3=25", 0),
    ],
)
def test_a_scorer_tells_right_from_wrong(name: str, right: str, given: str, expected: float) -> None:
    assert score(name, item(right), given) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("right", "given", "expected"),
    [
        ("B", "B", 1),
        ("B", "(b)", 1),
        ("green", "The answer is B", 1),
        ("1", "green", 1),
        ("B", "A", 0),
        ("B", "I'm lost", 0),
    ],
)
def test_a_choice_is_told_by_letter_text_or_index(right: str, given: str, expected: float) -> None:
    assert score("choice", item(right, choices=("red", "green")), given) == expected


@pytest.mark.parametrize(
    ("name", "said"), [("numeric", "no number"), ("choice", "no choices"), ("code", "no tests"), ("judge", "--judge")]
)
def test_a_scorer_that_does_not_fit_the_item_says_so(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        score(name, item("?"), "x")


def test_an_unknown_scorer_is_named() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'exact'"):
        find_scorer("exakt")


@pytest.mark.parametrize("value", [2.0, -1.0, float("nan"), "yes", None])
def test_a_score_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match="a score is a number from 0 to 1"):
        score(lambda item, answer: value, item(), "x")


@pytest.mark.skipif("files" not in protections(), reason="no sandbox here")
def test_code_is_run_against_its_tests() -> None:
    tested = item(tests="assert double(2) == 4")
    assert score("code", tested, "So:\n```python\ndef double(x):\n    return 2 * x\n```\nDone.") == 1
    assert score("code", tested, "def double(x): return x") == 0


def test_a_judge_is_asked_with_a_pinned_prompt_and_its_verdict_is_read() -> None:
    engine = ScriptedEngine(
        {"Given answer: two": "It fits.\nVERDICT: CORRECT", "Given answer: six": "VERDICT: INCORRECT"}
    )
    assert score("judge", item("2"), "two", judge=engine) == 1
    assert score("judge", item("2"), "six", judge=engine) == 0
    assert find_scorer("judge", judge=engine).version == find_scorer("judge", judge=engine).version


def test_a_judge_without_a_verdict_is_an_error() -> None:
    with pytest.raises(FormatError, match="no verdict"):
        score("judge", item("2"), "two", judge=ScriptedEngine(["Hm."]))


@given(st.text())
def test_extraction_takes_any_text(text: str) -> None:
    assert isinstance(extract(text, r"<ret>(.*?)</ret>"), str)


def test_the_pattern_of_a_dataset_goes_before_the_usual_marks() -> None:
    assert extract("The answer is 3 <ret>1+2=3</ret>", r"<ret>(.*?)</ret>") == "1+2=3"
    assert extract("\\boxed{7}", r"<ret>(.*?)</ret>") == "7"

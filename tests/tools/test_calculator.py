from __future__ import annotations

import string
from contextlib import suppress
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.errors import ToolArgumentError, ToolError
from plait.tools import calculator
from plait.tools.calculator import MAX_DEPTH, MAX_LENGTH, evaluate


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1+2", "3"),
        ("2+3*4-(5-6)", "15"),
        ("--2 * -(3)", "-6"),
        ("8/2/2", "2"),
        ("0.1+0.2", "0.3"),
        (".5*4", "2"),
        ("100", "100"),
        ("1/8", "0.125"),
        ("1/3", "0.33333333333333333333"),
        ("-2/3", "-0.66666666666666666667"),
        ("2/3*3", "2"),
        ("99999999999999999999*99999999999999999999", "9999999999999999999800000000000000000001"),
        ("34352719 − 2×3 ÷ 1", "34352713"),  # noqa: RUF001
        ("max 34352719,19658835+12388571", "first"),
        ("max 744,8", "first"),
        ("max 8, 744", "second"),
        ("min 744 , 8", "second"),
        ("min 0.3,0.1+0.2", "equal"),
        ("sub 6+7,9", "4"),
        ("sub 9,6+7", "-4"),
        (" 5 ", "5"),
    ],
)
def test_values_are_exact(expression: str, value: str) -> None:
    assert evaluate(expression) == value


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", r"has the end at position 1: a number or '\(' was expected"),
        ("3+*4", r"'3\+\*4' has '\*' at position 3: a number"),
        ("(1+2", r"has the end at position 5: '\)' or an operator was expected"),
        ("1+2)", r"has '\)' at position 4: an operator or the end was expected"),
        ("1 000", r"has '000' at position 3: an operator or the end"),
        ("34,352,719", r"has ',' at position 3: write numbers without separators"),
        ("max 1,2,3", r"has ',' at position 8: write numbers without"),
        ("max 5", r"has the end at position 6: ',' or an operator was expected"),
        ("pow 2,3", r"has 'pow' at position 1: the functions are"),
        ("2**3", r"has '\*' at position 3"),
        ("1/(2-2)", r"divides by zero at position 3"),
        ("__import__", r"has '_' at position 1"),
        ("1e5", r"has 'e' at position 2"),
        ("²", r"has '²' at position 1"),
        ("(" * 60 + "1" + ")" * 60, rf"at position {MAX_DEPTH + 1}: parentheses nest deeper than 50"),
        ("9" * (MAX_LENGTH + 1), r"an expression of 501 characters is too long; the limit is 500"),
    ],
)
def test_errors_name_the_position(expression: str, message: str) -> None:
    with pytest.raises(ToolArgumentError, match=message):
        evaluate(expression)


@pytest.mark.anyio
async def test_the_tool_is_called_calculate() -> None:
    assert calculator.name == "calculate"
    assert list(calculator.parameters["properties"]) == ["expression"]
    assert await calculator("2*3") == "6"
    with pytest.raises(ToolError, match=r"^tool 'calculate' failed: expression '2\*' has the end at position 3"):
        await calculator("2*")


# ---- against Fraction


def _numbers() -> st.SearchStrategy[tuple[str, Fraction]]:
    whole = st.integers(0, 10**12).map(str)
    decimal = st.tuples(whole, st.text("0123456789", min_size=1, max_size=6)).map(".".join)
    return (whole | decimal).map(lambda text: (text, Fraction(text)))


def _combine(parts: st.SearchStrategy[tuple[str, Fraction]]) -> st.SearchStrategy[tuple[str, Fraction]]:
    def join(left: tuple[str, Fraction], sign: str, right: tuple[str, Fraction]) -> tuple[str, Fraction]:
        a, b = left[1], right[1]
        if sign == "/" and b == 0:
            sign = "+"
        value = {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else a}[sign]
        return f"({left[0]}{sign} {right[0]})", value

    negated = parts.map(lambda part: (f"-{part[0]}", -part[1]))
    return negated | st.builds(join, parts, st.sampled_from("+-*/"), parts)


EXPRESSIONS = st.recursive(_numbers(), _combine, max_leaves=8).filter(lambda pair: len(pair[0]) < 200)


def _close(text: str, value: Fraction) -> bool:
    return abs(Fraction(text) - value) <= abs(value) * Fraction(1, 2 * 10**19)


@settings(deadline=None, max_examples=60)
@given(EXPRESSIONS)
def test_sums_agree_with_fractions(pair: tuple[str, Fraction]) -> None:
    expression, value = pair
    ends = 10**4000 % value.denominator == 0
    text = evaluate(expression)
    assert Fraction(text) == value if ends else _close(text, value)
    assert set(text) <= set("-.0123456789")


@settings(deadline=None, max_examples=60)
@given(EXPRESSIONS, EXPRESSIONS)
def test_comparisons_and_differences_agree_with_fractions(x: tuple[str, Fraction], y: tuple[str, Fraction]) -> None:
    sides = f"{x[0]},{y[0]}"
    largest = "equal" if x[1] == y[1] else "first" if x[1] > y[1] else "second"
    smallest = {"equal": "equal", "first": "second", "second": "first"}[largest]
    assert (evaluate(f"max {sides}"), evaluate(f"min {sides}")) == (largest, smallest)
    assert _close(evaluate(f"sub {sides}"), x[1] - y[1])


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=600) | st.text("0123456789.,+-*/() maxinsub" + string.whitespace, max_size=600))
def test_any_text_gives_a_value_or_a_named_error(text: str) -> None:
    try:
        result: Any = evaluate(text)
    except ToolArgumentError as error:
        result = str(error)
    assert result


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(["1", "7", "/", "*", "9" * 50]), max_size=500).map("".join))
def test_long_products_and_quotients_stay_bounded(text: str) -> None:
    with suppress(ToolArgumentError):
        assert len(evaluate(text)) < 6000

"""The calculator: exact arithmetic and comparison for models, with no eval, no float and no unbounded power.

    sum        := product (("+" | "-") product)*
    product    := factor (("*" | "/") factor)*
    factor     := "-"* (number | "(" sum ")")
    expression := sum | ("max" | "min" | "sub") sum "," sum

`max` and `min` say which of two sums it is, so that a small model only copies the side (the embedded model's format).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Context, Decimal, Inexact
from fractions import Fraction
from typing import Final

from ..errors import ToolArgumentError
from .tool import tool

MAX_LENGTH: Final = 500
MAX_DEPTH: Final = 50
DIGITS: Final = 20
"""Significant digits of a quotient whose decimals don't end."""

_TOKEN = re.compile(r"[ \t\n]*(?:([0-9]+(?:\.[0-9]+)?|\.[0-9]+)|([a-z]+)|(.)|$)", re.DOTALL)
_SIGNS = str.maketrans("−×÷", "-*/")  # noqa: RUF001, one character each, so that positions stay


@tool(name="calculate", cap=64, idempotent=True)
async def calculator(expression: str) -> str:
    """Calculate exactly with + - * / and parentheses; `max x,y` and `min x,y` say which is it, `sub x,y` subtracts.

    Args:
        expression: for example "12+30", "max 34352719,19658835+12388571" (answers first, second or equal),
            "sub 6+7,9"; numbers without thousands separators
    """
    return evaluate(expression)


def evaluate(expression: str) -> str:
    """The value of an expression: exact where its decimals end, else rounded to 20 significant digits (half even).

    `max` and `min` give "first", "second" or "equal". Raises ToolArgumentError, which names the position.
    """
    if len(expression) > MAX_LENGTH:
        raise ToolArgumentError(
            f"an expression of {len(expression)} characters is too long; the limit is {MAX_LENGTH}, calculate in parts"
        )
    parser = _Parser(expression.translate(_SIGNS))
    if parser.kind != "word":
        value = parser.read_sum()
        parser.expect_end()
        return _decimal(value)
    function = parser.read_function()
    first = parser.read_sum()
    parser.expect(",")
    second = parser.read_sum()
    parser.expect_end()
    return _decimal(first - second) if function == "sub" else _which(function, first, second)


def _which(function: str, first: Fraction, second: Fraction) -> str:
    if first == second:
        return "equal"
    return "first" if (first > second) == (function == "max") else "second"


def _decimal(value: Fraction) -> str:
    # Lengths are bounded by the expression's, so this precision holds every decimal that ends.
    exact = Context(prec=10 * MAX_LENGTH)
    quotient = exact.divide(Decimal(value.numerator), Decimal(value.denominator))
    if exact.flags[Inexact]:
        quotient = Context(prec=DIGITS).divide(Decimal(value.numerator), Decimal(value.denominator))
    text = f"{quotient:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


@dataclass(slots=True)
class _Parser:
    """Reads an expression from left to right; `kind`, `text` and `start` are the token that comes next."""

    expression: str
    kind: str = "end"
    text: str = ""
    start: int = 0
    depth: int = 0
    _next: int = field(default=0)

    def __post_init__(self) -> None:
        self._advance()

    def read_function(self) -> str:
        name = self.text
        if name not in ("max", "min", "sub"):
            raise self._error("the functions are 'max x,y', 'min x,y' and 'sub x,y'")
        self._advance()
        return name

    def read_sum(self) -> Fraction:
        value = self._product()
        while self.text in ("+", "-"):
            sign = 1 if self._take() == "+" else -1
            value += sign * self._product()
        return value

    def expect(self, text: str) -> None:
        if self.text != text:
            raise self._error(f"'{text}' or an operator was expected")
        self._advance()

    def expect_end(self) -> None:
        if self.text == ",":
            raise self._error("write numbers without separators; two sums follow only 'max', 'min' or 'sub'")
        if self.kind != "end":
            raise self._error("an operator or the end was expected")

    def _product(self) -> Fraction:
        value = self._factor()
        while self.text in ("*", "/"):
            if self._take() == "*":
                value *= self._factor()
                continue
            position = self.start
            divisor = self._factor()
            if divisor == 0:
                raise ToolArgumentError(f"expression {self.expression!r} divides by zero at position {position + 1}")
            value /= divisor
        return value

    def _factor(self) -> Fraction:
        sign = 1
        while self.text == "-":
            self._advance()
            sign = -sign
        if self.kind == "number":
            return sign * Fraction(self._take())
        if self.text != "(":
            raise self._error("a number or '(' was expected")
        if self.depth == MAX_DEPTH:
            raise self._error(f"parentheses nest deeper than {MAX_DEPTH}")
        self._advance()
        self.depth += 1
        value = self.read_sum()
        self.expect(")")
        self.depth -= 1
        return sign * value

    def _take(self) -> str:
        text = self.text
        self._advance()
        return text

    def _advance(self) -> None:
        match = _TOKEN.match(self.expression, self._next)
        assert match is not None  # the pattern has a branch for every character and for the end
        number, word, sign = match.groups()
        self.kind = "number" if number else "word" if word else "sign" if sign else "end"
        self.text = number or word or sign or ""
        self.start = match.end() - len(self.text)
        self._next = match.end()

    def _error(self, reason: str) -> ToolArgumentError:
        found = f"'{self.text}'" if self.text else "the end"
        return ToolArgumentError(f"expression {self.expression!r} has {found} at position {self.start + 1}: {reason}")

"""What recipes of teams have in common: the members' names, and how the answer is asked for at the end."""

from __future__ import annotations

from ..engines import Context
from ..orchestrator import Scope
from .prompt import render

NAMES = ("Alice", "Bob", "Carol", "Dave", "Erin", "Frank")
ANSWER_TOKENS = 16
"""Hogwild!'s finisher lets so many tokens be written, greedily."""


def names_of(count: int) -> list[str]:
    """Names of so many members; after the first six, numbers."""
    return [*NAMES[:count], *(f"Number {number}" for number in range(len(NAMES) + 1, count + 1))]


async def boxed(scope: Scope, context: Context) -> str:
    """The answer that a context is made to state now, as it stands."""
    asked = await scope.extend(context, render("finish"))
    written = await scope.generate(asked, title="answer", max_tokens=ANSWER_TOKENS, stop=["}"])
    return written.text.removesuffix("}").strip()

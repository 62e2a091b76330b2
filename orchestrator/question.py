"""Questions to a person: what a run asks, and the answer as a value of the type that is asked for."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import InputError
from .types import name_of

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True)
class Question:
    """What the node at `path` asks, and the type that the answer must have."""

    path: str
    text: str
    type: Any


Answer: TypeAlias = Callable[[Question], Any | Awaitable[Any]]
"""Answers questions: a value of the type, or text that reads as one ("yes" for a bool, JSON for a model)."""


async def put(question: Question, answer: Answer) -> Any:
    """Ask, and read the answer. Raises InputError for one that is not of the type."""
    said = answer(question)
    return read_answer(question, await said if inspect.isawaitable(said) else said)


def read_answer(question: Question, said: object) -> Any:
    """The answer as a value of the type that was asked for. Raises InputError."""
    from pydantic import TypeAdapter, ValidationError

    adapter: TypeAdapter[Any] = TypeAdapter(question.type)
    try:
        return adapter.validate_python(said)
    except ValidationError as error:
        if isinstance(said, str):
            try:
                return adapter.validate_json(said)
            except ValidationError:
                pass  # the first error says more
        reason = error.errors(include_url=False)[0]["msg"]
        raise InputError(
            f"the answer {said!r:.80} to {question.text!r:.80} is no {name_of(question.type)}: {reason}"
        ) from None

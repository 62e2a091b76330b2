"""From a type to the grammar that a model writes it under, and from the text back to a value."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from ..engines.base import Choice, Generation, Grammar, JsonSchema
from ..errors import FormatError, GraphError
from .types import name_of

if TYPE_CHECKING:
    from pydantic import TypeAdapter


def grammar_of(kind: Any, owner: str) -> Grammar | None:
    """None for text, a choice for a Literal of strings, a JSON schema for all else. Raises GraphError."""
    if kind is str or kind is Any:
        return None
    if _is_choice(kind):
        return Choice(get_args(kind))
    from pydantic.errors import PydanticUserError

    try:
        return JsonSchema(_adapter(kind).json_schema())
    except PydanticUserError as error:
        reason = str(error).splitlines()[0]
        raise GraphError(f"{owner} returns {name_of(kind)}, which has no JSON schema: {reason}") from None


def asked_of(kind: Any, owner: str) -> tuple[Grammar | None, tuple[str, ...]]:
    """The grammar of a type, and what that asks of an engine. Raises GraphError."""
    grammar = grammar_of(kind, owner)
    return grammar, (f"grammar:{type(grammar).__name__}",) if grammar else ()


def parse(kind: Any, written: Generation, max_tokens: int) -> Any:
    """The value that a generation holds. Raises FormatError."""
    if kind is str or kind is Any:
        return written.text
    from pydantic import ValidationError

    try:
        if _is_choice(kind):
            return _adapter(kind).validate_python(written.text)
        return _adapter(kind).validate_json(written.text)
    except ValidationError as error:
        cut = f"; it was cut at max_tokens={max_tokens}, raise it" if written.finish == "length" else ""
        reason = error.errors(include_url=False)[0]["msg"]
        raise FormatError(f"the text {written.text[-200:]!r} is no {name_of(kind)}: {reason}{cut}") from None


def _is_choice(kind: Any) -> bool:
    return get_origin(kind) is Literal and all(isinstance(option, str) for option in get_args(kind))


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)

"""Prompts: jinja files beside the recipes (`prompts/NAME.jinja`), rendered with the values that a recipe gives."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..engines import Message
from ..errors import InputError

if TYPE_CHECKING:
    from jinja2 import Environment

DIRECTORY = Path(__file__).parent / "prompts"


def conversation(prompt: str, task: str, instructions: str = "", **values: object) -> list[Message]:
    """The opening of a recipe: its instructions, or others in place of them, as the system's message, the task as the
    user's."""
    return [Message("system", instructions or render(prompt, **values)), Message("user", task)]


def render(prompt: str, instead: str = "", /, **values: object) -> str:
    """The text of a prompt, or of a user's template `instead`; a value that it needs and does not get is an error.

    Raises InputError for a user's template that can't be rendered.
    """
    if not instead:
        return _environment().get_template(f"{prompt}.jinja").render(**values)
    from jinja2 import TemplateError

    try:
        return _environment().from_string(instead).render(**values)
    except TemplateError as error:
        known = ", ".join(values)
        raise InputError(f"the prompt {instead[:60]!r} can't be rendered: {error}; it may use: {known}") from error


@cache
def source(prompt: str) -> str:
    """A prompt's file as it is written."""
    return (DIRECTORY / f"{prompt}.jinja").read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(loader=FileSystemLoader(DIRECTORY), undefined=StrictUndefined, autoescape=False)

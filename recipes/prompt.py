"""Prompts: jinja files beside the recipes (`prompts/NAME.jinja`), rendered with the values that a recipe gives."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..engines import Message

if TYPE_CHECKING:
    from jinja2 import Environment

DIRECTORY = Path(__file__).parent / "prompts"


def conversation(prompt: str, task: str, instructions: str = "", **values: object) -> list[Message]:
    """The opening of a recipe: its instructions, or others in place of them, as the system's message, the task as the
    user's."""
    return [Message("system", instructions or render(prompt, **values)), Message("user", task)]


def render(prompt: str, **values: object) -> str:
    """The text of a prompt; a value that the prompt needs and does not get is an error."""
    return _environment().get_template(f"{prompt}.jinja").render(**values)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(loader=FileSystemLoader(DIRECTORY), undefined=StrictUndefined, autoescape=False)

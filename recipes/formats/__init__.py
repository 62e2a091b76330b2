"""Formats: how models write tool calls, each a parser of its stream and the text of its results.

All drivers of `agent` are made of these; what a format is, `base` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from ...errors import UnknownNameError
from .base import REFERENCE, Answer, Format, GiveUp, Move, Parser, Result, ToolCall
from .batches import Batches
from .hermes import Hermes
from .ids import Ids
from .llama import Llama
from .openai import OpenAI
from .queries import Queries
from .react import ReAct

FORMATS: Mapping[str, Format] = {
    each.name: each for each in (Hermes(), Llama(), OpenAI(), ReAct(), Batches(), Queries())
}

TRAINED = {
    "<tool_call>": "hermes",
    "<|python_tag|>": "llama",
    "Format: function calls": "dta",  # the embedded model's
}
"""What a chat template holds of a format that its model was trained on."""


def find_format(name: str) -> Format:
    """The format of this name. Raises UnknownNameError that names the nearest one."""
    if name in FORMATS:
        return FORMATS[name]
    near = get_close_matches(name, FORMATS, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise UnknownNameError(f"unknown format '{name}'; {hint}known: auto, {', '.join(FORMATS)}")


def detect_format(template: str, *, json: bool) -> str:
    """The name of the format for a chat template ("" where none is known): what its model was trained on.

    Otherwise OpenAI's, where the engine can hold a turn to `json`, else ReAct's, which needs nothing but words.
    """
    trained = next((name for sign, name in TRAINED.items() if sign in template), "")
    return trained or ("openai" if json else "react")


__all__ = [
    "FORMATS",
    "REFERENCE",
    "Answer",
    "Batches",
    "Format",
    "GiveUp",
    "Hermes",
    "Ids",
    "Llama",
    "Move",
    "OpenAI",
    "Parser",
    "Queries",
    "ReAct",
    "Result",
    "ToolCall",
    "detect_format",
    "find_format",
]

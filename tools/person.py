"""Questions to a person: a tool by which a model asks whoever is there to answer for the run."""

from __future__ import annotations

import math
from dataclasses import replace

from ..errors import ToolError
from .tool import tool


@tool(timeout=math.inf, idempotent=True)
async def ask(question: str) -> str:
    """Ask the person for whom you work, and wait for the answer.

    Args:
        question: In full: the person sees nothing else.
    """
    raise ToolError("a question is put by a run, to what was given as its answer=…; call the tool in one")


ask_person = replace(ask, name="ask_person", asks=True)
"""Answered by the run's `answer`, as the questions of a graph are; an answer that is in the journal is not asked again.
"""

"""The tools that a recipe has when it is given none."""

from __future__ import annotations

from pathlib import Path

from .calculator import calculator
from .facts import facts
from .tool import Tool


def default_tools(*paths: str | Path) -> tuple[Tool, ...]:
    """Fact look-up (built-in tables, then the user's, of which the later is believed) and the calculator."""
    return facts(*paths), calculator

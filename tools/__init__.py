"""Tools: functions with schemas and limits, and those that come with plait."""

from __future__ import annotations

from .calculator import calculator
from .defaults import default_tools
from .facts import facts
from .registry import ToolBox
from .retry import Retry
from .tool import Tool, render, tool

__all__ = ["Retry", "Tool", "ToolBox", "calculator", "default_tools", "facts", "render", "tool"]

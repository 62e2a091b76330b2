"""Tools: functions with schemas and limits, and those that come with plait."""

from __future__ import annotations

from .calculator import calculator
from .defaults import default_tools
from .facts import facts
from .files import file_search
from .mcp import mcp_server
from .person import ask_person
from .registry import ToolBox
from .retry import Retry
from .sandbox import python
from .tool import Tool, render, tool
from .web import fetch

__all__ = [
    "Retry",
    "Tool",
    "ToolBox",
    "ask_person",
    "calculator",
    "default_tools",
    "facts",
    "fetch",
    "file_search",
    "mcp_server",
    "python",
    "render",
    "tool",
]

"""The tool box: the tools that a run may use, by name and in order."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import InputError, UnknownNameError
from .tool import Tool


class ToolBox:
    """An ordered, immutable collection of tools with distinct names. Raises InputError for anything else."""

    __slots__ = ("_tools",)

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        self._tools: dict[str, Tool] = {}
        for tool in tools:
            if not isinstance(tool, Tool):
                raise InputError(f"{tool!r} is not a tool; decorate the function with @plait.tools.tool")
            if tool.name in self._tools:
                raise InputError(f"two tools are named '{tool.name}'; give one another name with @tool(name='…')")
            self._tools[tool.name] = tool

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._tools)

    def get(self, name: str) -> Tool:
        """The tool of that name. Raises UnknownNameError, which lists the names that exist."""
        if name in self._tools:
            return self._tools[name]
        close = difflib.get_close_matches(name, self._tools, n=1)
        hint = f" (did you mean '{close[0]}'?)" if close else ""
        raise UnknownNameError(f"unknown tool '{name}'{hint}; known: {', '.join(self._tools) or 'none'}")

    def schemas(self) -> list[dict[str, Any]]:
        """For each tool its `name`, `description` and `parameters` (a JSON schema without references)."""
        return [
            {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
            for tool in self._tools.values()
        ]

    def describe(self) -> str:
        """The tools as a prompt names them, one a line: `population(country: str): Number of people …`."""
        return "\n".join(_line(tool) for tool in self._tools.values())

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)

    def __contains__(self, name: object) -> bool:
        return name in self._tools

    def __repr__(self) -> str:
        return f"ToolBox({', '.join(self._tools)})"


def _line(tool: Tool) -> str:
    description = " ".join(tool.description.split())
    return f"{tool.name}{tool.signature.text}: {description}" if description else f"{tool.name}{tool.signature.text}"

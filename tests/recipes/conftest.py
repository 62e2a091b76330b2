"""Tools and tasks that the tests of recipes share."""

from __future__ import annotations

import pytest

import plait
from plait.tools import Tool

PEOPLE = {"people of Peru": "34", "people of Chile": "20", "people of Bolivia": "12"}


@pytest.fixture
def asked() -> list[str]:
    """The queries that `lookup` was called with, in order."""
    return []


@pytest.fixture
def lookup(asked: list[str]) -> Tool:
    @plait.tool(name="lookup", cap=4)
    async def lookup(query: str) -> str:
        """Look a fact up."""
        asked.append(query)
        return PEOPLE.get(query, "unknown")

    return lookup


@pytest.fixture
def tools(lookup: Tool) -> list[Tool]:
    return [lookup, plait.tools.calculator]

from __future__ import annotations

from typing import Any, cast

import pytest

from plait.errors import InputError, UnknownNameError
from plait.tools import ToolBox, calculator, tool


@tool
def lookup(query: str, limit: int = 1) -> str:
    """Find a fact.

    In a table.
    """
    return query * limit


@tool
def mute() -> None: ...


def test_a_box_keeps_order_and_finds_by_name() -> None:
    box = ToolBox([lookup, calculator])
    assert box.names == ("lookup", "calculate")
    assert list(box) == [lookup, calculator]
    assert len(box) == 2
    assert "lookup" in box
    assert "calculator" not in box
    assert box.get("calculate") is calculator


def test_an_unknown_name_gets_the_known_ones() -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown tool 'look_up' \(did you mean 'lookup'\?\); known: lookup, calc"
    ):
        ToolBox([lookup, calculator]).get("look_up")
    with pytest.raises(UnknownNameError, match=r"unknown tool 'x'; known: none"):
        ToolBox().get("x")


def test_names_are_distinct_and_plain_functions_refused() -> None:
    with pytest.raises(InputError, match="two tools are named 'lookup'"):
        ToolBox([lookup, lookup])
    with pytest.raises(InputError, match="is not a tool; decorate the function"):
        ToolBox(cast(Any, [lookup.function]))


def test_schemas_and_descriptions_are_for_grammars_and_prompts() -> None:
    box = ToolBox([lookup, mute])
    assert box.schemas()[0] == {"name": "lookup", "description": lookup.description, "parameters": lookup.parameters}
    assert box.describe() == "lookup(query: str, limit: int = 1): Find a fact. In a table.\nmute()"

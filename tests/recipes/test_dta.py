"""Divide-Then-Aggregate on a scripted model: batches of calls, pairing of results, restarts."""

from __future__ import annotations

import json
from typing import Any

import pytest

import plait
from plait.engines.scripted import ScriptedEngine

pytestmark = pytest.mark.anyio


def step(*calls: tuple[str, dict[str, str]]) -> str:
    batch = json.dumps([{"name": name, "arguments": arguments} for name, arguments in calls], separators=(",", ":"))
    return f"Thought: go on\nFunction Call: {batch}\n"


def finish(answer: str, kind: str = "give_answer") -> str:
    return step(("Finish", {"return_type": kind, "final_answer": answer})).rstrip()


async def test_results_are_paired_with_their_calls(tools: list[Any]) -> None:
    calls = step(("lookup", {"query": "people of Peru"}), ("calculate", {"expression": "1+1"}))
    scripted = ScriptedEngine([calls, finish("34")])
    assert await plait.recipes.dta(tools).run("?", engine=scripted) == "34"
    observation = scripted.prompts[1].rpartition("Observation: ")[2]
    assert json.loads(observation) == [
        {"name": "lookup", "arguments": {"query": "people of Peru"}, "result": "34"},
        {"name": "calculate", "arguments": {"expression": "1+1"}, "result": "2"},
    ]


async def test_giving_up_starts_anew(tools: list[Any]) -> None:
    scripted = ScriptedEngine([finish("", "give_up_and_restart"), finish("34")])
    assert await plait.recipes.dta(tools).run("?", engine=scripted) == "34"
    assert scripted.prompts[0] == scripted.prompts[1]


async def test_giving_up_for_good_is_a_named_error(tools: list[Any]) -> None:
    scripted = ScriptedEngine([finish("", "give_up_and_restart")] * 2)
    with pytest.raises(plait.PlaitError, match="max_restarts=1"):
        await plait.recipes.dta(tools, max_restarts=1).run("?", engine=scripted)


async def test_a_failing_call_is_an_observation(tools: list[Any]) -> None:
    scripted = ScriptedEngine([step(("calculate", {"expression": "1/0"})), finish("unknown")])
    assert await plait.recipes.dta(tools).run("?", engine=scripted) == "unknown"
    assert '"result":"error:' in scripted.prompts[1]


@pytest.mark.parametrize(
    "text", ["Thought: x", "Function Call: {}", 'Function Call: [{"name":1}]', "Function Call: [}]\n"]
)
async def test_unreadable_calls_are_a_named_error(tools: list[Any], text: str) -> None:
    with pytest.raises(plait.PlaitError, match="can't be read"):
        await plait.recipes.dta(tools).run("?", engine=ScriptedEngine([text]))


async def test_too_many_steps_are_a_named_error(tools: list[Any]) -> None:
    scripted = ScriptedEngine([step(("lookup", {"query": "people of Peru"}))] * 3)
    with pytest.raises(plait.PlaitError, match="max_steps=3"):
        await plait.recipes.dta(tools, max_steps=3).run("?", engine=scripted)

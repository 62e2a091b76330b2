"""HybridDeepSearcher on a scripted model: parallel queries, repeats, calculation, forced answer."""

from __future__ import annotations

from typing import Any

import pytest

import plait
from plait.engines.scripted import ScriptedEngine

pytestmark = pytest.mark.anyio

ASK = "<|begin_search_queries|>{}<|end_search_queries|>"


async def test_queries_of_a_turn_run_together_and_come_back_labelled(tools: list[Any], asked: list[str]) -> None:
    scripted = ScriptedEngine(
        [
            ASK.format("people of Peru;\npeople of Chile"),
            "<|begin_calculation|>max 34,20<|end_calculation|>",
            "\\boxed{Peru}",
        ]
    )
    async with plait.recipes.hybrid_search(tools).stream(
        "Which has more people, Peru or Chile?", engine=scripted
    ) as run:
        async for _ in run:
            pass
    assert run.value == "Peru"
    assert sorted(asked) == ["people of Chile", "people of Peru"]
    assert run.usage.calls == 3
    assert (
        "<|begin_search_results|>\npeople of Peru: 34\npeople of Chile: 20<|end_search_results|>" in scripted.prompts[1]
    )
    assert "<|begin_calculation_result|>first<|end_calculation_result|>" in scripted.prompts[2]


async def test_a_repeated_query_is_answered_from_the_record(tools: list[Any], asked: list[str]) -> None:
    turns = [ASK.format("people of Peru"), ASK.format("people of Peru;\npeople of Chile"), "\\boxed{34}"]
    scripted = ScriptedEngine(turns)
    assert await plait.recipes.hybrid_search(tools).run("?", engine=scripted) == "34"
    assert asked == ["people of Peru", "people of Chile"]
    assert "people of Peru: 34\npeople of Chile: 20" in scripted.prompts[2]


async def test_the_answer_is_forced_after_the_last_turn(tools: list[Any]) -> None:
    scripted = ScriptedEngine([ASK.format("people of Peru"), ASK.format("people of Chile"), "34}"])
    assert await plait.recipes.hybrid_search(tools, max_turns=2).run("?", engine=scripted) == "34"
    assert scripted.prompts[-1].endswith("\\boxed{")


@pytest.mark.parametrize("text", ["nothing at all", "<|end_search_queries|>", "<|begin_search_queries|>cut"])
async def test_a_turn_without_a_move_is_a_named_error(tools: list[Any], text: str) -> None:
    with pytest.raises(plait.PlaitError, match=r"turn 1|without"):
        await plait.recipes.hybrid_search(tools).run("?", engine=ScriptedEngine([text]))

"""The comparison of formats: what its tools do, and that what it counts adds up."""

from __future__ import annotations

import pytest

import plait
from plait.benchmarks import agents
from plait.benchmarks.agents import SlowTools

pytestmark = pytest.mark.anyio


@plait.tool(name="lookup")
async def lookup(query: str) -> str:
    return f"{query}!"


async def test_a_call_is_as_slow_and_as_unlucky_in_every_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws belong to the question, the call and the attempt; a failed attempt is made again."""
    monkeypatch.setattr(agents, "LATENCY", (0.0, 0.001))
    monkeypatch.setattr(agents, "FAILURES", 0.3)
    asked: list[dict[str, int]] = []
    for _ in range(2):
        slow = SlowTools("question 1")
        tool = slow.slow(lookup)
        assert [await tool.invoke({"query": f"q{number}"}) for number in range(8)] == [f"q{n}!" for n in range(8)]
        assert slow.waiting.seconds > 0
        asked.append(slow.asked)
    assert asked[0] == asked[1]
    assert sum(asked[0].values()) > 8


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_formats_answer_the_same_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "LATENCY", (0.0, 0.001))
    whole, families = await agents.measure("local", 2, ("total of 2-6", "two hops"))
    rows = {row["format"]: row for row in whole.as_dict()["rows"]}
    assert set(rows) == set(agents.RECIPES)
    assert {row["questions"] for row in rows.values()} == {2}
    assert rows["serial_search"]["faster"] == 1.0
    assert rows["hybrid_search"]["calls"] == rows["serial_search"]["calls"]
    assert rows["serial_search"]["turns"] == rows["serial_search"]["calls"] + 1
    assert [row["questions"] for row in families.as_dict()["rows"]] == [1] * 8

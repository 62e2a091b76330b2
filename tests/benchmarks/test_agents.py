"""The comparison of formats: what its tools do, and that what it counts adds up."""

from __future__ import annotations

import anyio
import pytest

import plait
from plait.benchmarks import agents
from plait.benchmarks.agents import SlowTools, Waiting

pytestmark = pytest.mark.anyio


@plait.tool(name="lookup")
async def lookup(query: str) -> str:
    return f"{query}!"


async def test_a_call_is_as_slow_and_as_unlucky_in_every_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws belong to the question, the call and the attempt; a failed attempt is made again."""
    monkeypatch.setattr(agents, "LATENCY", (0.0, 0.001))
    monkeypatch.setattr(agents, "FAILURES", 0.5)
    times = []
    for _ in range(2):
        slow = SlowTools("question 1")
        tool = slow.slow(lookup)
        assert [await tool.invoke({"query": f"q{number}"}) for number in range(8)] == [f"q{n}!" for n in range(8)]
        times.append(slow.waiting.times)
    assert times[0] == times[1] > 8


async def test_calls_in_flight_together_are_waited_for_once() -> None:
    waiting = Waiting()
    waiting.begin()
    waiting.begin()
    waiting.end()
    await anyio.lowlevel.checkpoint()
    waiting.end()
    waiting.begin()
    waiting.end()
    assert waiting.times == 2


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_formats_answer_the_same_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "LATENCY", (0.0, 0.001))
    monkeypatch.setattr(agents, "FAMILIES", ("total of 2-6", "two hops"))
    whole, families = await agents.measure("local", 2)
    rows = {row["format"]: row for row in whole.as_dict()["rows"]}
    assert set(rows) == set(agents.RECIPES)
    assert {row["questions"] for row in rows.values()} == {2}
    assert rows["serial_search"]["faster"] == 1.0
    assert rows["hybrid_search"]["calls"] == rows["serial_search"]["calls"]
    assert rows["serial_search"]["turns"] == rows["serial_search"]["calls"] + 1
    assert [row["questions"] for row in families.as_dict()["rows"]] == [1] * 8

"""Agents side by side: nothing is mixed up, nobody waits for all others, nothing piles up."""

from __future__ import annotations

import gc
import json
import re
from collections import Counter, defaultdict
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import plait
from plait.engines.scripted import ScriptedEngine
from plait.recipes.formats import ToolCall, find_format
from plait.tools import Tool

pytestmark = pytest.mark.anyio

AGENTS, TOOLS, CAP, TURNS, PLACES = 200, 20, 3, 4, 32
SLOW = 5
HERMES = find_format("hermes")


@plait.tool(name="stamp", idempotent=True)
async def stamp(query: str) -> str:
    """A stamp that nobody else has."""
    stamps.append(f"stamp-{len(stamps)}")
    mine = stamps[-1]
    await anyio.sleep(0.001 * (len(stamps) % 2))  # so that the later one may come first
    return mine


stamps: list[str] = []


async def test_two_agents_with_one_query_at_once_never_mix_their_results() -> None:
    """Each answers with the stamp that its own calls brought, though all calls of both are equal."""
    stamps.clear()
    calls = [ToolCall("", "stamp", {"query": "the same"})] * 3

    def model(prompt: str, _: int) -> str:
        found = re.findall(r'"content":"(stamp-\d+)"', prompt)
        if len(found) < 6:
            return HERMES.say(calls)
        return json.dumps(sorted(set(found)))

    ask = plait.recipes.agent([stamp], format="hermes")

    @plait.graph
    def pair(g: plait.Builder, question: str) -> list[str]:
        a, b = g.subgraph(ask, task=question), g.subgraph(ask, task=question)
        return g.function(lambda a, b: [a, b], a=a, b=b)

    events: list[Any] = []
    first, second = await pair.run("?", engine=ScriptedEngine(model), listeners=[events.append])
    assert sorted([first, second]) == ['["stamp-0"]', '["stamp-1"]']
    own: dict[str, set[str]] = defaultdict(set)
    for event in events:
        if type(event).__name__ == "NodeFinished" and event.summary.startswith("stamp-"):
            own[event.path.split("/")[0]].add(event.summary)
    assert sorted(map(sorted, own.values())) == [["stamp-0"], ["stamp-1"]]
    assert len(stamps) == 2


class Town:
    """Twenty tools under caps, and a model that calls three of them a turn, for four turns."""

    def __init__(self) -> None:
        self.flying: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.asked: dict[str, list[str]] = defaultdict(list)
        self.begun: dict[str, list[str]] = defaultdict(list)
        self.ended = 0
        self.held = 0
        self.through = 0
        self.all_others_through = anyio.Event()
        self.engine = ScriptedEngine(self.model)
        self.tools = [self.tool(f"tool_{number}") for number in range(TOOLS)]

    def tool(self, name: str) -> Tool:
        @plait.tool(name=name, cap=CAP)
        async def work(agent: int, turn: int) -> str:
            """Some work."""
            self.flying[name] += 1
            self.most[name] = max(self.most[name], self.flying[name])
            self.begun[name].append(f"{agent}:{turn}")
            self.held = max(self.held, self.engine.held)
            for _ in range(agent % 7):
                await anyio.lowlevel.checkpoint()
            if agent == SLOW and turn == 1:
                await self.all_others_through.wait()
            self.flying[name] -= 1
            self.ended += 1
            return f"{agent}:{turn}"

        return work

    def model(self, prompt: str, _: int) -> str:
        agent = int(re.findall(r"<\|user\|>agent (\d+)\n", prompt)[0])
        turn = prompt.count("<|assistant|>") - 1
        shown = re.findall(r'"content":"(\d+):(\d+)"', prompt)
        assert {int(owner) for owner, _ in shown} <= {agent}
        assert len(shown) == 3 * turn
        if turn == TURNS:
            self.through += 1
            if self.through == AGENTS - 1:
                self.all_others_through.set()
            return f"done {agent}"
        names = [f"tool_{(agent + step) % TOOLS}" for step in range(3)]
        for name in names:
            self.asked[name].append(f"{agent}:{turn}")
        return HERMES.say([ToolCall("", name, {"agent": agent, "turn": turn}) for name in names])


async def test_two_hundred_agents_share_twenty_tools_fairly_and_leave_nothing_behind() -> None:
    town = Town()
    agent = plait.recipes.agent(town.tools, format="hermes")

    @plait.graph
    def crowd(g: plait.Builder, tasks: list[str]) -> list[str]:
        return g.map(agent, tasks)

    tasks = [f"agent {number}" for number in range(AGENTS)]
    # no barrier: one agent's calls end only when all others are through with everything
    with anyio.fail_after(120):
        async with crowd.stream(tasks, engine=town.engine, limits=plait.Limits(engine=PLACES)) as run:
            async for _ in run:
                pass
    assert run.value == [f"done {number}" for number in range(AGENTS)]
    assert run.usage.calls == 3 * TURNS * AGENTS == town.ended
    run.check_integrity()

    # under the caps, and as many as they allow
    assert max(town.most.values()) == CAP
    # fair: of each tool, those who ask first are served first, but for those whose turns are written at the same time
    for name, begun in town.begun.items():
        place = {what: index for index, what in enumerate(town.asked[name])}
        assert max(abs(place[what] - index) for index, what in enumerate(begun)) <= PLACES
    # flat: each agent holds the contexts of its turn at most, and nothing afterwards
    assert town.held <= 3 * AGENTS
    gc.collect()
    assert town.engine.held == 0
    town.engine.check_integrity()


async def test_an_agent_of_many_turns_holds_no_more_than_one_of_few() -> None:
    most: list[int] = []

    @plait.tool(name="look", idempotent=True)
    async def look(turn: int) -> str:
        """Looks."""
        most.append(engine.held)
        return str(turn)

    def model(prompt: str, count: int) -> str:
        return HERMES.say([ToolCall("", "look", {"turn": count})]) if count < 300 else "done"

    engine = ScriptedEngine(model)
    assert await plait.recipes.agent([look], format="hermes", max_turns=301).run("?", engine=engine) == "done"
    assert len(most) == 300
    assert max(most) <= max(most[:5])

"""Teams in a scope: members are nodes, counted and seeded each on its own."""

from __future__ import annotations

from typing import Any

import pytest

import plait
from plait.engines import Member, Sampling, Teamwork
from plait.engines.scripted import Reply, ScriptedEngine
from plait.errors import EngineError, NodeError
from plait.orchestrator import Builder, Event, Graph, NodeFinished, NodeStarted, NodeText, Scope
from plait.orchestrator.wording import derive_seed

pytestmark = pytest.mark.anyio
COMBINED = Teamwork(layout="combined")


def driven(driver: Any) -> Graph[Any]:
    @plait.graph(name="driven")
    def build(g: Builder, question: str) -> Any:
        return g.drive(driver, question=question, name="d")

    return build


async def members_of(scope: Scope, question: str) -> list[Member]:
    context = await scope.start(question)
    return [Member(context=context, name="Alice"), Member(context=context, sampling=Sampling(1.0, seed=7))]


async def drive(scope: Scope, question: str) -> list[str]:
    return [result.text for result in await scope.team(await members_of(scope, question), COMBINED, title="two")]


async def test_members_are_nodes_of_the_teams_node() -> None:
    events: list[Event] = []
    engine = ScriptedEngine(["a b c", "d"])
    run = await driven(drive).run("Q", engine=engine, listeners=[events.append])
    assert run == ["a b c", "d"]
    started = [(event.path, event.kind, event.title) for event in events if isinstance(event, NodeStarted)]
    assert started == [
        ("d", "drive", "d"),
        ("d/1-two", "team", "two"),
        ("d/1-two/1-Alice", "think", "Alice"),
        ("d/1-two/2-member-1", "think", "member 1"),
    ]
    texts = [(event.path[-7:], event.text) for event in events if isinstance(event, NodeText)]
    assert texts == [("1-Alice", "a"), ("ember-1", "d"), ("1-Alice", " b"), ("1-Alice", " c")]
    usages = {event.path: event.usage for event in events if isinstance(event, NodeFinished)}
    assert [usage.generated for usage in usages.values()] == [3, 1, 4, 4]
    assert usages["d/1-two"].steps == 3, "members go on side by side"
    assert usages["d/1-two"].parallelism == 4 / 3
    assert engine.held == 0


async def test_each_member_has_a_seed_of_its_own() -> None:
    engine = ScriptedEngine(["a", "b"])
    await driven(drive).run("Q", engine=engine, seed=3)
    seeds = [asked.sampling.seed for asked in engine.asked]
    assert seeds == [derive_seed(3, "d", 0, 0, 0), derive_seed(3, "d", 0, 1, 7)]
    assert engine.asked[1].sampling.temperature == 1.0


async def test_what_was_said_before_a_team_was_left_is_charged() -> None:
    async def leave(scope: Scope, question: str) -> float:
        async with scope.stream_team(await members_of(scope, question), COMBINED) as stream:
            async for chunk in stream:
                if chunk.text == " e":
                    break
        return scope.usage.generated

    engine = ScriptedEngine(["a b c", "d e f"])
    assert await driven(leave).run("Q", engine=engine) == 4
    engine.check_integrity()


async def test_a_failing_member_fails_the_teams_node() -> None:
    engine = ScriptedEngine(["a b", Reply("c", error=EngineError("broken"))])
    with pytest.raises(NodeError, match="'d/1-two' failed: broken"):
        await driven(drive).run("Q", engine=engine)
    missing = ScriptedEngine(["a b"])
    with pytest.raises(NodeError, match="no more than 1 replies"):
        await driven(drive).run("Q", engine=missing)
    for used in (engine, missing):
        used.check_integrity()

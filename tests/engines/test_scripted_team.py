"""Scripted teams: what recipes that need a team are tested on."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest

from plait.engines import Capabilities, Choice, Member, TeamChunk, Teamwork
from plait.engines.base import Layout
from plait.engines.scripted import ALL, Reply, ScriptedEngine
from plait.errors import CapabilityError, ContextError, EngineError, InputError

pytestmark = pytest.mark.anyio
COMBINED = Teamwork(layout="combined")


@pytest.mark.parametrize("layout", ["contiguous", "interleaved", "combined", "tokenwise"])
async def test_members_speak_side_by_side_and_hold_what_the_others_said(layout: Layout) -> None:
    engine = ScriptedEngine([" a b c", " x y"])
    context = await engine.start("Q:")
    async with engine.stream_team([Member(context=context)] * 2, Teamwork(layout=layout, slot=8)) as stream:
        assert [(chunk.member, chunk.text) async for chunk in stream] == [
            (0, " a"),
            (1, " x"),
            (0, " b"),
            (1, " y"),
            (0, " c"),
        ]
    assert [result.text for result in stream.results] == [" a b c", " x y"]
    assert [result.context.text for result in stream.results] == ["Q: x y a b c", "Q: a b c x y"]
    assert [result.finish for result in stream.results] == ["eos", "eos"]
    assert engine.peak_active == 2
    engine.check_integrity()


async def test_each_member_brings_its_context_limits_and_time_to_join() -> None:
    engine = ScriptedEngine({"one": "1 2 3 4", "two": "5 6; 7", "three": "8 9"})
    contexts = [await engine.start(name) for name in ("one", "two", "three")]
    members = [
        Member(context=contexts[0], max_tokens=2),
        Member(context=contexts[1], stop=[";", 7]),
        Member(context=contexts[2], joins=2),
    ]
    async with engine.stream_team(members, COMBINED) as stream:
        said = [(chunk.member, chunk.text) async for chunk in stream]
    assert said == [(0, "1"), (1, "5"), (0, " 2"), (1, " 6"), (1, ";"), (2, "8"), (2, " 9")]
    assert [(result.finish, result.stop) for result in stream.results] == [
        ("length", None),
        ("stop", ";"),
        ("eos", None),
    ]
    assert stream.results[2].context.text == "three1 25 6;8 9"


async def test_a_step_that_ends_is_followed_by_its_members_header_and_by_the_check_where_it_is_due() -> None:
    engine = ScriptedEngine([" One.\n\nTwo.\n\nThree", " Uno, dos\n\ntres"])
    work = Teamwork(
        layout="combined",
        step_end="\n\n",
        step_after=".!?",
        step_header="**{name} [{step}]:**",
        check=" Redundant?",
        check_every=8,
    )
    context = await engine.start("Q:")
    members = [Member(context=context, name="Alice"), Member(context=context, name="Bob")]
    async with engine.stream_team(members, work) as stream:
        chunks = [chunk async for chunk in stream]
    alice, bob = stream.results
    assert alice.text == ("**Alice [1]:** One.\n\n**Alice [2]:**Two.\n\n**Alice [3]:** Redundant?Three"), (
        "the second end comes after the eighth token of both together"
    )
    assert bob.text == "**Bob [1]:** Uno, dos\n\ntres", "no full stop before the blank line"
    assert "".join(chunk.text for chunk in chunks if chunk.member == 0) == alice.text
    assert sum(chunk.tokens for chunk in chunks if chunk.member == 0) == alice.usage.generated
    assert TeamChunk(0, "**Alice [2]:**", 0) in chunks
    for result in (alice, bob):
        usage = result.usage
        assert usage.live + usage.pruned == usage.prompt + usage.generated == usage.critical_path
    together = alice.usage | bob.usage
    assert together.parallelism == together.generated / max(alice.usage.steps, bob.usage.steps)


async def test_without_characters_to_stand_before_it_any_step_end_counts() -> None:
    engine = ScriptedEngine(["a\n\nb"])
    work = Teamwork(layout="interleaved", step_end="\n\n", step_header="({step})")
    (result,) = await engine.team([Member(context=await engine.start("Q"))], work)
    assert result.text == "(1)a\n\n(2)b"


async def test_members_wait_for_their_latencies_together() -> None:
    engine = ScriptedEngine([Reply("a b c d", latency=0.2), Reply("e f g h", latency=0.2)])
    context = await engine.start("Q")
    with anyio.fail_after(10):
        results = await engine.team([Member(context=context)] * 2, COMBINED)
    assert [result.text for result in results] == ["a b c d", "e f g h"]


async def test_a_member_that_fails_fails_the_team() -> None:
    engine = ScriptedEngine([Reply("a b c"), Reply("d", error=EngineError("broken"))])
    context = await engine.start("Q")
    with pytest.raises(EngineError, match="broken"):
        await engine.team([Member(context=context)] * 2, COMBINED)
    engine.check_integrity()


async def test_a_team_left_early_has_no_results_and_nothing_in_flight() -> None:
    engine = ScriptedEngine(["a b c"] * 2)
    context = await engine.start("Q")
    stream = engine.stream_team([Member(context=context)] * 2, COMBINED)
    with pytest.raises(EngineError, match="async with"):
        aiter(stream)
    async with stream:
        assert await anext(aiter(stream)) == TeamChunk(0, "a")
        assert engine.active == 2
    engine.check_integrity()
    with pytest.raises(EngineError, match="has not ended"):
        _ = stream.results


async def test_a_reply_missing_for_one_member_leaves_none_in_flight() -> None:
    engine = ScriptedEngine(["only one"])
    context = await engine.start("Q")
    with pytest.raises(EngineError, match="no more than 1 replies"):
        await engine.team([Member(context=context)] * 2, COMBINED)
    engine.check_integrity()


async def test_results_can_be_spliced_and_keep_nothing_but_what_is_theirs() -> None:
    engine = ScriptedEngine(["a", "b"])
    context = await engine.start("Q")
    results = await engine.team([Member(context=context)] * 2, COMBINED)
    assert engine.held == 3
    joined = await context.splice([results[0].context], at="sequence", mode="shift")
    assert joined.text == "Qba"


async def test_what_can_not_be_a_team_is_refused_by_name() -> None:
    engine, other = ScriptedEngine(["a"]), ScriptedEngine(["b"])
    member = Member(context=await engine.start("Q"))
    foreign = Member(context=await other.start("Q"), name="Eve")
    released = Member(context=await engine.start("Q"))
    released.context.release()
    grammatical = replace(member, grammar=Choice(("a",)))
    tokenwise = Teamwork(layout="tokenwise", slot=4)
    refused = [
        ([], COMBINED, InputError, "no members"),
        ([member, foreign], COMBINED, ContextError, "member 1 'Eve' brings a context of another engine"),
        ([replace(member, joins=-1)], COMBINED, InputError, "joins at step -1"),
        ([grammatical], Teamwork(layout="combined", step_header="{step}"), InputError, "has a grammar"),
        ([member], replace(tokenwise, slot=0), InputError, "slot is 0"),
        ([member], replace(tokenwise, own_header="me"), InputError, "no place for headers"),
        ([member], replace(COMBINED, check_every=3), InputError, "check_every 3"),
        ([released], COMBINED, ContextError, "is released"),
    ]
    for members, work, error, message in refused:
        with pytest.raises(error, match=message):
            await engine.team(members, work)
    lone = ScriptedEngine(["a"], capabilities=Capabilities(team=frozenset({"tokenwise"})))
    with pytest.raises(CapabilityError, match="has no team layout 'combined'; it offers: tokenwise"):
        await lone.team([Member(context=await lone.start("Q"))], COMBINED)
    assert ALL.team == {"contiguous", "interleaved", "combined", "tokenwise"}

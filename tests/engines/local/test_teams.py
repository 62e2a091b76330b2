"""Teams of the local engine: what they say, what they hold, what they cost, and what they leave when they go."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

import anyio
import pytest

from plait.engines import Choice, Generation, Member, Sampling, Teamwork
from plait.engines.base import Layout
from plait.engines.local import LocalEngine
from plait.engines.local.context import LocalContext
from plait.engines.local.team import Moved, Passed
from plait.engines.local.teaming import LocalTeam, Teaming
from plait.errors import (
    CapabilityError,
    ContextError,
    ContextLengthError,
    EngineClosedError,
    EngineError,
    InputError,
    PoolError,
)

pytestmark = pytest.mark.anyio
Open = Callable[..., LocalEngine]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
HOGWILD = Teamwork(
    layout="combined",
    step_end="a",
    step_header="**{name} [{step}]:** ",
    past_header="### Past steps\n",
    others_header="### Others\n",
    own_header="### Own\n",
    check="Redundant? ",
    check_every=12,
)
LONG = 400


def warm(seed: int) -> Sampling:
    return Sampling(temperature=1.5, top_k=60, seed=seed)


def endless(seed: int) -> Sampling:
    return replace(warm(seed), logit_bias={0: -100.0})


async def crew(engine: LocalEngine, count: int = 3, *, max_tokens: int = 24) -> list[Member]:
    """Members with contexts of uneven length that share a beginning."""
    root = await engine.start("the cat sat on the mat and said")
    contexts = [root, *[await root.extend(" hello" * size) for size in range(1, count)]]
    return [
        Member(context=context, name=f"M{i}", max_tokens=max_tokens - 5 * i, sampling=warm(i), joins=3 * (i // 2))
        for i, context in enumerate(contexts)
    ]


def settled(engine: LocalEngine) -> int:
    """Pages that contexts hold once everything asked before is carried out; the books are checked."""
    gc.collect()
    engine.check_integrity()
    stats = engine.stats()
    return stats.pages_used - stats.pages_cached


async def under_way(engine: LocalEngine, steps: int = 0) -> None:
    with anyio.fail_after(30):
        while not engine.stats().running or engine.stats().steps < steps:  # noqa: ASYNC110
            await anyio.sleep(0.001)


async def told(engine: LocalEngine, members: Sequence[Member], asked: Teamwork) -> tuple[Teaming, list[Generation]]:
    stream = engine.stream_team(members, asked)
    assert isinstance(stream, LocalTeam)
    async with stream:
        async for _ in stream:
            pass
    assert stream.work is not None
    return stream.work, stream.results


# ---- law 4


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_a_team_of_one_without_headers_is_plain_decoding(
    checkpoint: Path, open_local: Open, layout: Layout
) -> None:
    async with open_local(checkpoint) as engine:
        context = await engine.start("the cat sat on the mat")
        for sampling, same_step in ((Sampling(), True), (warm(1), False)):
            alone = await context.generate(max_tokens=20, sampling=sampling, stop=["zq"])
            member = Member(context=context, max_tokens=20, sampling=sampling, stop=["zq"])
            asked = Teamwork(layout=layout, slot=32, same_step=same_step, step_end="a")
            (made,) = await engine.team([member], asked)
            assert (made.text, made.tokens, made.finish) == (alone.text, alone.tokens, alone.finish)
            assert made.context.text == alone.context.text
            assert replace(made.usage, seconds=0) == replace(alone.usage, seconds=0)
            after = [await part.generate(max_tokens=5) for part in (alone.context, made.context)]
            assert after[0].tokens == after[1].tokens


async def test_members_that_cannot_see_each_other_decode_independently(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint) as engine:
        members = await crew(engine, 5)
        alone = [await m.context.generate(max_tokens=m.max_tokens, sampling=m.sampling) for m in members]
        made = await engine.team(members, Teamwork(layout="interleaved"))
        assert [result.tokens for result in made] == [result.tokens for result in alone]
        assert [result.finish for result in made] == [result.finish for result in alone]
        assert [result.context.text for result in made] == [result.context.text for result in alone]
        seen = await engine.team(members, Teamwork(layout="contiguous"))
        assert [result.tokens for result in seen] != [result.tokens for result in alone], "the test can fail"


# ---- laws 1 and 6


async def keep(found: dict[str, object], engine: LocalEngine, name: str, count: int, work: Teamwork) -> None:
    found[name] = [result.tokens for result in await engine.team(await crew(engine, count), work)]


@pytest.mark.parametrize("asked", [HOGWILD, Teamwork(layout="tokenwise", slot=64, same_step=False)])
async def test_a_team_depends_neither_on_the_batch_nor_on_pages(
    checkpoint: Path, open_local: Open, asked: Teamwork
) -> None:
    async with open_local(checkpoint) as engine:
        alone = [result.tokens for result in await engine.team(await crew(engine), asked)]
        other = [result.tokens for result in await engine.team(await crew(engine, 2), replace(asked, same_step=False))]
    for options in ({"page_size": 1}, {"step_tokens": 2, "page_size": 5}, {"kernel": "reference"}, {"max_batch": 2}):
        async with open_local(checkpoint, **options) as engine:
            found: dict[str, object] = {}

            async with anyio.create_task_group() as group:
                group.start_soon(keep, found, engine, "one", 3, asked)
                context = await engine.start("people of the world")
                group.start_soon(partial(context.generate, max_tokens=30, sampling=warm(9)))
                group.start_soon(keep, found, engine, "two", 2, replace(asked, same_step=False))
                group.start_soon(partial(engine.start, "hello world " * 30))
            assert found == {"one": alone, "two": other}, options
            engine.check_integrity()


async def test_a_batch_invariant_team_is_the_same_to_the_last_bit(checkpoint: Path, open_local: Open) -> None:
    async def chances(engine: LocalEngine) -> list[list[float]]:
        members = [replace(m, sampling=replace(m.sampling, logprobs=3)) for m in await crew(engine)]
        results = await engine.team(members, HOGWILD)
        return [[step.logprob for step in result.logprobs] for result in results]

    async with open_local(checkpoint, dtype="float32", batch_invariant=True) as engine:
        alone = await chances(engine)
        found: list[list[list[float]]] = []

        async def among_others() -> None:
            found.append(await chances(engine))

        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(among_others)
            group.start_soon(partial(engine.start, "hello world " * 30))
        assert found == [alone, alone]


async def test_a_team_that_gives_way_goes_on_as_if_it_had_not(checkpoint: Path, open_local: Open) -> None:
    async def crew_of(engine: LocalEngine) -> list[Member]:
        return [replace(member, sampling=endless(i)) for i, member in enumerate(await crew(engine, max_tokens=50))]

    async with open_local(checkpoint, page_size=4, prefix_cache=False) as engine:
        alone = [(result.tokens, result.finish) for result in await engine.team(await crew_of(engine), HOGWILD)]
        needed = engine.stats().pages_used
        context = await engine.start("a" * 100)
        first = (await context.generate(max_tokens=40, sampling=endless(9))).tokens
    async with open_local(checkpoint, kv_tokens=4 * needed + 24, page_size=4) as engine:
        context = await engine.start("a" * 100)
        members = await crew_of(engine)
        both = threading.Event()
        engine._loop.call(partial(both.wait, 30))
        older = context.stream(max_tokens=40, sampling=endless(9))
        async with older, engine.stream_team(members, HOGWILD) as team:
            both.set()
            async for _ in older:
                pass
            async for _ in team:
                pass
        results = team.results
        assert older.result.tokens == first
        assert [(result.tokens, result.finish) for result in results] == alone
        assert engine.stats().preempted > 0
        assert sum(result.usage.recomputed for result in results) > 0
        engine.check_integrity()


async def test_what_is_stored_is_what_is_distinct(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint, prefix_cache=False) as engine:
        members = await crew(engine, 4)
        before = engine.stats().encoded
        work, results = await told(engine, members, HOGWILD)
        headers = len(work.heading.tokens)
        own = sum(len(result.tokens) for result in results)
        pending = 3  # the last of each context; the first's was encoded for those that were made of it
        assert engine.stats().encoded - before == pending + headers + own, "each token once, whoever sees it"
        for member, result in zip(members, results, strict=True):
            assert isinstance(result.context, LocalContext)
            assert result.context.length == member.context.length + headers + own


# ---- steps, checks and what is told of them


async def test_steps_end_where_the_rule_says_and_are_followed_by_headers_and_checks(
    checkpoint: Path, open_local: Open
) -> None:
    async with open_local(checkpoint) as engine:
        work, results = await told(engine, await crew(engine, 3, max_tokens=40), HOGWILD)
        for index, result in enumerate(results):
            assert result.text.startswith(f"**M{index} [1]:** ")
            headers = [part.split("]:** ", 1) for part in result.text.split(f"**M{index} [")[1:]]
            assert [int(number) for number, _ in headers] == list(range(1, len(headers) + 1))
            steps = [said for _, said in headers]
            assert all("a" in step.replace("Redundant? ", "") for step in steps[:-1])
        assert any("Redundant? " in result.text for result in results)
        moves = [event.member for event in work.events if isinstance(event, Moved)]
        assert len(moves) == sum(result.text.count("]:** ") - 1 for result in results) > 3
        for result in results:
            usage = result.usage
            assert usage.live + usage.pruned == usage.prompt + usage.generated
            assert usage.steps == usage.generated
        together = results[0].usage | results[1].usage | results[2].usage
        assert together.parallelism == together.generated / max(result.usage.steps for result in results) > 1


async def test_a_member_joins_at_its_pass_and_nobody_waits_for_nothing(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint) as engine:
        context = await engine.start("the cat")
        members = [
            Member(context=context, max_tokens=4),
            Member(context=context, max_tokens=3, joins=2),
            Member(context=context, max_tokens=2, joins=500),
            Member(context=context, max_tokens=0),
        ]
        work, results = await told(engine, members, Teamwork(layout="contiguous"))
        counts = [event.counts for event in work.events if isinstance(event, Passed)]
        assert counts == [
            (1, 0, 0, 0),
            (1, 0, 0, 0),
            (1, 1, 0, 0),
            (1, 1, 0, 0),
            (0, 1, 0, 0),
            (0, 0, 1, 0),
            (0, 0, 1, 0),
        ]
        assert [result.usage.generated for result in results] == [4, 3, 2, 0]
        assert results[3].text == ""


async def test_text_comes_as_it_is_said_and_a_result_can_go_on(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint) as engine:
        members = await crew(engine, 2)
        said = ["", ""]
        counted = [0, 0]
        async with engine.stream_team(members, HOGWILD) as stream:
            with pytest.raises(EngineError, match="has not ended"):
                _ = stream.results
            async for chunk in stream:
                said[chunk.member] += chunk.text
                counted[chunk.member] += chunk.tokens
        assert said == [result.text for result in stream.results]
        assert counted == [result.usage.generated for result in stream.results]
        after = await stream.results[0].context.generate(max_tokens=4)
        again = await stream.results[0].context.generate(max_tokens=4)
        assert after.tokens == again.tokens
        longer = await stream.results[1].context.extend(" and")
        assert longer.length == stream.results[1].context.length + len(engine.tokenizer.encode_more(" and"))
        with pytest.raises(EngineError, match="not open"):
            await anext(aiter(engine.stream_team(members, HOGWILD)))


# ---- limits


async def test_slots_that_cannot_hold_what_may_be_said_are_refused(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint) as engine:
        context = await engine.start("the cat")
        member = Member(context=context, name="Ann", max_tokens=9, sampling=Sampling(logit_bias={0: -100}))
        with pytest.raises(ContextLengthError, match="member 0 'Ann' may write 9 tokens, but its slot has 8 positions"):
            await engine.team([member], Teamwork(layout="tokenwise", slot=8))
        with pytest.raises(ContextLengthError, match=r"3 slots of 200 positions end at \d+, beyond the window of 512"):
            await engine.team([member] * 3, Teamwork(layout="tokenwise", slot=200))
        growing = Teamwork(layout="tokenwise", slot=10, step_end="a", step_header="<{name}>", check="again")
        bias = dict.fromkeys(engine.tokenizer.encode_more("a"), 100.0)
        talker = replace(member, name="", max_tokens=7, sampling=Sampling(logit_bias=bias))
        with pytest.raises(ContextLengthError, match="member 0 '' of a team has outgrown its slot of 10 positions"):
            await engine.team([talker], growing)
        assert settled(engine) <= 1
        assert (await engine.team([member], Teamwork(layout="tokenwise", slot=9)))[0].usage.generated == 9


async def test_the_window_ends_members_before_it_is_outgrown(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint) as engine:
        window = engine.capabilities.window
        short, long = await engine.start("the cat"), await engine.start("a" * (window - 30))
        never = Sampling(logit_bias={0: -100})
        members = [Member(context=context, sampling=never, max_tokens=40) for context in (short, long, long)]
        results = await engine.team(members, Teamwork(layout="contiguous"))
        assert [result.finish for result in results] == ["length", "window", "window"]
        assert all(result.usage.generated >= 8 for result in results)
        late = [*members[:2], replace(members[2], joins=30)]
        assert (await engine.team(late, HOGWILD))[2].finish == "window"
        engine.check_integrity()


async def test_a_team_too_large_for_the_pool_is_refused_as_a_whole(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint, kv_tokens=80, page_size=4) as engine:
        members = await crew(engine, 3, max_tokens=60)
        with pytest.raises(PoolError, match=r"a team of 3 members and .* more kv_memory"):
            await engine.team(members, HOGWILD)
        engine.check_integrity()
        assert [r.usage.generated for r in await engine.team(members[:1], Teamwork(layout="contiguous"))] == [60]


async def test_what_can_not_be_a_member_is_refused(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint) as engine, open_local(checkpoint) as other:
        context, foreign, released = await engine.start("a"), await other.start("a"), await engine.start("b")
        released.release()
        refused = [
            ([foreign], HOGWILD, ContextError, "context of another engine"),
            ([released], HOGWILD, ContextError, "was released"),
            ([context, released], HOGWILD, ContextError, "was released"),
            ([], HOGWILD, InputError, "no members"),
        ]
        for contexts, asked, error, message in refused:
            with pytest.raises(error, match=message):
                await engine.team([Member(context=c) for c in contexts], asked)
        with pytest.raises(InputError, match="has a grammar"):
            await engine.team([Member(context=context, grammar=Choice(("x",)))], HOGWILD)
        with pytest.raises(InputError, match="max_tokens -1"):
            await engine.team([Member(context=context), Member(context=context, max_tokens=-1)], HOGWILD)
        assert settled(engine) <= 1


async def test_members_may_follow_grammars_where_nothing_is_forced(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint) as engine:
        context = await engine.start("the cat")
        grammars = [Choice(("hello world", "hello people")), Choice(("sat", "said"))]
        members = [Member(context=context, grammar=grammar) for grammar in grammars]
        results = await engine.team(members, Teamwork(layout="contiguous"))
        assert [result.text in grammar.options for result, grammar in zip(results, grammars, strict=True)] == [True] * 2
        assert all(result.finish == "grammar" and result.grammar is not None for result in results)


# ---- going away


async def test_cancelling_a_team_frees_all_that_it_held(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint) as engine:
        members = [replace(m, sampling=endless(0)) for m in await crew(engine, max_tokens=LONG)]
        before = settled(engine)
        for steps in (1, 4, 20):
            async with anyio.create_task_group() as group:
                group.start_soon(engine.team, members, Teamwork(layout="combined", own_header="own"))
                await under_way(engine, engine.stats().steps + steps)
                group.cancel_scope.cancel()
            assert settled(engine) <= before + 3, "the contexts' last tokens have been encoded"
            assert engine.stats().running == engine.stats().waiting == 0
        async with engine.stream_team(members, HOGWILD) as stream:
            async for _ in stream:
                break
        assert settled(engine) <= before + 3
        del members, stream
        assert settled(engine) == 0


async def test_a_team_waits_while_another_encodes_what_it_goes_on_from(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint, step_tokens=4) as engine:
        context = await engine.start("the cat sat on the mat and said hello " * 3)
        found: list[object] = []

        async def work() -> None:
            found.append([r.tokens for r in await engine.team([Member(context=context, max_tokens=5)] * 2, HOGWILD)])

        async with anyio.create_task_group() as group:
            group.start_soon(partial(context.generate, max_tokens=5))
            group.start_soon(work)
            group.start_soon(work)
        assert found[0] == found[1]
        engine.check_integrity()


async def test_closing_the_engine_tells_the_team(checkpoint: Path, open_local: Open) -> None:
    engine = open_local(checkpoint)
    members = [replace(m, sampling=endless(0)) for m in await crew(engine, max_tokens=LONG)]

    async def wait() -> None:
        with pytest.raises(EngineClosedError):
            await engine.team(members, Teamwork(layout="contiguous"))

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await under_way(engine)
        await engine.aclose()
    with pytest.raises(EngineClosedError):
        await engine.team(members, HOGWILD)


# ---- edits of what a team has left


async def test_what_a_team_wrote_moves_but_is_never_encoded_again(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint) as engine:
        members = await crew(engine, 2)
        first, second = [result.context for result in await engine.team(members, HOGWILD)]
        for at in (0, first.length - 1):
            with pytest.raises(CapabilityError, match="tokens of a team can't be encoded again"):
                await first.prune(at, at + 1, mode="exact")
        with pytest.raises(CapabilityError, match="tokens of a team can't be encoded again"):
            await members[0].context.splice([second], at="sequence", mode="exact")
        shorter = await first.prune(1, 3, mode="shift")
        assert shorter.tokens == first.tokens[:1] + first.tokens[3:]
        joined = await members[0].context.splice([second], at="sequence", mode="shift")
        assert joined.text.endswith(second.text[len(members[0].context.text) :])
        assert (await shorter.generate(max_tokens=3)).usage.generated == 3
        before = await first.prune(members[0].context.length, first.length, mode="exact")
        assert before.tokens == members[0].context.tokens
        engine.check_integrity()


async def test_a_team_of_one_can_be_edited_exactly(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint) as engine:
        context = await engine.start("the cat sat on the mat")
        (made,) = await engine.team([Member(context=context, max_tokens=12)], Teamwork(layout="combined", step_end="a"))
        alone = await context.generate(max_tokens=12)
        pruned = [await part.context.prune(2, 5, mode="exact") for part in (made, alone)]
        after = [await part.generate(max_tokens=6) for part in pruned]
        assert after[0].tokens == after[1].tokens

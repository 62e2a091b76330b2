"""Joins: how many must succeed, what failures are, and that losers are cancelled at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import plait
from plait.engines.scripted import Reply, ScriptedEngine
from plait.errors import GraphError, JoinError, NodeError, TransientEngineError
from plait.orchestrator import Builder, Event, Failure, NodeCancelled, NodeFinished, NodeStarted, Settled

pytestmark = pytest.mark.anyio
NEVER_ENDS = 3600.0


class Work:
    """A tool that fails on negative numbers, hangs on those from 1,000 on, and counts what it began and has open."""

    def __init__(self, cap: int = 1000) -> None:
        self.began = self.open = 0

        @plait.tool(name="work", cap=cap)
        async def work(number: int) -> int:
            self.began += 1
            self.open += 1
            try:
                await anyio.sleep(NEVER_ENDS if number >= 1000 else 0)
            finally:
                self.open -= 1
            if number < 0:
                raise ValueError(f"negative {number}")
            return number * 2

        self.tool = work


def mapped(work: Work, join: Any) -> plait.Graph[Any]:
    return plait.graph(name="mapped")(lambda g, numbers: g.map(work.tool, numbers, join=join, name="all"))


# ---- maps


async def test_settled_gives_999_results_and_the_failure_as_a_value() -> None:
    numbers = [-1 if number == 500 else number for number in range(1000)]
    ended = await mapped(Work(cap=16), plait.settled).run(numbers)
    assert [one.value for one in ended if one.ok] == [2 * number for number in numbers if number >= 0]
    assert ended[500] == Settled(
        failure=Failure("all/501-work", "ToolError", "tool 'work' failed: ValueError: negative -1")
    )


async def test_all_cancels_the_rest_within_a_turn_and_names_the_item() -> None:
    work = Work()
    with anyio.fail_after(5), pytest.raises(NodeError, match=r"tool 'work' failed: ValueError: negative") as caught:
        await mapped(work, plait.all_of).run([-1 if number == 500 else 1000 for number in range(1000)])
    assert caught.value.path == "all/501-work"
    assert work.open == 0


async def test_the_rest_is_cancelled_in_the_turn_after_the_failure() -> None:
    """A turn is one pass of the event loop over all tasks that can run."""
    turn = failed = 0
    cancelled: list[int] = []

    async def count_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await anyio.lowlevel.checkpoint()

    async def work(number: int) -> int:
        nonlocal failed
        try:
            while number != 500 or turn < 20:  # when all have begun
                await (anyio.lowlevel.checkpoint() if number == 500 else anyio.sleep(NEVER_ENDS))
        except BaseException:
            cancelled.append(turn)
            raise
        failed = turn
        raise ValueError("stop")

    graph = plait.graph(lambda g, numbers: g.map(work, numbers, name="all"))
    async with anyio.create_task_group() as group:
        group.start_soon(count_turns)
        with anyio.fail_after(30), pytest.raises(NodeError, match="node 'all/501-work' failed: stop"):
            await graph.run(list(range(1000)))
        group.cancel_scope.cancel()
    assert len(cancelled) == 999
    assert max(cancelled) - failed <= 2  # one pass; trio shuffles each, so the counter may come after one task in it


async def test_any_takes_the_first_and_cancels_the_others() -> None:
    work = Work()
    with anyio.fail_after(5):
        assert await mapped(work, plait.any_of).run([1000, -1, 7, 1000]) == 14
    assert (work.began, work.open) == (4, 0)


async def test_k_of_keeps_the_order_and_cancels_the_slow() -> None:
    work = Work()
    with anyio.fail_after(5):
        assert await mapped(work, plait.k_of(2)).run([1000, 8, -1, 7]) == [16, 14]
    assert work.open == 0


async def test_too_many_failures_end_a_join_at_once() -> None:
    work = Work()
    message = "2 of 4 failed, too many for k_of\\(3\\); the first said: tool 'work' failed: ValueError: negative -[12]"
    with anyio.fail_after(5), pytest.raises(NodeError, match=message) as caught:
        await mapped(work, plait.k_of(3)).run([1000, -1, -2, 1000])
    assert isinstance(caught.value.__cause__, JoinError)
    assert work.open == 0
    with pytest.raises(NodeError, match=r"k_of\(3\) of 2 can never be; give it 3 or more"):
        await mapped(work, plait.k_of(3)).run([1, 2])
    assert await mapped(work, plait.settled).run([]) == []


# ---- samples


async def test_samples_are_joined() -> None:
    replies = {0: Reply("a", latency=NEVER_ENDS), 1: Reply("", error=TransientEngineError("busy")), 2: "b", 3: "c"}

    async def run(join: Any, samples: int = 4) -> tuple[Any, ScriptedEngine]:
        graph = plait.graph(lambda g: g.think("Go.", samples=samples, join=join))
        engine = ScriptedEngine(lambda prompt, index: replies[index % 4])
        with anyio.fail_after(5):
            return await graph.run(engine=engine), engine

    value, engine = await run(plait.any_of)
    assert value in "bc"
    assert (engine.active, engine.held) == (0, 0)
    assert sorted((await run(plait.k_of(2)))[0]) == ["b", "c"]
    replies[0] = "a"
    ended, engine = await run(plait.settled)
    assert sorted(one.value for one in ended if one.ok) == ["a", "b", "c"]
    ((number, failure),) = ((index + 1, one.failure) for index, one in enumerate(ended) if not one.ok)
    assert failure == Failure(f"think/{number}-sample-{number}", "TransientEngineError", "busy")
    assert engine.held == 0


async def test_the_first_sample_to_end_can_be_continued() -> None:
    @plait.graph
    def build(g: Builder) -> str:
        first = g.think("Go.", samples=2, join=plait.any_of)
        return g.think("Last.", after=first)

    engine = ScriptedEngine(lambda prompt, index: Reply(f"r{index}", latency=NEVER_ENDS if index == 0 else 0.0))
    with anyio.fail_after(5):
        assert await build.run(engine=engine) == "r2"
    assert engine.prompts[-1] == "<|user|>Go.\n<|assistant|>r1<|user|>Last.\n<|assistant|>"
    assert engine.held == 0


# ---- gathers


async def hang(x: int) -> int:
    await anyio.sleep(NEVER_ENDS)
    return x


async def double(x: int) -> int:
    await anyio.lowlevel.checkpoint()
    return 2 * x


def fail(x: int) -> int:
    raise ValueError(f"no {x}")


async def test_a_gather_cancels_what_only_losers_need() -> None:
    ran: list[str] = []

    @plait.graph
    def build(g: Builder, x: int) -> int:
        shared = g.function(double, x=x, name="shared")
        slow = g.function(hang, x=shared, name="slow")
        after_slow = g.function(lambda x: (ran.append("after"), x)[1], x=slow, name="after")
        fast = g.function(double, x=shared, name="fast")
        return g.gather([after_slow, fast], join=plait.any_of, name="first")

    events: list[Event] = []
    with anyio.fail_after(5):
        async with build.stream(3) as run:
            run.events.listen(events.append)
            async for _ in run:
                pass
    assert run.value == 12
    run.check_integrity()
    assert ran == []
    assert [event.path for event in events if isinstance(event, NodeCancelled)] == ["slow"]


async def test_failures_in_a_gather_are_values_and_spare_the_run() -> None:
    @plait.graph
    def build(g: Builder, x: int) -> list[Settled[int]]:
        bad = g.function(double, x=g.function(fail, x=x, name="bad"), name="after_bad")
        return g.gather([bad, g.function(double, x=x), x], join=plait.settled)

    assert await build.run(4) == [Settled(failure=Failure("bad", "ValueError", "no 4")), Settled(8), Settled(4)]


async def test_a_gather_of_all_fails_with_its_first_failure() -> None:
    @plait.graph
    def build(g: Builder, x: int) -> list[int]:
        return g.gather([g.function(hang, x=x), g.function(fail, x=x, name="bad")])

    with anyio.fail_after(5), pytest.raises(NodeError, match="node 'bad' failed: no 1"):
        await build.run(1)


async def test_what_others_need_too_is_not_cancelled_with_a_loser() -> None:
    @plait.graph
    def build(g: Builder, x: int) -> tuple[int, int]:
        slow = g.function(double, x=g.function(double, x=x, name="one"), name="two")
        first = g.gather([slow, x], join=plait.any_of)
        return g.function(lambda a, b: (a, b), a=first, b=slow)

    assert await build.run(1) == (1, 4)


async def test_gathers_stand_in_gathers() -> None:
    @plait.graph
    def build(g: Builder, x: int) -> int:
        inner = g.gather([g.function(hang, x=x), g.function(fail, x=x)], name="inner")
        outer = g.gather([g.function(total, numbers=inner), g.function(double, x=x)], join=plait.k_of(1), name="outer")
        return g.function(total, numbers=outer)

    with anyio.fail_after(5):
        assert await build.run(5) == 10


def total(numbers: list[int]) -> int:
    return sum(numbers)


async def test_a_loser_gives_its_contexts_back() -> None:
    @plait.graph
    def build(g: Builder) -> str:
        plan = g.think("Plan.")
        slow = g.think("Slow.", after=g.think("Middle.", after=plan))
        fast = g.think("Fast.", after=plan)
        return g.gather([slow, fast], join=plait.any_of)

    engine = ScriptedEngine({"Plan": "P", "Middle": "M", "Slow": Reply("S", latency=NEVER_ENDS), "Fast": "F"})
    with anyio.fail_after(5):
        assert await build.run(engine=engine) == "F"
    assert (engine.active, engine.held) == (0, 0)


@given(
    kinds=st.lists(st.sampled_from(["quick", "slow", "fail", "hang"]), min_size=1, max_size=6),
    join=st.sampled_from([plait.all_of, plait.any_of, plait.settled, plait.k_of(1), plait.k_of(3)]),
)
@settings(max_examples=60, deadline=None)
def test_a_gather_ends_as_its_join_says(kinds: list[str], join: Any) -> None:
    functions: dict[str, Callable[..., Any]] = {"quick": lambda x: x, "slow": double, "fail": fail, "hang": hang}
    successes = sum(kind in ("quick", "slow") for kind in kinds)
    failures = kinds.count("fail")

    def write(g: Builder, x: int) -> Any:
        return g.gather([g.function(functions[kind], x=x) for kind in kinds], join=join)

    try:
        graph = plait.graph(name="random")(write)
    except GraphError:
        assert join.needs(len(kinds)) > len(kinds)
        return
    ends = join.done(successes, failures, len(kinds))
    lost = not join.bears(failures, len(kinds))
    events: list[Event] = []

    async def main() -> str:
        with anyio.move_on_after(5 if ends or lost else 0.01):
            try:
                await graph.run(1, listeners=[events.append])
            except NodeError:
                return "lost"
            return "done"
        return "waits"

    ended = anyio.run(main)
    assert ended in ({"done"} if ends and not lost else {"lost", "done"} if ends else {"lost"} if lost else {"waits"})
    began = [event.path for event in events if isinstance(event, NodeStarted)]
    assert len(began) == len(set(began))
    assert {event.path for event in events if isinstance(event, NodeFinished)} <= set(began)

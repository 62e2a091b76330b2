"""Drivers: nodes grown while a run goes on, with the limits, events and usage of written ones."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import pytest

import plait
from plait.engines import Capabilities, JsonSchema, Sampling
from plait.engines.scripted import Reply, ScriptedEngine
from plait.errors import FormatError, NodeError, ToolError
from plait.orchestrator import (
    Builder,
    Event,
    Graph,
    NodeCancelled,
    NodeFailed,
    NodeFinished,
    NodeNote,
    NodeStarted,
    NodeText,
    Outcome,
    Scope,
)
from plait.orchestrator.wording import derive_seed, slug
from plait.usage import Usage

pytestmark = pytest.mark.anyio
NEVER_ENDS = 3600.0


@plait.tool(cap=4, cost=0.5)
async def population(country: str) -> int:
    """Number of people."""
    await anyio.sleep({"Chile": 0.01}.get(country, 0.0))
    return {"Peru": 34, "Chile": 20}[country]


def driven(driver: Any, needs: tuple[str, ...] = ()) -> Graph[Any]:
    @plait.graph(name="driven")
    def build(g: Builder, question: str) -> Any:
        return g.drive(driver, question=question, name="d", needs=needs)

    return build


def counted(usage: Usage) -> dict[str, float]:
    """Usage without what the clock on the wall says."""
    return {name: amount for name, amount in usage.as_dict().items() if amount and name != "seconds"}


async def events_of(graph: Graph[Any], question: str, engine: ScriptedEngine, **options: Any) -> list[Event]:
    events: list[Event] = []
    await graph.run(question, engine=engine, listeners=[events.append], **options)
    return events


# ---- growing


async def test_a_tree_grows_and_its_events_are_nested() -> None:
    async def drive(scope: Scope, question: str) -> str:
        context = await scope.start(question)
        with scope.grow("task", "Find out!") as task:
            first = await task.call(population, {"country": "Peru"})
            inner = task.grow("task", "inner one")
            inner.finish("by hand")
            inner.finish("again")
            task.emit("found", first)
            task.finish(first)
        left_open = scope.grow("task", "left open")
        left_open.grow("task", "deep")
        written = await scope.generate(context, title="step 1")
        return written.text

    engine = ScriptedEngine(["the end"])
    events = await events_of(driven(drive), "q", engine)
    shown = [
        (type(event).__name__, getattr(event, "path", ""), getattr(event, "summary", getattr(event, "title", "")))
        for event in events
    ]
    assert shown == [
        ("RunStarted", "", ""),
        ("NodeStarted", "d", "d"),
        ("NodeStarted", "d/1-Find-out", "Find out!"),
        ("NodeStarted", "d/1-Find-out/1-population", "population(country='Peru')"),
        ("NodeFinished", "d/1-Find-out/1-population", "34"),
        ("NodeStarted", "d/1-Find-out/2-inner-one", "inner one"),
        ("NodeFinished", "d/1-Find-out/2-inner-one", "by hand"),
        ("NodeNote", "d/1-Find-out", ""),
        ("NodeFinished", "d/1-Find-out", "34"),
        ("NodeStarted", "d/2-left-open", "left open"),
        ("NodeStarted", "d/2-left-open/1-deep", "deep"),
        ("NodeStarted", "d/3-step-1", "step 1"),
        ("NodeText", "d/3-step-1", ""),
        ("NodeText", "d/3-step-1", ""),
        ("NodeFinished", "d/3-step-1", "the end"),
        ("NodeFinished", "d/2-left-open/1-deep", ""),
        ("NodeFinished", "d/2-left-open", ""),
        ("NodeFinished", "d", "the end"),
        ("RunFinished", "", "the end"),
    ]
    parents = {event.path: event.parent for event in events if isinstance(event, NodeStarted)}
    assert all(path.rpartition("/")[0] == parent for path, parent in parents.items())
    assert next(event.data for event in events if isinstance(event, NodeNote)) == 34


async def test_failures_of_grown_nodes_are_named_by_path() -> None:
    async def drive(scope: Scope, question: str) -> str:
        scope.grow("task", "open beside")
        with scope.grow("task", "look"):
            await scope.call(population, {"country": "Atlantis"})
        return ""

    events: list[Event] = []
    with pytest.raises(NodeError, match=r"node 'd/3-population' failed: tool 'population' failed: KeyError") as caught:
        await driven(drive).run("q", engine=ScriptedEngine([]), listeners=[events.append])
    assert caught.value.path == "d/3-population"
    ends = [(type(event), event.path) for event in events if isinstance(event, NodeFailed | NodeCancelled)]
    assert ends == [
        (NodeFailed, "d/3-population"),
        (NodeFailed, "d/2-look"),
        (NodeCancelled, "d/1-open-beside"),
        (NodeFailed, "d"),
    ]


async def test_a_caught_failure_is_no_failure() -> None:
    async def drive(scope: Scope, question: str) -> str:
        try:
            return str(await scope.call(population, {"country": "Atlantis"}))
        except ToolError:
            return "unknown"

    assert await driven(drive).run("q", engine=ScriptedEngine([])) == "unknown"


async def test_settle_pairs_outcomes_with_calls_and_failures_are_values() -> None:
    async def drive(scope: Scope, question: str) -> list[Outcome]:
        assert await scope.settle([]) == []
        return await scope.settle([(population, {"country": name}) for name in ("Chile", "Atlantis", "Peru")])

    chile, atlantis, peru = await driven(drive).run("q", engine=ScriptedEngine([]))
    assert [chile.value, peru.value] == [20, 34]
    assert [chile.text, peru.text] == ["20", "34"]
    assert isinstance(atlantis.error, ToolError)
    assert atlantis.text == "error: tool 'population' failed: KeyError: 'Atlantis'"
    assert chile.seconds >= 0.01


async def test_eight_hundred_calls_in_one_turn_stay_under_the_cap() -> None:
    now = peak = 0

    @plait.tool(cap=16)
    async def count(number: int) -> int:
        nonlocal now, peak
        now += 1
        peak = max(peak, now)
        await anyio.lowlevel.checkpoint()
        now -= 1
        return number

    async def drive(scope: Scope, question: str) -> list[int]:
        outcomes = await scope.settle([(count, {"number": number}) for number in range(800)])
        return [outcome.value for outcome in outcomes]

    assert await driven(drive).run("q", engine=ScriptedEngine([])) == list(range(800))
    assert peak == 16


async def test_gather_runs_children_side_by_side_in_order() -> None:
    both = [anyio.Event(), anyio.Event()]

    async def child(scope: Scope, index: int) -> str:
        both[index].set()
        await both[1 - index].wait()
        return f"{scope.path}:{scope.kind}"

    async def drive(scope: Scope, question: str) -> list[str]:
        assert await scope.gather([]) == []
        return await scope.gather([(f"child {index}", partial(child, index=index)) for index in range(2)])

    with anyio.fail_after(5):
        found = await driven(drive).run("q", engine=ScriptedEngine([]))
    assert found == ["d/1-child-0:thread", "d/2-child-1:thread"]


async def test_a_failing_child_cancels_its_siblings() -> None:
    async def hang(scope: Scope) -> None:
        await scope.generate(await scope.start("hang"))

    async def fail(scope: Scope) -> None:
        await anyio.sleep(0.01)
        raise FormatError("nonsense")

    async def drive(scope: Scope, question: str) -> str:
        await scope.gather([("hangs", hang), ("fails", fail)])
        return ""

    engine = ScriptedEngine([Reply("x", latency=NEVER_ENDS)])
    events: list[Event] = []
    with anyio.fail_after(5), pytest.raises(NodeError, match="node 'd/2-fails' failed: nonsense"):
        await driven(drive).run("q", engine=engine, listeners=[events.append])
    assert (engine.active, engine.held) == (0, 0)
    ends = {event.path: type(event) for event in events if isinstance(event, NodeFailed | NodeCancelled)}
    assert ends == {"d/1-hangs": NodeCancelled, "d/2-fails": NodeFailed, "d": NodeFailed}


async def test_children_that_never_started_are_cancelled_too() -> None:
    async def fail(scope: Scope) -> None:
        raise FormatError("nonsense")

    async def never(scope: Scope) -> None:
        raise AssertionError

    async def drive(scope: Scope, question: str) -> str:
        try:
            await scope.gather([("first", fail), ("second", never)])
        except FormatError:
            return "caught"
        return ""

    async with driven(drive).stream("q", engine=ScriptedEngine([])) as run:
        ends = {event.path: type(event) async for event in run if isinstance(event, NodeFinished | NodeCancelled)}
    assert run.value == "caught"
    assert ends == {"d/2-second": NodeCancelled, "d": NodeFinished}
    run.check_integrity()


# ---- contexts


async def test_text_is_reported_as_it_comes_and_results_are_inserted() -> None:
    async def drive(scope: Scope, question: str) -> str:
        context = await scope.start(question)
        said = []
        async with scope.stream(context, stop=["= "]) as stream:
            async for chunk in stream:
                said.append(chunk.text)
        assert "".join(said) == stream.result.text == "1 + 1 = "
        context = await scope.extend(stream.result.context, "2")
        return (await scope.generate(context)).context.text

    engine = ScriptedEngine(["1 + 1 = , so two"])
    events = await events_of(driven(drive), "Q: ", engine)
    texts = [event for event in events if isinstance(event, NodeText)]
    assert "".join(event.text for event in texts) == "1 + 1 = , so two"
    assert {event.path for event in texts} == {"d"}
    assert engine.held == 0


async def test_prune_splice_and_score_are_counted() -> None:
    async def drive(scope: Scope, question: str) -> list[float]:
        context = await scope.start(question)
        forks = [(await scope.generate(context)).context for _ in range(2)]
        joined = await scope.splice(context, forks, at="parallel", mode="exact")
        pruned = await scope.prune(joined, 0, 1, mode="shift")
        assert pruned.text == " two one one"
        return await scope.score(pruned, ["a", "bb"])

    engine = ScriptedEngine([" one", " one"], score=lambda text, more: -len(more))
    async with driven(drive, needs=("score", "prune:shift", "splice:exact")).stream("one two", engine=engine) as run:
        events = [event async for event in run]
    assert events
    assert run.value == [-1, -2]
    assert counted(run.usage) == {
        "prompt": 2,
        "prefilled": 2,
        "generated": 2,
        "pruned": 1,
        "live": 3,
        "peak_live": 4,
        "steps": 2,
        "critical_path": 4,
    }


async def test_supported_says_what_the_engine_can_be_held_to() -> None:
    schema = JsonSchema({"type": "integer"})

    async def drive(scope: Scope, question: str) -> bool:
        return scope.supported(schema) is schema

    assert await driven(drive).run("q", engine=ScriptedEngine([]))
    assert not await driven(drive).run("q", engine=ScriptedEngine([], capabilities=Capabilities()))


async def test_a_grammar_is_held_over_pieces_only_where_one_can_be_gone_on_with() -> None:
    async def drive(scope: Scope, question: str) -> list[bool]:
        schema = JsonSchema({"type": "integer"})
        return [scope.supported(schema, in_pieces=pieces) is schema for pieces in (False, True)]

    assert await driven(drive).run("q", engine=ScriptedEngine([])) == [True, True]
    whole = Capabilities(grammars=frozenset({"JsonSchema"}))
    assert await driven(drive).run("q", engine=ScriptedEngine([], capabilities=whole)) == [True, False]


async def test_a_driver_without_an_engine_is_told_so() -> None:
    async def drive(scope: Scope, question: str) -> str:
        await scope.start(question)
        return ""

    with pytest.raises(NodeError, match="node 'd' asks for an engine, but the run has none"):
        await driven(drive).run("q", engine=None)


# ---- usage


async def test_usage_adds_up_over_a_tree_and_the_critical_path_is_the_longest_chain() -> None:
    texts = {"root": "a b", "left": "c d e", "right": "f g h i j", "end": "k"}

    async def child(scope: Scope, name: str) -> Usage:
        await scope.generate(await scope.start(name))
        await scope.call(population, {"country": "Peru"})
        return scope.usage

    async def drive(scope: Scope, question: str) -> list[Usage]:
        await scope.generate(await scope.start("root"))
        children = await scope.gather([("left", partial(child, name="left")), ("right", partial(child, name="right"))])
        await scope.generate(await scope.start("end"))
        return [*children, scope.usage]

    async with driven(drive).stream("q", engine=ScriptedEngine(texts)) as run:
        events = [event async for event in run]
    left, right, whole = run.value
    assert (left.generated, left.steps, left.calls, left.cost) == (3, 3, 1, 0.5)
    assert (right.generated, right.steps, right.critical_path) == (5, 5, 6)
    assert (whole.prompt, whole.generated, whole.calls, whole.cost) == (4, 11, 2, 1.0)
    assert whole.steps == 2 + max(left.steps, right.steps) + 1
    assert whole.critical_path == 3 + max(left.critical_path, right.critical_path) + 2
    assert whole.live + whole.pruned == whole.prompt + whole.generated
    assert whole.parallelism == pytest.approx(11 / 8)
    assert counted(run.usage) == counted(whole)
    ends = {event.path: event.usage for event in events if isinstance(event, NodeFinished)}
    assert counted(ends["d/1-left"]) == counted(left)
    assert counted(ends["d/2-right"]) == counted(right)
    assert run.usage.seconds >= ends["d"].seconds >= ends["d/2-right"].seconds


async def test_children_one_after_the_other_are_one_chain() -> None:
    async def drive(scope: Scope, question: str) -> None:
        for _ in range(3):
            with scope.grow("attempt", "again") as attempt:
                await attempt.generate(await attempt.start("q"))

    async with driven(drive).stream("q", engine=ScriptedEngine(["a b"] * 3)) as run:
        async for _ in run:
            pass
    assert (run.usage.generated, run.usage.steps) == (6, 6)


async def test_a_failed_attempt_is_part_of_the_chain_that_waited_for_it() -> None:
    async def drive(scope: Scope, question: str) -> None:
        for attempt in (1, 2):
            try:
                with scope.grow("attempt", "again") as node:
                    await node.generate(await node.start("q"))
                    if attempt == 1:
                        raise ToolError("no good")
            except ToolError:
                pass

    async with driven(drive).stream("q", engine=ScriptedEngine(["a b"] * 2)) as run:
        async for _ in run:
            pass
    assert (run.usage.generated, run.usage.steps) == (4, 4)


async def test_the_critical_path_of_a_written_graph_follows_its_edges() -> None:
    @plait.graph
    def build(g: Builder, x: str) -> str:
        a = g.think("A {x}", x=x)
        b = g.think("B", after=a)
        c = g.think("C {x}", x=x)
        return g.function(lambda b, c: b + c, b=b, c=c)

    engine = ScriptedEngine({"A": "1 2", "B": "3 4 5", "C": "6 7 8 9"})
    async with build.stream("x", engine=engine) as run:
        async for _ in run:
            pass
    assert (run.usage.generated, run.usage.steps) == (9, 5)


async def test_what_was_said_before_a_stream_was_left_is_charged() -> None:
    async def drive(scope: Scope, question: str) -> Usage:
        async with scope.stream(await scope.start("q")) as stream:
            async for chunk in stream:
                if chunk.text == " b":
                    break
        return scope.usage

    usage = await driven(drive).run("q", engine=ScriptedEngine(["a b c d"]))
    assert (usage.generated, usage.steps) == (2, 2)


# ---- seeds


async def test_seeds_depend_on_run_path_and_sample_only() -> None:
    async def child(scope: Scope) -> int:
        await scope.generate(await scope.start("q"), sampling=Sampling(temperature=1.0))
        return scope.seed

    async def drive(scope: Scope, question: str) -> list[int]:
        return await scope.gather([(f"child {index}", child) for index in range(4)])

    def script(prompt: str, index: int) -> Reply:
        return Reply("x", latency=0.001 * (index % 3))

    runs = []
    for seed in (1, 1, 2):
        engine = ScriptedEngine(script)
        seeds = await driven(drive).run("q", engine=engine, seed=seed)
        runs.append((seeds, {asked.sampling.seed for asked in engine.asked}))
    assert runs[0] == runs[1]
    assert len(set(runs[0][0])) == len(runs[0][1]) == 4
    assert not set(runs[0][0]) & set(runs[2][0])


def test_derived_seeds_never_change() -> None:
    assert derive_seed(0, "a/1-b", 2) == 7173431011081389728
    assert derive_seed(0, "a", 1, 2) != derive_seed(0, "a", 12)


@pytest.mark.parametrize(
    ("title", "expected"),
    [("Find out!", "Find-out"), ("", "node"), ("…", "node"), ("a/b c", "a-b-c"), ("x" * 99, "x" * 24)],
)
def test_titles_become_parts_of_paths(title: str, expected: str) -> None:
    assert slug(title) == expected

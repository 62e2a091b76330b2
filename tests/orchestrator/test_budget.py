"""Budgets: reserved before the spend, settled after it, and never overspent but by prompts under way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import plait
from plait.engines.scripted import Reply, ScriptedEngine
from plait.errors import BudgetError, FormatError, InputError, NodeError, ToolError
from plait.orchestrator import Budget, BudgetSpent, Builder, Graph, Price, Scope
from plait.tools import Retry

pytestmark = pytest.mark.anyio
TOKENS_OF_PROMPT = 11
"""What the scripted engine makes of the message "go": its marks count."""


@plait.tool(cap=4, cost=0.25)
async def step(number: int) -> int:
    """One step."""
    await anyio.lowlevel.checkpoint()
    if number < 0:
        raise ValueError("negative")
    return number + 1


def thinks(count: int, **options: Any) -> Graph[Any]:
    @plait.graph
    def build(g: Builder) -> Any:
        return [g.think("go", name=f"t{index}", **options) for index in range(count)]

    return build


async def run(graph: Graph[Any], engine: ScriptedEngine | None, budget: Budget, *inputs: Any) -> Any:
    async with graph.stream(*inputs, engine=engine, budget=budget) as run:
        events = [event async for event in run]
    return run, events


async def test_a_generation_waits_for_what_others_give_back() -> None:
    """Ten thoughts reserve 100 tokens each of 400, and use 3: all of them run."""
    engine = ScriptedEngine(lambda prompt, index: Reply("a b c", latency=0.001))
    done, _ = await run(thinks(10, max_tokens=100), engine, Budget(tokens=400))
    assert len(done.value) == 10
    assert 1 < engine.peak_active <= 4


async def test_a_generation_is_held_to_what_is_left() -> None:
    engine = ScriptedEngine(["a b c d e"])
    with pytest.raises(NodeError, match="node 't0' failed: a budget has cut a generation at 3 of 512 tokens") as caught:
        await thinks(1).run(engine=engine, budget=Budget(tokens=TOKENS_OF_PROMPT + 3))
    assert isinstance(caught.value.__cause__, BudgetError)
    assert engine.asked[0].max_tokens == 3
    assert await thinks(1).run(engine=ScriptedEngine(["a b"]), budget=Budget(tokens=TOKENS_OF_PROMPT + 3)) == ["a b"]


async def test_an_exhausted_budget_names_its_scope_and_limit() -> None:
    graph = plait.graph(name="g")(lambda g, numbers: g.map(step, numbers, name="all"))
    with pytest.raises(NodeError, match=r"the budget of the run is spent: calls=3; raise it"):
        await graph.run([1, 2, 3, 4], engine=None, budget=Budget(calls=3))
    with pytest.raises(NodeError, match=r"the budget of node 'all' is spent: calls=3"):
        await graph.run([1, 2, 3, 4], engine=None, budget=Budget(calls=9, nodes={"all": Budget(calls=3)}))
    with pytest.raises(NodeError, match=r"the budget of tool 'step' is spent: cost=0.5"):
        await graph.run([1, 2, 3, 4], engine=None, budget=Budget(tools={"step": Budget(cost=0.5)}))
    assert await graph.run([1, 2, 3], engine=None, budget=Budget(calls=3)) == [2, 3, 4]


async def test_money_is_counted_by_the_engines_price() -> None:
    price = Price(prompt=1_000_000, generated=2_000_000)
    done, _ = await run(thinks(1), ScriptedEngine(["a b"]), Budget(prices={"scripted": price}))
    assert done.usage.cost == TOKENS_OF_PROMPT + 2 * 2
    engine = ScriptedEngine(["a b c d"])
    with pytest.raises(NodeError, match="cut a generation at 3 of 512"):
        await thinks(1).run(engine=engine, budget=Budget(cost=TOKENS_OF_PROMPT + 6, prices={"scripted": price}))


async def test_failed_calls_and_retries_are_charged() -> None:
    async def drive(scope: Scope) -> str:
        for _ in range(5):
            with pytest.raises(ToolError):
                await scope.call(step, {"number": -1})
        return ""

    graph = plait.graph(lambda g: g.drive(drive, name="d"))
    with pytest.raises(NodeError, match="calls=4"):
        await graph.run(engine=None, budget=Budget(calls=4))
    engine = ScriptedEngine(["no", "no", "7"])
    retried = thinks(1, returns=int, retry=Retry(on=(FormatError,), attempts=3, wait=0.0))
    done, _ = await run(retried, engine, Budget(tokens=100))
    assert done.usage.generated == 3


async def test_a_driver_ends_with_the_best_answer_that_it_offered() -> None:
    async def climb(scope: Scope) -> int:
        best = 0
        while True:
            best = await scope.call(step, {"number": best})
            scope.offer(best)

    @plait.graph
    def build(g: Builder) -> str:
        return g.function(lambda n: f"reached {n}", n=g.drive(climb, name="climb"))

    done, events = await run(build, None, Budget(calls=5))
    assert done.value == "reached 5"
    assert done.exhausted == ("the budget of the run is spent: calls=5; raise it",)
    (spent,) = [event for event in events if isinstance(event, BudgetSpent)]
    assert (spent.path, spent.answered) == ("climb", True)
    assert done.usage.calls == 5
    inner, _ = await run(build, None, Budget(nodes={"climb": Budget(calls=2)}))
    assert inner.value == "reached 2"


async def test_seconds_end_a_driver_or_a_run() -> None:
    async def wait(scope: Scope) -> str:
        scope.offer("something")
        await anyio.sleep(3600)
        return ""

    graph = plait.graph(name="g")(lambda g: g.drive(wait, name="w"))
    done, _ = await run(graph, None, Budget(nodes={"w": Budget(seconds=0.01)}))
    assert done.value == "something"
    with pytest.raises(NodeError, match=r"the budget of the run is spent: seconds=0\.01"):
        await graph.run(engine=None, budget=Budget(seconds=0.01))


async def test_a_run_that_spent_its_budget_is_resumed_with_more(tmp_path: Any) -> None:
    made: list[int] = []

    @plait.tool
    async def make(number: int) -> int:
        made.append(number)
        return number

    async def climb(scope: Scope) -> int:
        for number in range(6):
            scope.offer(await scope.call(make, {"number": number}))
        return 100

    @plait.graph
    def build(g: Builder) -> int:
        return g.function(lambda n: n + 1, n=g.drive(climb, name="climb"), name="plus")

    with plait.Journal(tmp_path / "j.db") as journal:
        assert await build.run(engine=None, journal=journal, budget=Budget(calls=3)) == 3
        run = journal.runs()[0].run
        assert await build.run(engine=None, journal=journal.resume(run), budget=Budget(calls=4)) == 4
        assert await build.run(engine=None, journal=journal.resume(run)) == 101
    assert made == [0, 1, 2, 3, 4, 5]


async def test_a_budget_that_would_hold_nothing_is_refused() -> None:
    @plait.graph
    def build(g: Builder) -> str:
        return g.think("Hello", name="greeting")

    for budget, message in (
        (Budget(nodes={"greting": Budget(tokens=1)}), "a budget names node 'greting', which graph 'build' has not"),
        (Budget(cost=1, prices={"gpt": Price(1.0)}), "are for gpt, not for the run's engine 'scripted'"),
    ):
        engine = ScriptedEngine(["Hi"])
        with pytest.raises(InputError, match=message):
            await build.run(engine=engine, budget=budget)
        assert engine.asked == []
    with pytest.raises(InputError, match="the budget of 'greeting' holds others or prices"):
        Budget(nodes={"greeting": Budget(tools={"look": Budget(calls=1)})})


def test_a_budget_below_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="budget calls=-1 can't be kept"):
        Budget(calls=-1)


# ---- random graphs


@dataclass(frozen=True)
class Spec:
    kind: str
    size: int
    waits: int


specs = st.lists(
    st.builds(Spec, st.sampled_from(["think", "call", "map", "samples"]), st.integers(1, 6), st.integers(0, 2)),
    min_size=1,
    max_size=8,
)
limits = st.one_of(st.just(float("inf")), st.integers(0, 40).map(float))
budgets = st.builds(lambda tokens, calls, cost: Budget(tokens=tokens, calls=calls, cost=cost), limits, limits, limits)


def random_graph(nodes: list[Spec]) -> Graph[Any]:
    def write(g: Builder) -> Any:
        refs: list[Any] = []
        for index, spec in enumerate(nodes):
            name = f"n{index}"
            match spec.kind:
                case "think":
                    refs.append(g.think("go", name=name, max_tokens=4 * spec.size))
                case "samples":
                    refs.append(g.think("go", name=name, max_tokens=spec.size, samples=3))
                case "call":
                    refs.append(g.call(step, number=spec.size, name=name))
                case _:
                    refs.append(g.map(step, list(range(spec.size)), name=name))
        return refs

    return plait.graph(name="random")(write)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=60, deadline=None)
@given(nodes=specs, whole=budgets, inner=budgets, tool=budgets, words=st.integers(0, 9))
def test_no_budget_is_ever_overspent(
    backend: str, nodes: list[Spec], whole: Budget, inner: Budget, tool: Budget, words: int
) -> None:
    """Calls, cost and generated tokens never exceed their budgets; tokens do by the prompts under way at most."""
    budget = Budget(tokens=whole.tokens, calls=whole.calls, cost=whole.cost, nodes={"n0": inner}, tools={"step": tool})

    async def main() -> Any:
        engine = ScriptedEngine(lambda prompt, index: Reply("w " * words, latency=0.0))
        usage: dict[str, Any] = {}

        def listen(event: Any) -> None:
            if getattr(event, "path", "") == "n0" and hasattr(event, "usage"):
                usage["n0"] = event.usage

        async with random_graph(nodes).stream(engine=engine, budget=budget) as run:
            try:
                async for event in run:
                    listen(event)
            except NodeError as error:
                assert isinstance(error.__cause__, BudgetError)  # noqa: PT017
        run.check_integrity()
        assert engine.held == 0
        return run.usage, usage.get("n0")

    used, first = anyio.run(main, backend=backend)
    for spent, held in ((used, whole), (first, inner)):
        if spent is None:
            continue
        assert spent.calls <= held.calls
        assert spent.cost <= held.cost + 1e-9
        assert spent.generated <= held.tokens
        assert spent.prompt + spent.generated <= held.tokens + len(nodes) * TOKENS_OF_PROMPT
    assert used.calls <= tool.calls
    assert used.cost <= tool.cost + 1e-9

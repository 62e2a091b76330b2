"""Plans: shared prefixes are encoded once, and what a run will use is foretold."""

from __future__ import annotations

from typing import Any, Literal

import anyio
import pytest

import plait
from plait.engines.base import Prompt
from plait.engines.scripted import ScriptedContext, ScriptedEngine
from plait.errors import NodeError, TransientEngineError
from plait.orchestrator import Builder, compile_graph

SYSTEM = "You compare countries with great care, and you say in one short sentence why you think what you think."


@plait.tool(cost=0.5)
async def price(country: str) -> int:
    """A price."""
    return len(country)


def siblings(count: int) -> plait.Graph[list[str]]:
    def write(g: Builder, text: str) -> list[str]:
        return [g.think("{text}?", text=text, system=SYSTEM, max_tokens=10) for _ in range(count)]

    return plait.graph(name="siblings")(write)


class SlowStart(ScriptedEngine):
    """Takes its time to encode, and notes how many prompts it encodes at once; may fail the first ones."""

    def __init__(self, failures: int = 0) -> None:
        super().__init__(lambda prompt, index: "x")
        self.started = self.now = self.first_at_once = self.peak = 0
        self.failures = failures

    async def start(self, prompt: Prompt, *, adapter: str = "") -> ScriptedContext:
        self.started += 1
        number = self.started
        self.now += 1
        self.peak = max(self.peak, self.now)
        try:
            await anyio.sleep(0.002)
            if number == 1:
                self.first_at_once = self.now
            if number <= self.failures:
                raise TransientEngineError("busy")
        finally:
            self.now -= 1
        return await super().start(prompt, adapter=adapter)


@pytest.mark.anyio
async def test_siblings_wait_until_the_first_has_encoded_what_they_share() -> None:
    engine = SlowStart()
    await siblings(5).run("a", engine=engine)
    assert (engine.first_at_once, engine.peak, engine.started) == (1, 4, 5)


@pytest.mark.anyio
async def test_thoughts_that_share_little_do_not_wait() -> None:
    def write(g: Builder, text: str) -> list[str]:
        return [g.think("Say {text}.", text=text), g.think("Say {text}!", text=text)]

    engine = SlowStart()
    await plait.graph(write).run("a", engine=engine)
    assert engine.peak == 2


@pytest.mark.anyio
async def test_when_the_first_fails_another_goes_ahead() -> None:
    @plait.graph
    def build(g: Builder, texts: list[str]) -> Any:
        return g.map(compared, texts, join=plait.settled)

    engine = SlowStart(failures=2)
    with anyio.fail_after(5):
        ended = await build.run(["a", "b", "c", "d"], engine=engine)
    assert sum(one.ok for one in ended) == 2
    assert engine.first_at_once == 1


@plait.graph
def compared(g: Builder, text: str) -> str:
    return g.think("{text}?", text=text, system=SYSTEM)


@pytest.mark.anyio
async def test_a_failing_leader_does_not_hang_a_run() -> None:
    with anyio.fail_after(5), pytest.raises(NodeError, match="busy"):
        await siblings(3).run("a", engine=SlowStart(failures=1))


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_the_local_engine_encodes_a_shared_prefix_once(anyio_backend: str) -> None:
    def write(g: Builder, texts: list[str]) -> list[str]:
        return g.map(question, texts)

    graph = plait.graph(write)
    async with graph.stream(["Peru", "Chile", "Bolivia", "Brazil"], engine="local") as run:
        async for _ in run:
            pass
    length = run.usage.prompt // 4
    assert run.usage.prefilled + run.usage.cached == run.usage.prompt
    assert run.usage.cached >= 3 * (length - 2 * 16)
    assert run.usage.cached >= 0.5 * run.forecast.usage.cached


@plait.graph
def question(g: Builder, text: str) -> str:
    return g.think(SYSTEM * 3 + " {text}?", text=text, max_tokens=3)


# ---- forecasts


def test_what_is_known_is_foretold_as_it_happens() -> None:
    @plait.graph
    def build(g: Builder, countries: list[str]) -> list[Any]:
        prices = g.map(price, countries)
        plan = g.think("a" * 400, system="b" * 400, max_tokens=30)
        both = [
            g.think("c" * 40, after=plan, max_tokens=20),
            g.think("Sure?", after=plan, returns=Literal["yes", "no"]),
        ]
        return [prices, *both]

    plan = compile_graph(build, ScriptedEngine([]))
    told = plan.forecast({"countries": ["a", "b", "c"]})
    usage = told.usage
    assert (usage.calls, usage.cost) == (3, 1.5)
    assert usage.generated == 30 + 20 + 1
    assert usage.prefilled == usage.prompt
    assert 200 + 10 <= usage.prompt <= 200 + 10 + 2 + 16
    assert usage.critical_path == told.nodes["think"].critical_path + told.nodes["think_2"].critical_path
    assert told.unforeseen == ()
    assert plan.forecast().unforeseen == ("one for each item of price",)


def test_a_shared_prefix_is_foretold_as_cached_for_all_but_the_first() -> None:
    plan = compile_graph(siblings(3), ScriptedEngine([]))
    (prefix,) = plan.prefixes
    assert (prefix.system, prefix.paths) == (SYSTEM, ("think", "think_2", "think_3"))
    told = plan.forecast({"text": "Peru"})
    assert told.nodes["think"].cached == 0
    assert told.nodes["think_2"].cached == told.nodes["think_3"].cached > len(SYSTEM) // 4
    assert told.usage.prefilled + told.usage.cached == told.usage.prompt


def test_loops_count_at_their_bound_and_branches_by_their_dearest_arm() -> None:
    one = plait.graph(lambda g, text: g.think("{text}", text=text, max_tokens=10), name="one")
    two = plait.graph(lambda g, text: g.think("{text}", text=text, max_tokens=70), name="two")

    def write(g: Builder, text: str, flag: bool) -> str:
        arms: dict[Any, Any] = {True: one, False: two}
        return g.branch(flag, arms, text=g.loop(one, text, at_most=5))

    usage = compile_graph(plait.graph(write), ScriptedEngine([])).forecast().usage
    assert (usage.generated, usage.steps) == (5 * 10 + 70, 5 * 10 + 70)


@pytest.mark.anyio
async def test_a_run_shows_the_forecast_beside_what_it_used() -> None:
    graph = siblings(2)
    async with graph.stream("Peru", engine=ScriptedEngine(lambda prompt, index: "one two")) as run:
        async for _ in run:
            pass
    assert run.usage.generated == 4 <= run.forecast.usage.generated == 20
    assert abs(run.usage.prompt - run.forecast.usage.prompt) <= 0.5 * run.usage.prompt


def test_the_plan_is_told_as_text_json_and_drawings() -> None:
    def write(g: Builder, text: str, flag: bool) -> Any:
        both = g.team({"Ann": "One {text}.", "Bob": "Two."}, text=text)
        arms: dict[Any, Any] = {True: lambda h, text: h.think("Yes {text}", text=text), False: lambda h, text: text}
        return [both, g.branch(flag, arms, text=text), g.ask("Well?"), *[g.think("{t}", t=text, system=SYSTEM)] * 2]

    plan = compile_graph(plait.graph(name="told")(write), ScriptedEngine([]))
    text = plan.describe()
    for part in (
        "team team: Ann, Bob, combined",
        "arm True:",
        "tokens foreseen: about",
        "graph told on engine scripted",
    ):
        assert part in text
    data = plan.as_dict()
    assert data["teams"] == [{"node": "team", "layout": "combined", "members": ["Ann", "Bob"]}]
    assert data["calls"]["asked"] == ["ask"]
    assert data["forecast"]["usage"]["generated"] > 0
    assert '    n3_0_1["think"]' in plan.graph.mermaid().splitlines()
    assert 'subgraph n3_0["branch: arm True"]' in plan.graph.mermaid()
    assert "subgraph cluster_n3_1 {" in plan.graph.dot()
    assert plan.graph.dot().count("{") == plan.graph.dot().count("}")

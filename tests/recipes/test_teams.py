"""Hogwild and Group Think on a scripted model: who sees what is the engine's; here, what is asked of it."""

from __future__ import annotations

from typing import Any

import pytest

import plait
from plait.engines import Capabilities
from plait.engines.scripted import ScriptedEngine
from plait.orchestrator import NodeStarted
from plait.recipes.teams import names_of


def finisher(*replies: str) -> list[str]:
    return [*replies, " 42 } and more"]


@pytest.mark.anyio
async def test_workers_write_steps_under_their_names_and_the_first_states_the_answer() -> None:
    scripted = ScriptedEngine(finisher("I add.\n\nIt is 42. \\boxed{42}", "I check."))
    assert await plait.recipes.hogwild(check_every=0).run("6 * 7", engine=scripted) == "42"
    assert scripted.peak_active == 2
    seen = scripted.prompts[-1].rpartition("<|assistant|>")[2]
    assert "**Alice [1]:** I add.\n\n**Alice [2]:** It is 42. \\boxed{" in seen
    assert "**Bob [1]:** I check." in seen
    assert seen.endswith("\\boxed{\n\nGiven the limited time, the answer as it stands now: \\boxed{")


@pytest.mark.anyio
async def test_who_begins_a_step_is_asked_whether_the_work_is_redundant() -> None:
    """Once a counter that all share has passed the interval."""
    steps = "One two three. \n\nFour five six.\n\nSeven."
    scripted = ScriptedEngine(finisher(steps, "One two three four five six seven."))
    await plait.recipes.hogwild(check_every=8).run("?", engine=scripted)
    seen = scripted.prompts[-1].rpartition("<|assistant|>")[2]
    assert seen.count("Quick check: am I doing redundant work? (yes/no): ") == 1


@pytest.mark.anyio
@pytest.mark.parametrize("layout", ["contiguous", "interleaved", "combined"])
async def test_layouts_are_a_setting(layout: Any) -> None:
    scripted = ScriptedEngine(finisher("a.", "b.", "c."))
    assert await plait.recipes.hogwild(layout=layout, workers=3).run("?", engine=scripted) == "42"
    only = ScriptedEngine(finisher("a."), capabilities=Capabilities(team=frozenset({layout})))
    assert await plait.recipes.hogwild(layout=layout, workers=1).run("?", engine=only) == "42"


@pytest.mark.anyio
async def test_thinkers_are_nodes_with_a_line_each() -> None:
    scripted, events = ScriptedEngine(finisher("red", "green", "blue")), list[Any]()
    graph = plait.recipes.group_think(thinkers=3)
    assert await graph.run("colours", engine=scripted, listeners=[events.append]) == "42"
    seen = scripted.prompts[-1].rpartition("<|assistant|>")[2]
    assert all(line in seen for line in ("\n**Alice:** red", "\n**Bob:** green", "\n**Carol:** blue"))
    titles = [event.title for event in events if isinstance(event, NodeStarted)]
    assert titles[-5:] == ["3 thinkers", "Alice", "Bob", "Carol", "answer"]


@pytest.mark.anyio
@pytest.mark.parametrize("recipe", [plait.recipes.hogwild, plait.recipes.group_think])
async def test_instructions_of_ones_own(recipe: Any) -> None:
    scripted = ScriptedEngine(lambda prompt, call: "1.")
    await recipe(instructions="Be terse.").run("?", engine=scripted)
    assert scripted.prompts[0].startswith("<|system|>Be terse.\n<|user|>?")


@pytest.mark.anyio
@pytest.mark.parametrize("recipe", [plait.recipes.hogwild, plait.recipes.group_think])
async def test_an_engine_without_teams_is_refused_before_a_token_is_spent(recipe: Any) -> None:
    scripted = ScriptedEngine([], capabilities=Capabilities())
    with pytest.raises(plait.PlaitError, match="team:"):
        await recipe().run("?", engine=scripted)
    assert scripted.calls == 0


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("recipe", "settings"),
    [
        (plait.recipes.hogwild, {"layout": "combined", "workers": 3, "check_every": 16}),
        (plait.recipes.hogwild, {"layout": "interleaved"}),
        (plait.recipes.hogwild, {"layout": "contiguous"}),
        (plait.recipes.group_think, {"thinkers": 3}),
    ],
)
async def test_teams_run_on_the_local_engine(recipe: Any, settings: dict[str, Any]) -> None:
    """Members encode and write once each: what is held is what was given and generated, and all of it is freed."""
    async with plait.open_engine("local") as engine:
        graph = recipe(max_tokens=24, **settings)
        async with graph.stream("Which has more people, Peru or Chile?", engine=engine) as run:
            async for _ in run:
                pass
        usage = run.usage
        assert run.value
        assert (usage.live, usage.recomputed) == (usage.prompt + usage.generated, 0)
        assert usage.steps < usage.generated
        engine.check_integrity()
        assert engine.stats().contexts == 0


def test_names_never_run_out() -> None:
    assert names_of(2) == ["Alice", "Bob"]
    assert names_of(8)[-2:] == ["Number 7", "Number 8"]

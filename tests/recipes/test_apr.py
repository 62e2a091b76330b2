"""APR: children see their message only, results replace the spawn in its order, budgets leave slots empty."""

from __future__ import annotations

from typing import Any

import pytest

import plait
from plait.engines import Engine, Regex
from plait.engines.scripted import Reply, ScriptedEngine
from plait.errors import NodeError
from plait.orchestrator import NodeFinished, NodeNote, NodeStarted, NodeText, Scope
from plait.recipes.apr import LINES, Join, SpawnFormat, SpawnLimits, spawn_and_join
from plait.recipes.prompt import conversation

SPAWN = "Let me see. <spawn>\n{}\n</spawn>"


def messages(scripted: ScriptedEngine) -> list[tuple[str, str]]:
    """Of each generation: the message that its thread began with, and what stands after it."""
    shown = [prompt.rpartition("<|user|>")[2].partition("\n<|assistant|>") for prompt in scripted.prompts]
    return [(message, said) for message, _, said in shown]


@pytest.mark.anyio
async def test_results_replace_the_spawn_in_its_order() -> None:
    rules = {
        "<|user|>sum": SPAWN.format("2+3\n4+5"),
        "<|user|>2+3": Reply("slowly <ret>5</ret>", latency=0.05),
        "<|user|>4+5": "<ret> 9</ret>",
        "</join>": " so <ret>14</ret>",
    }
    scripted = ScriptedEngine(rules)
    async with plait.recipes.apr().stream("sum", engine=scripted) as run:
        async for _ in run:
            pass
    assert run.value == "14"
    assert sorted(messages(scripted)) == [
        ("2+3", ""),
        ("4+5", ""),
        ("sum", ""),
        ("sum", "Let me see. <join>\n1: 5\n2: 9\n</join>"),
    ]
    assert scripted.peak_active == 2
    assert (run.usage.recomputed, run.usage.pruned > 0) == (0, True)


@pytest.mark.anyio
async def test_the_spawn_can_be_kept() -> None:
    scripted = ScriptedEngine(
        {"<|user|>sum": SPAWN.format("a"), "<|user|>a": "<ret>5</ret>", "</join>": "<ret>5</ret>"}
    )
    await plait.recipes.apr(join="keep").run("sum", engine=scripted)
    assert messages(scripted)[-1] == ("sum", SPAWN.format("a") + "<join>\n1: 5\n</join>")


@pytest.mark.anyio
async def test_children_spawn_in_turn_and_threads_spawn_again() -> None:
    rules = {
        "<|user|>root": SPAWN.format("left"),
        "<|user|>left": SPAWN.format("leaf"),
        "<|user|>leaf": ["<ret>1</ret>", "<ret>2</ret>"],
        "1: 1\n</join>": ["<ret>one</ret>"],
        "1: one\n</join>": " more <spawn>\nleaf\n</spawn>",
        "1: 2\n</join>": "<ret>done</ret>",
    }
    scripted, events = ScriptedEngine(rules), list[Any]()
    assert await plait.recipes.apr().run("root", engine=scripted, listeners=[events.append]) == "done"
    ended = {event.path: event.summary for event in events if isinstance(event, NodeFinished)}
    assert ended["solve/1-left"] == "one"
    started = [event.path for event in events if isinstance(event, NodeStarted) and event.kind == "thread"]
    assert started == ["solve/1-left", "solve/1-left/1-leaf", "solve/2-leaf"]
    assert messages(scripted)[-1][1] == "Let me see. <join>\n1: one\n</join> more <join>\n1: 2\n</join>"


@pytest.mark.anyio
async def test_equal_messages_have_slots_of_their_own() -> None:
    rules = {
        "<|user|>root": SPAWN.format("toss\ntoss"),
        "<|user|>toss": ["<ret>heads</ret>", "<ret>tails</ret>"],
        "</join>": "<ret>both</ret>",
    }
    scripted = ScriptedEngine(rules)
    await plait.recipes.apr().run("root", engine=scripted)
    joined = messages(scripted)[-1][1].partition("<join>")[2]
    assert joined in ("\n1: heads\n2: tails\n</join>", "\n1: tails\n2: heads\n</join>")
    seeds = [asked.sampling.seed for asked in scripted.asked[1:3]]
    assert seeds[0] != seeds[1]


TREE = {
    "<|user|>root": SPAWN.format("a\na\na"),
    "<|user|>a": SPAWN.format("b\nb"),
    "<|user|>b": "<ret>b</ret>",
    "</join>": "<ret>j</ret>",
}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("budgets", "threads", "joined"),
    [
        ({}, 10, "1: j\n2: j\n3: j"),
        ({"max_depth": 0}, 1, "1: none\n2: none\n3: none"),
        ({"max_depth": 1}, 4, "1: j\n2: j\n3: j"),
        ({"max_children": 1}, 3, "1: j\n2: none\n3: none"),
        ({"max_calls": 2}, 3, "1: j\n2: j\n3: none"),
        ({"max_calls": 4}, 5, "1: j\n2: j\n3: j"),
        ({"max_calls": 7}, 8, "1: j\n2: j\n3: j"),
    ],
)
async def test_budgets_leave_slots_empty(budgets: dict[str, int], threads: int, joined: str) -> None:
    scripted, events = ScriptedEngine(TREE), list[Any]()
    await plait.recipes.apr(**budgets).run("root", engine=scripted, listeners=[events.append])
    began = [said for _, said in messages(scripted) if said == ""]
    assert len(began) == threads
    assert [said for message, said in messages(scripted) if message == "root"][-1].endswith(f"{joined}\n</join>")
    refused = [event for event in events if isinstance(event, NodeNote) and event.name == "refused"]
    assert bool(refused) == bool(budgets)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("replies", "words"),
    [
        (["no end"], "without <ret>…</ret>"),
        (["<spawn>\n \n</spawn>"], "holds no message"),
        (["a</spawn>"], "without <spawn>…</spawn>"),
        (["<spawn>\na\n</spawn>", "<ret>no end"], "solve/1-a"),
        (["<spawn>a</spawn>", "<ret>1</ret>"] * 3, "max_spawns=2"),
    ],
)
async def test_faults_are_named_and_never_read_as_none(replies: list[str], words: str) -> None:
    with pytest.raises(NodeError, match=words):
        await plait.recipes.apr(max_spawns=2).run("?", engine=ScriptedEngine(replies))


# ---- on the local engine

HELD = SpawnFormat(
    prompt="apr",
    read=LINES.read,
    write=LINES.write,
    grammar=Regex("<spawn>\nleaf of ab\nleaf of cd</spawn>"),
    after_join=Regex("([a-z]{5}[0-9]{3} ){3}<ret>[a-z]{4}</ret>"),
)


async def texts_of_threads(engine: Engine, task: str, join: Join) -> dict[str, str]:
    """What each thread wrote in all its generations, by path. Every thread spawns; those below the first get "none"."""
    limits = SpawnLimits(max_tokens=64, max_children=4, max_depth=1, max_calls=9, max_spawns=2, join=join)

    async def solve(scope: Scope, task: str) -> str:
        return await spawn_and_join(scope, task, HELD, limits)

    @plait.graph(name="held")
    def build(g: plait.Builder, task: str) -> str:
        return g.drive(solve, task=task)

    events: list[Any] = []
    await build.run(task, engine=engine, listeners=[events.append])
    texts: dict[str, str] = {}
    for event in events:
        if isinstance(event, NodeText):
            texts[event.path] = texts.get(event.path, "") + event.text
    return texts


@pytest.mark.anyio
@pytest.mark.parametrize("join", ["exact", "shift"])
async def test_after_a_join_the_parent_equals_a_fresh_prefill(join: Join) -> None:
    async with plait.open_engine("local", dtype="float64") as engine:
        texts = await texts_of_threads(engine, "some task", join)
        assert sorted(texts) == ["solve", "solve/1-leaf-of-ab", "solve/2-leaf-of-cd"]
        results = [texts[path].rpartition("<ret>")[2].removesuffix("</ret>") for path in sorted(texts)[1:]]
        opened = await engine.start(conversation("apr", "some task"))
        fresh = await opened.extend(f"<join>{LINES.write([], results)}</join>")
        again = await fresh.generate(max_tokens=64, grammar=HELD.after_join)
        assert texts["solve"] == "<spawn>\nleaf of ab\nleaf of cd</spawn>" + again.text


@pytest.mark.anyio
async def test_a_child_does_not_change_with_the_parents_other_text() -> None:
    async with plait.open_engine("local", dtype="float64") as engine:
        one, other = [await texts_of_threads(engine, task, "exact") for task in ("some task", "quite another task")]
        assert {**one, "solve": ""} == {**other, "solve": ""}

"""Multiverse on a scripted model: paths are written apart, merged where they stand, and mended where broken."""

from __future__ import annotations

from typing import Any

import pytest

import plait
from plait.engines.scripted import Reply, ScriptedEngine
from plait.errors import NodeError
from plait.orchestrator import NodeFinished, NodeNote, NodeText
from plait.recipes.blocks import BlockCount, check_blocks

GOAL = "<Parallel>\n<Goal>\n<Outline>1: twice</Outline>\n<Outline>2: thrice</Outline>\n</Goal>"
END = " 2 and 3</Conclusion>\n</Parallel>\nIt is 5."
RULES: dict[str, Any] = {
    "<|assistant|>": f"Both. {GOAL}",
    "<Path>1:": " it is 2</Path>",
    "<Path>2:": " it is 3</Path>",
    "<Conclusion>": END,
}


async def trace_of(rules: dict[str, Any], **settings: Any) -> tuple[str, list[Any], ScriptedEngine]:
    """What was written, the events, and the engine."""
    scripted, events = ScriptedEngine(rules), list[Any]()
    graph = plait.recipes.multiverse(returns="trace", **settings)
    trace = await graph.run("?", engine=scripted, listeners=[events.append])
    return trace, events, scripted


def mended(events: list[Any]) -> list[str]:
    return [event.data for event in events if isinstance(event, NodeNote) and event.name == "mended"]


@pytest.mark.anyio
async def test_paths_are_written_apart_and_the_conclusion_sees_both() -> None:
    scripted = ScriptedEngine(RULES)
    assert await plait.recipes.multiverse().run("?", engine=scripted) == "It is 5."
    said = {prompt.rpartition("<|assistant|>")[2].removeprefix("Both. " + GOAL) for prompt in scripted.prompts}
    joined = "\n<Path>1: it is 2</Path>\n<Path>2: it is 3</Path>\n<Conclusion>"
    assert said == {"", "\n<Path>1:", "\n<Path>2:", joined}
    assert scripted.peak_active == 2


@pytest.mark.anyio
async def test_without_more_the_last_conclusion_is_the_answer() -> None:
    rules = {**RULES, "<Conclusion>": " five </Conclusion></Parallel>\n"}
    assert await plait.recipes.multiverse().run("?", engine=ScriptedEngine(rules)) == "five"


@pytest.mark.anyio
async def test_a_task_without_blocks_is_answered_as_it_is() -> None:
    assert await plait.recipes.multiverse().run("?", engine=ScriptedEngine(["It is 5."])) == "It is 5."


@pytest.mark.anyio
async def test_blocks_nest_and_follow_each_other() -> None:
    inner = "<Parallel><Goal><Outline>1.1: a</Outline><Outline>1.2: b</Outline></Goal>"
    rules = {
        "<|assistant|>": GOAL,
        "<Path>1:": inner,
        "<Path>1.1:": "a</Path>",
        "<Path>1.2:": "b</Path>",
        "<Path>1.2:b</Path>\n<Conclusion>": "ab</Conclusion></Parallel></Path>",
        "<Path>2:": "c</Path>",
        "<Path>2:c</Path>\n<Conclusion>": [f"abc</Conclusion></Parallel>{GOAL}", "end</Conclusion></Parallel>"],
    }
    trace, events, _ = await trace_of(rules)
    assert check_blocks(trace) == BlockCount(4, 8, 4, 2)
    assert mended(events) == []


@pytest.mark.anyio
async def test_a_straggler_does_not_stop_the_others_from_being_read() -> None:
    rules = {**RULES, "<Path>1:": Reply(" it is at long last 2</Path>", latency=0.3)}
    _, events, _ = await trace_of(rules)
    order = [event.path for event in events if isinstance(event, NodeFinished) and "solve/" in event.path]
    assert [path.rpartition("/")[2] for path in order] == ["2-2-thrice", "1-1-twice"]
    assert "it is 3</Path>" in [event.summary.strip() for event in events if isinstance(event, NodeFinished)]
    texts = [event.path for event in events if isinstance(event, NodeText) and "solve/" in event.path]
    assert texts.index(order[0]) < len(texts) - 1 - texts[::-1].index(order[1])


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("changes", "settings", "notes", "paths"),
    [
        ({"<|assistant|>": GOAL.replace("2: t", "1: t")}, {}, ["1 of 2 outlines", "outline 1 is there twice"], 1),
        ({"<|assistant|>": GOAL.replace("2: t", "3: t")}, {}, ["outline 2 is missing"], 2),
        ({"<|assistant|>": "<Parallel><Goal></Goal>"}, {}, ["<Goal> has no outline"], 0),
        ({"<Path>2:": " it is"}, {}, ["path 2 ended inside Path"], 2),
        (
            {"<Path>2:": " <Parallel><Goal><Outline>2.1: a"},
            {},
            ["path 2 ended inside Outline", "path 2.1 is missing"],
            2,
        ),
        ({}, {"max_paths": 1}, ["1 of 2 outlines", "path 2 is missing"], 1),
        ({}, {"max_depth": 0}, ["0 of 2 outlines", "path 1 is missing"], 0),
    ],
)
async def test_what_is_mended(changes: dict[str, str], settings: dict[str, int], notes: list[str], paths: int) -> None:
    rules = {**RULES, "<Path>3:": " it is 3</Path>", **changes}
    trace, events, _ = await trace_of(rules, **settings)
    found = mended(events)
    assert len(found) == len(notes), found
    assert all(note in said for note, said in zip(notes, found, strict=True)), found
    assert trace.count("\n<Path>") == trace.count("\n<Path>1:") + trace.count("\n<Path>2:") + trace.count("\n<Path>3:")
    assert trace.count("\n<Path>") == paths
    assert trace.endswith(END)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"<|assistant|>": "a <Parallel><Goal><Outline>1: b"}, "ended inside <Parallel>, <Goal>, <Outline>"),
        ({"<Conclusion>": "so"}, "ended inside <Parallel>, <Conclusion>"),
        ({"<|assistant|>": "a\n</Path> b"}, "line 2, column 1: </Path> closes nothing"),
        ({"<Path>2:": " a <Path>3: b</Path>"}, "<Path> can't stand here"),
    ],
)
async def test_what_is_refused(changes: dict[str, str], words: str) -> None:
    with pytest.raises(NodeError, match=words):
        await trace_of({**RULES, **changes})


@pytest.mark.anyio
async def test_a_path_cut_by_max_tokens_is_closed_and_the_others_go_on() -> None:
    rules = {**RULES, "<|assistant|>": "<Parallel><Goal><Outline>1: a</Outline><Outline>2: b</Outline></Goal>"}
    trace, events, _ = await trace_of({**rules, "<Path>1:": " word" * 60}, max_tokens=40)
    assert mended(events) == ["path 1 ended inside Path; it was closed"]
    assert check_blocks(trace).paths == 2


@pytest.mark.anyio
async def test_an_engine_that_can_not_splice_is_refused_before_a_token_is_spent() -> None:
    scripted = ScriptedEngine(RULES, capabilities=plait.engines.Capabilities())
    with pytest.raises(plait.PlaitError, match="splice:exact"):
        await plait.recipes.multiverse().run("?", engine=scripted)
    assert scripted.calls == 0


@pytest.mark.anyio
async def test_a_model_that_does_not_know_the_tags_is_held_to_them() -> None:
    """On the local engine: nested threads on shared K/V, joined without encoding or copying anything again."""
    async with plait.open_engine("local") as engine:
        graph = plait.recipes.multiverse(returns="trace", held=30, max_paths=3, max_depth=2)
        async with graph.stream("Which is larger?", engine=engine) as run:
            async for _ in run:
                pass
        assert check_blocks(run.value).depth == 2
        usage = run.usage
        assert (usage.recomputed, usage.cached, usage.pruned) == (0, 0, 0)
        assert usage.live == usage.prompt + usage.generated
        assert usage.critical_path < usage.live


def test_settings_below_what_makes_sense_are_refused() -> None:
    with pytest.raises(plait.PlaitError, match="max_paths=0"):
        plait.recipes.multiverse(max_paths=0)

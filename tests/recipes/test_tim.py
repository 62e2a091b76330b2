"""TIM on a scripted model: the tree grows as it is written, and results go where they belong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import plait
from plait.engines.scripted import ScriptedEngine
from plait.errors import FormatError
from plait.recipes.task_tree import TaskTree


def leaf(thought: str, tool: str, argument: str, value: str, conclusion: str) -> str:
    """A task with a tool use; the result is missing, as it is when the model writes."""
    return (
        f'{{"thought":"{thought}","tooluse":{{"tool_name":"{tool}","parameters":{{"{argument}":"{value}"}},'
        f'"tool_result":""}},"conclusion":"{conclusion}"}}'
    )


SUBTASKS = (
    '{"thought":"people of Chile plus Bolivia","subtasks":['
    + leaf("people of Chile", "lookup", "query", "people of Chile", "20")
    + ","
    + leaf("people of Bolivia", "lookup", "query", "people of Bolivia", "12")
    + ","
    + leaf("add", "calculate", "expression", "20+12", "32")
    + '],"conclusion":"32"}'
)
TRACE = '{"reasoning":[' + SUBTASKS + '],"answer":"32"}'


def engine(trace: str) -> ScriptedEngine:
    return ScriptedEngine([trace])


@pytest.mark.anyio
async def test_results_are_inserted_and_the_answer_read(tools: list[Any], asked: list[str]) -> None:
    scripted = engine(TRACE)
    assert await plait.recipes.tim(tools).run("How many people do Chile and Bolivia have?", engine=scripted) == "32"
    assert asked == ["people of Chile", "people of Bolivia"]
    assert scripted.prompts[-1].endswith('"expression":"20+12"},"tool_result":"32')


@pytest.mark.anyio
async def test_nodes_grow_as_the_tree_is_written(tools: list[Any]) -> None:
    async with plait.recipes.tim(tools).stream("How many?", engine=engine(TRACE)) as run:
        events = [event async for event in run]
    started = [event.title for event in events if type(event).__name__ == "NodeStarted" and event.kind == "task"]
    assert started == ["people of Chile plus Bolivia", "people of Chile", "people of Bolivia", "add"]
    assert run.usage.calls == 3


@pytest.mark.anyio
async def test_a_cut_tree_is_a_named_error(tools: list[Any]) -> None:
    with pytest.raises(plait.PlaitError, match="ended without an answer"):
        await plait.recipes.tim(tools).run("?", engine=engine('{"reasoning":[{"thought":"a","conclusion":"b"}]'))


@pytest.mark.anyio
async def test_broken_json_is_a_named_error(tools: list[Any]) -> None:
    with pytest.raises(plait.PlaitError, match="not JSON"):
        await plait.recipes.tim(tools).run("?", engine=engine('{"reasoning":[{"thought" "a"'))


@pytest.mark.anyio
async def test_an_unknown_tool_is_a_named_error(tools: list[Any]) -> None:
    trace = '{"reasoning":[{"thought":"a","tooluse":{"tool_name":"fly","parameters":{},"tool_result":"'
    with pytest.raises(plait.PlaitError, match="'fly'"):
        await plait.recipes.tim(tools).run("?", engine=engine(trace))


# ---- the tree alone


class Recorder:
    """Stands where a scope stands and notes what grew."""

    def __init__(self, title: str = "", log: list[Any] | None = None) -> None:
        self.title, self.log = title, [] if log is None else log

    def grow(self, kind: str, title: str) -> Recorder:
        self.log.append(("open", title))
        return Recorder(title, self.log)

    def finish(self, value: object) -> None:
        self.log.append(("close", self.title, value))


def tasks(depth: int = 3) -> st.SearchStrategy[dict[str, Any]]:
    text = st.text(max_size=6)
    use = st.fixed_dictionaries(
        {
            "tool_name": st.sampled_from(["lookup", "calculate"]),
            "parameters": st.recursive(
                st.none() | st.booleans() | text | st.integers(),
                lambda p: st.lists(p) | st.dictionaries(text, p),
                max_leaves=4,
            ),
            "tool_result": text,
        }
    )
    leaf = st.fixed_dictionaries({"thought": text, "conclusion": text})
    called = st.fixed_dictionaries({"thought": text, "tooluse": use, "conclusion": text})
    if not depth:
        return leaf | called
    parts = st.lists(tasks(depth - 1), min_size=1, max_size=3)
    return leaf | called | st.fixed_dictionaries({"thought": text, "subtasks": parts, "conclusion": text})


def ordered(task: dict[str, Any]) -> dict[str, Any]:
    """The same with its keys in the format's order."""
    parts = {"subtasks": [ordered(part) for part in task["subtasks"]]} if "subtasks" in task else {}
    return {key: (task | parts)[key] for key in ("thought", "tooluse", "subtasks", "conclusion") if key in task}


def expected(task: dict[str, Any]) -> list[Any]:
    inner = [entry for part in task.get("subtasks", []) for entry in expected(part)]
    return [("open", task["thought"]), *inner, ("close", task["thought"], task["conclusion"])]


@given(st.lists(tasks(), min_size=1, max_size=3), st.text(max_size=8), st.integers(1, 9))
def test_reading_in_pieces_equals_the_tree(reasoning: list[dict[str, Any]], answer: str, step: int) -> None:
    reasoning = [ordered(task) for task in reasoning]
    text = json.dumps({"reasoning": reasoning, "answer": answer}, ensure_ascii=False)
    root = Recorder()
    tree = TaskTree(root)  # type: ignore[arg-type]
    for start in range(0, len(text), step):
        tree.feed(text[start : start + step])
    assert root.log == [entry for task in reasoning for entry in expected(task)]
    assert tree.answer == answer


@given(st.text(max_size=60) | st.text(alphabet='{}[]":,reasonigthusktl_ \\"', max_size=80))
def test_any_text_is_read_or_refused_by_name(text: str) -> None:
    tree = TaskTree(Recorder())  # type: ignore[arg-type]
    try:
        tree.feed(text)
    except FormatError:
        return

"""Trajectories made parallel: nothing is lost, nothing is added, and the recipe reads what is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import plait
from plait.engines.scripted import ScriptedEngine
from plait.errors import DataError
from plait.recipes.trajectories import CallGraph, Conversation, Step, Trajectory, parallel, read_trajectories, serial
from plait.recipes.trajectories.conversation import by_values

LOOK_UPS = {"people of Chile": "20", "people of Bolivia": "12", "people of Peru": "34"}


def look_up(query: str) -> Step:
    return Step(f"find the {query}", "lookup", {"query": query}, LOOK_UPS[query])


QUESTION = "Which has more people, Peru or Chile plus Bolivia?"
TRAJECTORY = Trajectory(
    QUESTION,
    (
        *map(look_up, LOOK_UPS),
        Step("add", "calculate", {"expression": "20+12"}, "32"),
        Step("compare", "calculate", {"expression": "max 34,32"}, "first"),
    ),
    "Peru",
    "done",
)


def test_independent_calls_share_a_turn() -> None:
    made = parallel(replace(TRAJECTORY, edges="1->4,2->4,3->5,4->5,5->6"))
    assert made.order == ((1, 2, 3), (4,), (5,))
    assert [turn.role for turn in made.turns] == ["system", "user", *["assistant", "tool"] * 3, "assistant"]
    assert made.turns[2].content == (
        "Thought: find the people of Chile find the people of Bolivia find the people of Peru\n"
        'Function Call: [{"name":"lookup","arguments":{"query":"people of Chile"}},'
        '{"name":"lookup","arguments":{"query":"people of Bolivia"}},'
        '{"name":"lookup","arguments":{"query":"people of Peru"}}]\n'
    )
    assert made.turns[3].content.startswith(
        'Observation: [{"name":"lookup","arguments":{"query":"people of Chile"},"result":"20"},'
    )
    assert [turn.role for turn in made.turns if turn.learnt] == ["assistant"] * 4
    assert {message["weight"] for message in made.as_dict()["messages"] if message["role"] != "assistant"} == {0}


def test_what_arguments_take_from_results_is_found() -> None:
    """The comparison needs the sum and the look-up that gave 34; the sum needs the two others."""
    assert by_values(TRAJECTORY).text == "1->4,2->4,3->5,4->5,5->6"
    again = replace(TRAJECTORY, task=f"{QUESTION} (not 20, not 12)")
    assert by_values(again).text == "1->6,2->6,3->5,4->5,5->6"


@pytest.mark.parametrize(
    ("edges", "words"),
    [
        ("1->4,4->2,2->5,3->5,5->6", "call 2 was made before call 4"),
        ("1->2,2->1,3->6,4->6,5->6", "in a circle"),
        ("1->4,2->4,3->5,4->5", "must be the answer"),
    ],
)
def test_a_graph_that_the_trajectory_contradicts_is_refused(edges: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        parallel(replace(TRAJECTORY, edges=edges))


def test_a_graph_of_another_size_is_refused() -> None:
    with pytest.raises(DataError, match="5 calls and an answer are 6"):
        parallel(TRAJECTORY, graph=CallGraph.parse("1->2", 2))


texts = st.text(max_size=12)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
steps = st.builds(
    Step, texts, st.sampled_from(["lookup", "calculate"]), st.dictionaries(texts, plain, max_size=3), texts
)


@st.composite
def trajectories(draw: st.DrawFn) -> Trajectory:
    done = tuple(draw(st.lists(steps, max_size=8)))
    size = len(done) + 1
    pairs = [(before, after) for after in range(1, size) for before in range(1, after)]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    text = CallGraph.closed(size, edges).text
    return Trajectory(draw(texts), done, draw(texts), draw(texts), text, draw(texts))


@given(trajectories())
@settings(deadline=None)
def test_serial_again_is_the_same(trajectory: Trajectory) -> None:
    """Through JSON, too: a file of conversations is as good as the trajectories."""
    made = parallel(trajectory)
    line = json.dumps(made.as_dict())
    assert serial(Conversation.read(json.loads(line))) == trajectory
    assert Trajectory.read_json(trajectory.as_json()) == trajectory


@given(trajectories())
@settings(deadline=None)
def test_calls_and_results_are_kept(trajectory: Trajectory) -> None:
    made = parallel(trajectory)
    asked: list[Any] = []
    observed: list[Any] = []
    for turn in made.turns[2:]:
        _, _, text = turn.content.partition("Observation: " if turn.role == "tool" else "\nFunction Call: ")
        (observed if turn.role == "tool" else asked).append(json.loads(text))
    *turns, (finish,) = asked
    assert [len(turn) for turn in turns] == [len(level) for level in made.order]
    assert finish["arguments"]["final_answer"] == trajectory.answer
    calls = [call for turn in turns for call in turn]
    results = [result for turn in observed for result in turn]
    assert [{**call, "result": each["result"]} for call, each in zip(calls, results, strict=True)] == results
    wanted = [{"name": s.name, "arguments": dict(s.arguments), "result": s.result} for s in trajectory.steps]
    assert sorted(map(json.dumps, results)) == sorted(map(json.dumps, wanted))


def test_a_file_of_trajectories_is_read_line_by_line(tmp_path: Path) -> None:
    """A separator that JSON leaves as it is ends no line."""
    odd = replace(TRAJECTORY, task="a\u2028b\x85c")
    (tmp_path / "two.jsonl").write_text(f"{odd.as_json()}\n\n{TRAJECTORY.as_json()}\n", encoding="utf-8")
    assert list(read_trajectories(tmp_path / "two.jsonl")) == [odd, TRAJECTORY]


@pytest.mark.anyio
@pytest.mark.parametrize("edges", ["1->4,2->4,3->5,4->5,5->6", "1->2,2->3,3->4,4->5,5->6"])
async def test_the_recipe_does_what_the_conversation_says(edges: str) -> None:
    """A model that writes the assistant's turns gets the recorded observations, call by call."""
    made = parallel(replace(TRAJECTORY, edges=edges))

    @plait.tool(name="lookup")
    async def lookup(query: str) -> str:
        return LOOK_UPS[query]

    scripted = ScriptedEngine([turn.content for turn in made.turns if turn.role == "assistant"])
    graph = plait.recipes.dta([lookup, plait.tools.calculator])
    async with graph.stream(QUESTION, engine=scripted) as run:
        async for _ in run:
            pass
    assert run.value == "Peru"
    assert run.usage.calls == len(TRAJECTORY.steps)
    assert scripted.prompts[-1].endswith("".join(turn.content for turn in made.turns[2:-1]))


@pytest.mark.parametrize(
    "change", [{"order": [[1, 2], [3]]}, {"order": [[1, 2, 9], [4], [5]]}, {"thoughts": []}, {"messages": []}]
)
def test_a_conversation_that_was_tampered_with_is_refused(change: dict[str, Any]) -> None:
    made = parallel(TRAJECTORY).as_dict() | change
    with pytest.raises(DataError, match="no conversation of a trajectory"):
        serial(Conversation.read(made))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"task": "x", "steps": [{"name": "a"}], "answer": ""}, "steps.0.arguments: Field required"),
        ({"task": "x", "steps": [], "answer": 3}, "answer: Input should be a valid string"),
        ({"task": "x", "steps": [], "answer": "", "edge": ""}, "edge: Extra inputs"),
        ([], "it: Input should be"),
    ],
)
def test_what_is_no_trajectory_is_refused_by_name(data: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Trajectory.read(data)

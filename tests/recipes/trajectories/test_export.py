"""Runs as training data: all that the model wrote, in every format, and nothing else counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import plait
from plait.engines.scripted import ScriptedEngine
from plait.errors import DataError, InputError, JournalError
from plait.orchestrator import Journal
from plait.recipes.formats import FORMATS, Ids, ToolCall, find_format
from plait.recipes.trajectories import export, parallel, trajectory_of
from plait.tools import Tool, file_search

pytestmark = pytest.mark.anyio


@plait.tool(name="lookup", idempotent=True)
async def lookup(query: str) -> str:
    """The people of a country."""
    return {"people of Peru": "34 (secret of the tool)", "people of Chile": "20"}.get(query, "unknown")


TOOLS: list[Tool] = [lookup, plait.tools.calculator]


async def exported(
    tmp_path: Path, graph: plait.Graph[str], replies: Any, *, task: str = "How many?"
) -> tuple[list[dict[str, Any]], ScriptedEngine]:
    engine = ScriptedEngine(replies)
    with Journal(tmp_path / "runs.db") as journal:
        await graph.run(task, engine=engine, journal=journal)
        return list(export(journal, journal.runs()[0].run)), engine


def texts(line: dict[str, Any], weight: int) -> list[str]:
    return [message["content"] for message in line["messages"] if message["weight"] == weight]


@pytest.mark.parametrize("name", sorted(FORMATS))
async def test_every_format_exports_what_the_model_wrote(name: str, tmp_path: Path) -> None:
    """Turn by turn; results, prompts and tasks are masked."""
    form, ids = find_format(name), Ids()
    queries = ["people of Peru"] if name == "react" else ["people of Peru", "people of Chile"]
    asked = form.say([ToolCall(ids.next(), "lookup", {"query": query}) for query in queries])
    replies = [asked, form.conclude("34")]
    (line,), engine = await exported(tmp_path, plait.recipes.agent(TOOLS, format=name), replies)  # type: ignore[arg-type]
    assert line["state"] == "done"
    assert texts(line, 1) == [asked.reply for asked in engine.asked]
    assert line["messages"][0]["role"] == "system"
    assert line["messages"][1] == {"role": "user", "content": "How many?", "weight": 0}
    assert {message["role"] for message in line["messages"] if message["weight"]} == {"assistant"}
    (given,) = [text for text in texts(line, 0) if "secret of the tool" in text]
    assert given in engine.prompts[-1]


LEAF = '{"thought":"NAME","tooluse":{"tool_name":"lookup","parameters":{"query":"people of Peru"},"tool_result":"'
TREE = '{"reasoning":[{"thought":"a","subtasks":[' + LEAF.replace("NAME", "b")
TREE_END = '"},"conclusion":"34"}],"conclusion":"34"}],"answer":"34"}'


async def test_a_task_tree_is_whole_though_it_was_pruned(tmp_path: Path) -> None:
    """Two lists, both dropped from the context; broken text that was written again is left out."""
    second = '"},"conclusion":"34"}],"conclusion":"34"},{"thought":"c","subtasks":[' + LEAF.replace("NAME", "d")
    graph = plait.recipes.tim(TOOLS, buffer=0, minimum=0)
    (line,), _ = await exported(tmp_path, graph, [TREE, second, '"} oops', TREE_END])
    _, _, *rest = line["messages"]
    assert [message["role"] for message in rest] == ["assistant", "tool"] * 2 + ["assistant"]
    assert [message["weight"] for message in rest] == [1, 0, 1, 0, 1]
    trace = json.loads("".join(message["content"] for message in rest))
    assert trace["answer"] == "34"
    assert [task["subtasks"][0]["tooluse"]["tool_result"] for task in trace["reasoning"]] == [
        "34 (secret of the tool)",
        "34 (secret of the tool)",
    ]


async def test_readers_are_conversations_of_their_own(tmp_path: Path) -> None:
    """On what they share with the searcher's, which counts there."""
    (tmp_path / "peru.md").write_text("The capital of Peru is Lima.")
    ask = "<|begin_search_queries|>capital of Peru<|end_search_queries|>"
    script = {"One of the documents": "Lima\n", "Peru: Lima": "\\boxed{Lima}", "How many?": ask}
    graph = plait.recipes.hybrid_search([file_search(tmp_path)], read=1)
    lines, _ = await exported(tmp_path, graph, script)
    searcher, reader = lines
    assert texts(searcher, 1) == [ask, "\\boxed{Lima}"]
    assert texts(reader, 1) == ["Lima\n"]
    assert reader["messages"][:2] == searcher["messages"][:2]
    assert "The capital of Peru is Lima." in reader["messages"][2]["content"]


async def test_thoughts_that_go_on_from_others_have_what_stood_before(tmp_path: Path) -> None:
    @plait.graph
    def solve(g: plait.Builder, question: str) -> str:
        plan = g.think("Plan: {question}", question=question)
        return g.think("Now solve it.", after=plan)

    lines, _ = await exported(tmp_path, solve, ["a plan", "an answer"])
    assert [texts(line, 1) for line in lines] == [["a plan"], ["a plan", "an answer"]]


def make_runs(tmp_path: Path) -> None:
    ask = "<|begin_search_queries|>people of Peru<|end_search_queries|>"
    with Journal(tmp_path / "runs.db") as journal:
        graphs: list[Callable[..., plait.Graph[str]]] = [plait.recipes.hybrid_search, plait.recipes.serial_search]
        for make in graphs:
            make(TOOLS).run_sync("?", engine=ScriptedEngine([ask, "\\boxed{34}"]), journal=journal)
        with pytest.raises(plait.PlaitError):
            plait.recipes.hybrid_search(TOOLS).run_sync("?", engine=ScriptedEngine([ask, "!"]), journal=journal)
        with pytest.raises(JournalError, match="no run"):
            list(export(journal, "none"))


def test_a_command_writes_chosen_runs(tmp_path: Path) -> None:
    make_runs(tmp_path)
    command = str(Path(sys.executable).with_name("plait"))

    def lines(*options: str) -> list[dict[str, Any]]:
        done = subprocess.run(
            [command, "export", "--journal", str(tmp_path / "runs.db"), *options],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.split("\n") if line]

    assert [line["graph"] for line in lines()] == ["hybrid_search", "serial_search"]
    assert [line["graph"] for line in lines("--graph", "serial_search")] == ["serial_search"]
    assert [line["state"] for line in lines("--unfinished")] == ["done", "done", "failed"]
    (one,) = lines(lines()[1]["run"][:8])
    assert one["graph"] == "serial_search"
    assert [line["answer"] for line in lines("--trajectories")] == ["34", "34"]


# ---- trajectories


WANTED = [
    ("lookup", {"query": "people of Peru"}, "34 (secret of the tool)"),
    ("lookup", {"query": "people of Chile"}, "20"),
    ("calculate", {"expression": "34+20"}, "54"),
]


def replies_of(name: str) -> list[str]:
    """A model that makes the wanted calls in the recipe's own format."""
    calls = [ToolCall(str(number), tool, arguments) for number, (tool, arguments, _) in enumerate(WANTED)]
    if name == "tim":
        uses = [
            f'{{"thought":"t","tooluse":{{"tool_name":"{call.name}",'
            f'"parameters":{json.dumps(call.arguments)},"tool_result":"'
            for call in calls
        ]
        return ['{"reasoning":[' + '"},"conclusion":"c"},'.join(uses) + '"},"conclusion":"c"}],"answer":"54"}']
    form = find_format("dta" if name == "dta" else "hybrid_search")
    turns = [calls[:2], calls[2:]] if name != "serial_search" else [[call] for call in calls]
    return [*map(form.say, turns), form.conclude("54")]


@pytest.mark.parametrize("name", ["tim", "dta", "hybrid_search", "serial_search"])
async def test_runs_of_any_format_make_the_same_trajectory(name: str, tmp_path: Path) -> None:
    graph = plait.recipes.find_recipe(name).make(TOOLS)
    with Journal(tmp_path / "runs.db") as journal:
        await graph.run("How many?", engine=ScriptedEngine(replies_of(name)), journal=journal)
        made = trajectory_of(journal, journal.runs()[0].run)
    assert (made.task, made.answer) == ("How many?", "54")
    assert [(step.name, step.arguments, step.result) for step in made.steps] == WANTED
    assert parallel(made).order == ((1, 2), (3,))


async def test_the_last_attempt_is_the_trajectory(tmp_path: Path) -> None:
    give_up = {"name": "Finish", "arguments": {"return_type": "give_up_and_restart", "final_answer": ""}}
    replies = [*replies_of("dta")[:1], f"Thought: x\nFunction Call: [{json.dumps(give_up)}]", *replies_of("dta")[1:]]
    with Journal(tmp_path / "runs.db") as journal:
        await plait.recipes.dta(TOOLS).run("How many?", engine=ScriptedEngine(replies), journal=journal)
        assert [step.name for step in trajectory_of(journal, journal.runs()[0].run).steps] == ["calculate"]


async def test_what_is_no_trajectory_is_named(tmp_path: Path) -> None:
    with Journal(tmp_path / "runs.db") as journal:
        with pytest.raises(plait.PlaitError):
            await plait.recipes.dta(TOOLS).run("?", engine=ScriptedEngine(["nonsense"]), journal=journal)
        with pytest.raises(DataError, match="has come to no answer"):
            trajectory_of(journal, journal.runs()[0].run)
        await plait.recipes.agent(TOOLS, format="react").run(
            "?", engine=ScriptedEngine(["Final Answer: 1"]), journal=journal
        )
        with pytest.raises(InputError, match="runs of these recipes can: tim, dta"):
            trajectory_of(journal, journal.runs()[0].run)

"""Readers on a scripted model: a thread a document, on forks of the conversation; and the budget of calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import plait
from plait.engines.scripted import ScriptedEngine
from plait.orchestrator import Journal, NodeStarted
from plait.tools import file_search

pytestmark = pytest.mark.anyio

ASK = "<|begin_search_queries|>{}<|end_search_queries|>"
READS = "One of the documents"
FILES = {
    "peru.md": "The capital of Peru is Lima.",
    "chile.md": "The capital of Chile is Santiago.",
    "noise.md": "Every capital has a zoo.",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def searcher(prompt: str, given: int) -> str:
    """Asks for two capitals at once and answers with what readers have said; as a reader it copies what it needs."""
    _, reads, asked = prompt.rpartition(READS)
    if reads:
        country = "Peru" if '"capital of Peru"' in asked else "Chile"
        sentence = f"The capital of {country} is"
        return asked.partition(sentence)[2].partition(".")[0].strip() + "\n" if sentence in asked else "Nothing."
    if "begin_search_results|>\n" not in prompt:
        return ASK.format("capital of Peru;\ncapital of Chile")
    found = prompt.rpartition("<|begin_search_results|>")[2]
    return "\\boxed{" + " and ".join(line.partition(": ")[2] for line in found.split("\n")[1:3]).split("<")[0] + "}"


async def test_each_document_is_read_on_a_fork_of_the_conversation(folder: Path) -> None:
    scripted, events = ScriptedEngine(searcher), list[Any]()
    graph = plait.recipes.hybrid_search([file_search(folder)], read=3)
    assert await graph.run("Which are the capitals?", engine=scripted, listeners=[events.append]) == "Lima and Santiago"
    readers = [prompt for prompt in scripted.prompts if READS in prompt]
    assert len(readers) == 6
    assert all(prompt.startswith(scripted.prompts[0]) for prompt in readers)
    assert "capital of Peru: Lima\ncapital of Chile: Santiago" in scripted.prompts[-1]
    assert not any("zoo" in prompt for prompt in scripted.prompts if READS not in prompt)
    started = [event.title for event in events if isinstance(event, NodeStarted)]
    read = [title for title in started if title.startswith("document")]
    assert read == ["document 1", "document 2", "document 3"] * 2


async def test_only_the_first_documents_are_read(folder: Path) -> None:
    scripted = ScriptedEngine(searcher)
    await plait.recipes.hybrid_search([file_search(folder)], read=1).run("?", engine=scripted)
    assert len([prompt for prompt in scripted.prompts if READS in prompt]) == 2


async def test_without_readers_results_are_shown_as_they_are(folder: Path) -> None:
    scripted = ScriptedEngine([ASK.format("zoo"), "\\boxed{yes}"])
    assert await plait.recipes.hybrid_search([file_search(folder)]).run("?", engine=scripted) == "yes"
    assert "Every capital has a zoo." in scripted.prompts[1]


async def test_a_result_that_helps_nobody_says_so(folder: Path) -> None:
    scripted = ScriptedEngine({READS: "nothing", "begin_search_results": "\\boxed{no}", "?": ASK.format("capital")})
    assert await plait.recipes.hybrid_search([file_search(folder)], read=2).run("?", engine=scripted) == "no"
    assert "\ncapital: nothing<|end_search_results|>" in scripted.prompts[-1]


async def test_a_search_that_fails_or_finds_nothing_is_not_read() -> None:
    @plait.tool(name="lookup")
    async def lookup(query: str) -> list[str]:
        if query == "bad":
            raise ValueError("no such index")
        return []

    scripted = ScriptedEngine([ASK.format("bad;\nrare"), "\\boxed{no}"])
    assert await plait.recipes.hybrid_search([lookup], read=2).run("?", engine=scripted) == "no"
    assert "\nbad: error: tool 'lookup' failed: ValueError: no such index\nrare: []<" in scripted.prompts[1]


async def test_a_recorded_run_is_replayed_with_its_readers(folder: Path, tmp_path: Path) -> None:
    """Searches and readers end in any order; their nodes have the order of the queries all the same."""
    graph = plait.recipes.hybrid_search([file_search(folder)], read=3)
    with Journal(tmp_path / "runs.db") as journal:
        await graph.run("Which are the capitals?", engine=ScriptedEngine(searcher), journal=journal)
        again = journal.replay(journal.runs()[0].run)
        assert await graph.run(journal=again, engine=None) == "Lima and Santiago"


# ---- budgets of calls


async def test_calls_beyond_the_budget_are_refused_and_the_answer_is_forced(tools: list[Any], asked: list[str]) -> None:
    scripted = ScriptedEngine([ASK.format("people of Peru;\npeople of Chile;\npeople of Bolivia"), "34}"])
    async with plait.recipes.hybrid_search(tools, max_calls=2).stream("?", engine=scripted) as run:
        async for _ in run:
            pass
    assert run.value == "34"
    assert run.usage.calls == 2
    assert sorted(asked) == ["people of Chile", "people of Peru"]
    assert "people of Bolivia: error: 'lookup' was not called: all 2 calls" in scripted.prompts[1]
    assert scripted.prompts[1].endswith("\\boxed{")


async def test_a_budget_that_is_just_enough_forces_nothing(tools: list[Any]) -> None:
    """A repeated query is answered from the record, and costs nothing."""
    turns = [ASK.format("people of Peru;\npeople of Chile"), ASK.format("people of Chile"), "\\boxed{34}"]
    scripted = ScriptedEngine(turns)
    assert await plait.recipes.hybrid_search(tools, max_calls=2).run("?", engine=scripted) == "34"
    assert len(scripted.prompts) == 3


async def test_a_format_that_can_not_be_forced_reads_the_refusal(tools: list[Any]) -> None:
    look = '{{"name":"lookup","arguments":{{"query":"people of {}"}}}}'
    step = "Thought: x\nFunction Call: [" + look.format("Peru") + "," + look.format("Chile") + "]\n"
    finish = '{"name":"Finish","arguments":{"return_type":"give_answer","final_answer":"34"}}'
    scripted = ScriptedEngine([step, f"Thought: x\nFunction Call: [{finish}]"])
    assert await plait.recipes.dta(tools, max_calls=1).run("?", engine=scripted) == "34"
    assert "all 1 calls that were allowed have been made" in scripted.prompts[1]

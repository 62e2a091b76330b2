"""Debate, mixtures, SpecReason, selection by checklist and agreement, and answers from retrieved documents."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest

import plait
from plait.engines import Roles
from plait.engines.scripted import ScriptedEngine
from plait.errors import InputError, NodeError
from plait.orchestrator import compile_graph
from plait.recipes import techniques as t
from plait.tools import Tool


async def run(stages: list[t.Stage], engine: Any, task: str = "the task") -> t.Result:
    """Run a chain, and hold its calls to what is foreseen at most."""
    graph = t.chain(stages)
    foreseen = compile_graph(graph, engine).as_dict()["calls"]["think"]
    result = await graph.run(task, engine=engine)
    if isinstance(engine, ScriptedEngine):
        assert 0 < engine.calls <= foreseen
        assert engine.held == 0
    return result


# ---- debate and mixtures


@pytest.mark.anyio
async def test_agents_read_the_others_and_not_themselves_again() -> None:
    def reply(prompt: str, number: int) -> str:
        return f"first {number}" if number < 3 else f"then {number} of {prompt.count('<|assistant|>')}"

    engine = ScriptedEngine(reply)
    result = await run([t.Debate(agents=3, rounds=2)], engine)
    assert engine.calls == 9
    assert [candidate.text for candidate in result.candidates] == [f"then {number} of 3" for number in (6, 7, 8)]
    asked = engine.prompts[3].rpartition("<|user|>")[2]
    assert "[1] first 1\n\n[2] first 2" in asked
    assert "first 0" not in asked
    assert engine.peak_active == 3
    assert result.usage.recomputed == 0


@pytest.mark.anyio
async def test_a_debate_ends_with_the_majority() -> None:
    said = iter(["a", "b", "c", "b", "b", "c"])
    result = await t.debate(agents=3, rounds=1).run("?", engine=ScriptedEngine(lambda prompt, number: next(said)))
    assert (result.answer, result.candidates[0].score) == ("b", pytest.approx(2 / 3))


@pytest.mark.anyio
async def test_agents_are_dealt_the_models_in_turn() -> None:
    one, other = ScriptedEngine(["x"] * 4, name="one"), ScriptedEngine(["y"] * 2, name="other")
    stage = t.Debate(agents=3, rounds=1, models=["a", "b"])
    result = await run([stage], Roles({"a": one, "b": other}))
    assert [candidate.model for candidate in result.candidates] == ["a", "b", "a"]
    assert (one.calls, other.calls) == (4, 2)


@pytest.mark.anyio
async def test_a_mixture_answers_anew_layer_by_layer() -> None:
    engine = ScriptedEngine(lambda prompt, number: f"layer {prompt.count('[3] ') + prompt.count('layer 1')} {number}")
    result = await t.mixture_of_agents(layers=2).run("?", engine=engine)
    assert engine.calls == 3 + 3 + 1
    assert [candidate.text for candidate in result.rejected] == [f"layer 0 {n}" for n in range(3)] + [
        f"layer 1 {n}" for n in range(3, 6)
    ]
    assert result.answer == "layer 4 6"


# ---- SpecReason


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("accept", "answer", "small_calls", "large_calls", "share"),
    [(7, "s1\n\nL2\n\ns3", 3, 4, 2 / 3), (0, "s1\n\ns2\n\ns3", 3, 3, 1.0), (9, "L1\n\nL2\n\nL3", 3, 6, 0.0)],
)
async def test_drafts_below_the_threshold_are_written_anew(
    accept: int, answer: str, small_calls: int, large_calls: int, share: float
) -> None:
    def said(prompt: str) -> str:
        return prompt.partition("<|assistant|>")[2]

    def draft(prompt: str, number: int) -> str:
        step = len(re.findall(r"\n\n", said(prompt))) + 1
        return f"s{step}" + ("\n\n" if step < 3 else "")

    def base(prompt: str, number: int) -> str:
        if "Write one digit" in prompt:
            steps = re.findall(r"([sL]\d)", said(prompt))
            return "3" if steps[-1] == "s2" else "8"
        step = len(re.findall(r"\n\n", said(prompt))) + 1
        return f"L{step}" + ("\n\n" if step < 3 else "")

    small, large = ScriptedEngine(draft, name="small"), ScriptedEngine(base, name="large")
    stage = t.SpecReason(model="large", drafter="small", accept=accept)
    result = await run([stage], Roles({"large": large, "small": small}))
    assert result.answer == answer
    assert (small.calls, large.calls) == (small_calls, large_calls)
    assert result.candidates[0].score == pytest.approx(share)
    digits = [asked.max_tokens for asked in large.asked if "Write one digit" in asked.prompt]
    assert digits == [1, 1, 1]


@pytest.mark.anyio
async def test_rejected_drafts_and_scores_are_charged() -> None:
    def reply(prompt: str, number: int) -> str:
        return ["one two three", "0", "four five"][number]

    result = await run([t.SpecReason()], ScriptedEngine(reply))
    assert (result.answer, result.usage.generated) == ("four five", 3 + 1 + 2)


# ---- selection


@pytest.mark.anyio
async def test_a_checklist_is_written_once_and_selects_once() -> None:
    asked: Counter[str] = Counter()

    def reply(prompt: str, number: int) -> str:
        last = prompt.rpartition("<|user|>")[2]
        kind = "list" if last.startswith("Write a checklist") else "select" if last.startswith("Select") else "draft"
        asked[kind] += 1
        return {"list": "- names the year", "select": "[3] > [1]"}.get(kind, f"draft {asked['draft']}")

    engine = ScriptedEngine(reply)
    result = await run([t.Generate(samples=3), t.Checklist()], engine)
    assert (result.answer, asked) == ("draft 3", {"draft": 3, "list": 1, "select": 1})
    assert "- names the year" in engine.prompts[-1]
    assert "draft" not in next(prompt for prompt in engine.prompts if "Write a checklist" in prompt)


@pytest.mark.anyio
async def test_evidence_decides_and_is_never_selected() -> None:
    drafts = iter(["four", "five", "six"])

    def reply(prompt: str, number: int) -> str:
        if "Answer in" in prompt:
            return "cinq"
        if "How far do two" in prompt:
            return "Score: 10" if "five" in prompt and "cinq" in prompt else "Score: 2"
        return next(drafts)

    engine = ScriptedEngine(reply)
    result = await run([t.Generate(samples=3), t.Agreement(languages=["French", "Spanish"])], engine)
    assert engine.calls == 3 + 2 + 3 * 4
    assert [candidate.score for candidate in result.candidates] == [6.0, 2.0, 2.0]
    assert result.answer == "five"
    assert "cinq" not in {candidate.text for candidate in result.candidates}


# ---- retrieval

DOCUMENTS = {
    "Who wrote the song?": ["The song is by Ada.", "Songs are sung."],
    "Where was Ada born?": ["Ada was born in Lima.", "The song is by Ada."],
}


@pytest.fixture
def search() -> Tool:
    @plait.tool(idempotent=True)
    async def search(query: str) -> list[str]:
        """Documents for a query."""
        return DOCUMENTS.get(query, [])

    return search


@pytest.mark.anyio
async def test_the_best_document_stands_nearest_to_the_question(search: Tool) -> None:
    engine = ScriptedEngine(["It is by Ada. So the final answer is: Ada"])
    result = await run(
        [t.Drag(search=search, examples=["Question: 1+1?\nSo the final answer is: 2"])], engine, "Who wrote the song?"
    )
    assert result.answer == "Ada"
    prompt = engine.prompts[0]
    places = [prompt.index(text) for text in ("1+1?", "Songs are sung.", "The song is by Ada.", "Who wrote")]
    assert places == sorted(places)


@pytest.mark.anyio
async def test_follow_ups_bring_documents_into_the_same_context(search: Tool) -> None:
    replies = [
        " Follow up: Where was Ada born?\nIntermediate answer:",
        " Lima\n",
        "So the final answer is: Lima",
    ]
    engine = ScriptedEngine(replies)
    result = await run([t.IterDrag(search=search)], engine, "Who wrote the song?")
    assert (result.answer, engine.calls, result.usage.calls) == ("Lima", 3, 2)
    assert engine.prompts[1].endswith("Intermediate answer:\nAda was born in Lima.\nIntermediate answer:")
    assert engine.prompts[2].count("The song is by Ada.") == 1
    assert result.usage.recomputed == 0


@pytest.mark.anyio
async def test_an_answer_is_asked_for_when_the_questions_are_used_up(search: Tool) -> None:
    question = [" Follow up: Where was Ada born?\nIntermediate answer:", " Lima\n"]
    engine = ScriptedEngine([*question, *question, " Lima"])
    result = await run([t.IterDrag(search=search, iterations=2)], engine, "Who wrote the song?")
    assert (result.answer, engine.calls) == ("Lima", 5)
    assert engine.prompts[-1].endswith("So the final answer is:")


@pytest.mark.anyio
async def test_a_search_that_gives_no_list_is_named() -> None:
    @plait.tool
    async def wrong(query: str) -> str:
        """Not a search."""
        return "text"

    with pytest.raises(NodeError, match="tool 'wrong' gave 'text'; a search gives a list of texts"):
        await run([t.Drag(search=wrong)], ScriptedEngine(["x"]))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: t.Debate(agents=1), "agents=1 can't be used"),
        (lambda: t.Debate(rounds=0), "rounds=0 can't be used"),
        (lambda: t.SpecReason(steps=0), "steps=0 can't be used"),
        (lambda: t.mixture_of_agents(layers=0), "layers=0 can't be used"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()

"""Stages and named chains: the known best is selected, the calls are those expected, ties are the seed's to break."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import plait
from plait.engines import Message, Roles
from plait.engines.scripted import ScriptedEngine
from plait.errors import InputError, NodeError, UnknownNameError
from plait.orchestrator import Budget, Graph, NodeNote, compile_graph
from plait.recipes import techniques as t
from plait.recipes.techniques.vote import majority


def shown(prompt: str) -> list[str]:
    """The candidates that a prompt shows in brackets, the first word of each."""
    return re.findall(r"^\[\d+\] (\S+)", prompt, re.MULTILINE)


DRAFTS = ["bad", "best", "good"]
"""What the proposer says, in turn."""
WORTH = {"bad": 2, "good": 6, "best": 9}


def judged(prompt: str) -> str:
    answer = prompt.partition("Answer:\n")[2].split()[0]
    return f"Score: {WORTH[answer]}"


def ranking(prompt: str) -> str:
    names = shown(prompt)
    return " > ".join(f"[{names.index(name) + 1}]" for name in sorted(names, key=lambda name: -WORTH[name]))


def preferring(prompt: str) -> str:
    first, second = shown(prompt)
    return "[1]" if WORTH[first] > WORTH[second] else "[2]"


def verdict(prompt: str) -> str:
    answer = prompt.partition("Answer:\n")[2].split()[0]
    return "[Correct]" if answer == "best" else "[Incorrect]"


def passed(prompt: str) -> str:
    answer = prompt.partition("Answer:\n")[2].split()[0]
    return "\n".join(f"[{n}] {'passed' if WORTH[answer] >= 4 * n else 'failed'}" for n in (1, 2))


def fused(prompt: str) -> str:
    assert shown(prompt)[:3] == DRAFTS
    return "best of all"


SAYS: dict[str, Callable[[str], str]] = {
    "judge": judged,
    "rank": ranking,
    "compare": preferring,
    "critique": lambda prompt: "[1] weak\n[2] strong\n[3] fair",
    "fuse": fused,
    "verify": lambda prompt: "I look at it.",
    "verdict": verdict,
    "write_tests": lambda prompt: '["is first", "is second"]',
    "judge_tests": passed,
    "score": lambda text: "good" if "best" in text and text.endswith("yes") else "bad",
}
TECHNIQUES: list[tuple[Graph[t.Result], str, dict[str, int]]] = [
    (t.ensemble(samples=3), "bad", {"propose": 3}),
    (t.best_of_n(samples=3), "best", {"propose": 3, "judge": 3}),
    (t.best_of_n(samples=3, by="reward"), "best", {"propose": 3, "score": 6}),
    (t.checked(lambda task, text: WORTH[text], samples=3), "best", {"propose": 3}),
    (t.ranked(samples=3), "best", {"propose": 3, "rank": 1}),
    (t.ranked(samples=3, how="pairs"), "best", {"propose": 3, "compare": 3}),
    (t.critique_and_fuse(samples=3), "best of all", {"propose": 3, "critique": 1, "fuse": 1}),
    (t.verified(samples=3), "best", {"propose": 3, "verify": 3, "verdict": 3}),
    (t.unit_tested(samples=3), "best", {"propose": 3, "write_tests": 1, "judge_tests": 3}),
    (t.hedged(samples=2), "best", {"propose": 3, "judge": 3}),
    (t.weighted_consistency(samples=3), "best", {"propose": 3, "judge": 3}),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("graph", "answer", "calls"), TECHNIQUES)
async def test_the_known_best_is_selected_with_the_calls_expected(
    propose: Any, graph: Graph[t.Result], answer: str, calls: dict[str, int]
) -> None:
    world = propose(DRAFTS, SAYS)
    result = await world.run(graph)
    assert result.answer == answer
    assert dict(world.asked) == calls
    assert {candidate.text for candidate in (*result.candidates, *result.rejected)} >= set(DRAFTS)
    generated = sum(count for part, count in calls.items() if part != "score")
    assert compile_graph(graph, world.engine).as_dict()["calls"]["think"] == generated
    assert result.usage.generated > 0
    assert world.engine.held == 0


@pytest.mark.anyio
async def test_stages_run_their_calls_side_by_side(propose: Any) -> None:
    world = propose(DRAFTS, SAYS, latency=0.01)
    await world.run(t.best_of_n(samples=3))
    assert world.engine.peak_active == 3


@pytest.mark.anyio
async def test_ties_are_the_seeds_to_break(propose: Any) -> None:
    async def chosen(seed: int) -> str:
        world = propose(["a", "b", "c", "d"], {"judge": lambda prompt: "Score: 5"})
        return (await world.run(t.best_of_n(samples=4), seed=seed)).answer

    answers = [await chosen(seed) for seed in range(12)]
    assert [await chosen(seed) for seed in range(12)] == answers
    assert len(set(answers)) > 1


@pytest.mark.anyio
async def test_the_majority_wins_and_scores_are_shares(propose: Any) -> None:
    world = propose(["\\boxed{3}", "so \\boxed{1,000}", "The answer is 1000.", "\\boxed{4}"])
    result = await world.run(t.self_consistency(samples=4))
    assert [candidate.score for candidate in result.candidates] == [0.5, 0.5, 0.25, 0.25]
    assert result.answer == "so \\boxed{1,000}"


@pytest.mark.anyio
async def test_equal_shares_are_the_seeds_to_break(propose: Any) -> None:
    async def chosen(seed: int) -> str:
        return (await propose(["x", "y", "y", "x"]).run(t.self_consistency(samples=4), seed=seed)).answer

    assert {await chosen(seed) for seed in range(12)} == {"x", "y"}


@pytest.mark.anyio
async def test_a_weighted_vote_can_overrule_the_majority(propose: Any) -> None:
    world = propose(["no", "no", "yes"], {"judge": lambda prompt: "Score: 9" if "yes" in prompt else "Score: 4"})
    assert (await world.run(t.weighted_consistency(samples=3))).answer == "yes"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("drafts", "drawn"), [(["x"] * 20, 5), (["x", "y"] * 10, 20), (["x", "x", "x", "x", "y"] + ["x"] * 15, 10)]
)
async def test_sampling_stops_when_the_majority_is_clear(propose: Any, drafts: list[str], drawn: int) -> None:
    world, events = propose(drafts), list[Any]()
    result = await world.run(t.adaptive_consistency(samples=20), listeners=[events.append])
    assert result.answer == "x" or drawn == 20
    assert world.asked["propose"] == drawn == len(result.candidates)
    assert [event.data for event in events if isinstance(event, NodeNote) and event.name == "samples"] == [drawn]


def test_the_majority_is_a_tail_of_the_beta_distribution() -> None:
    assert majority(0, 0) == 0.5
    assert majority(3, 0) == 15 / 16
    assert majority(4, 4) == 0.5


@pytest.mark.anyio
async def test_if_none_is_verified_all_stay(propose: Any) -> None:
    world = propose(DRAFTS, {**SAYS, "verdict": lambda prompt: "[Incorrect]"})
    result = await world.run(t.verified(samples=3))
    assert [candidate.text for candidate in result.candidates] == DRAFTS
    assert result.rejected == ()


@pytest.mark.anyio
async def test_critiques_end_with_what_they_were_said_of(propose: Any) -> None:
    world = propose(DRAFTS, SAYS)
    result = await world.run(t.critique_and_fuse(samples=3))
    assert [candidate.critique for candidate in result.candidates] == [""]
    assert [candidate.critique for candidate in result.rejected] == ["weak", "strong", "fair"]


@pytest.mark.anyio
async def test_an_answer_is_refined_until_there_is_nothing_to_say(propose: Any) -> None:
    said = iter(["too short", "[done]"])
    says = {"refine": lambda prompt: next(said), "feedback": lambda prompt: next(said), "rewrite": lambda prompt: "new"}
    world = propose(["old"], says)
    result = await world.run(t.self_refine(rounds=3))
    assert (result.answer, result.candidates[0].critique) == ("new", "[done]")
    assert dict(world.asked) == {"propose": 1, "refine": 1, "rewrite": 1, "feedback": 1}
    assert result.usage.recomputed == 0
    assert world.engine.held == 0


@pytest.mark.anyio
async def test_samples_share_the_tasks_context(propose: Any) -> None:
    world = propose(DRAFTS)
    one = await propose(DRAFTS).run(t.ensemble(samples=1))
    three = await world.run(t.ensemble(samples=3))
    assert three.usage.prefilled == one.usage.prefilled


@pytest.mark.anyio
async def test_a_budget_that_ends_a_judge_leaves_the_candidates(propose: Any) -> None:
    result = await propose(DRAFTS, SAYS).run(t.best_of_n(samples=3), budget=Budget(tokens=40))
    assert [candidate.text for candidate in result.candidates] == DRAFTS


@pytest.mark.anyio
async def test_each_model_has_its_own_engine() -> None:
    small, large = (
        ScriptedEngine(["small", "small"], name="small"),
        ScriptedEngine(["large", "[2] > [1]"], name="large"),
    )
    graph = t.chain([t.Generate(models=["a", "b"]), t.Rank(model="b")])
    result = await graph.run("?", engine=Roles({"a": small, "b": large}))
    assert [(one.text, one.model, one.score) for one in result.candidates] == [("large", "b", 1.0), ("small", "a", 0.0)]
    assert (small.calls, large.calls) == (1, 2)


@pytest.mark.anyio
async def test_a_role_that_nobody_plays_is_named() -> None:
    graph = t.chain([t.Generate(model="c")])
    with pytest.raises(NodeError, match="no engine plays 'c'; roles: a"):
        await graph.run("?", engine=Roles({"a": ScriptedEngine(["x"])}))
    others = Roles({"a": ScriptedEngine(["x"]), "*": ScriptedEngine(["other"])})
    assert (await graph.run("?", engine=others)).answer == "other"


@pytest.mark.anyio
async def test_prompts_can_be_replaced(propose: Any) -> None:
    world = propose(DRAFTS, {})
    stage = t.Judge(prompt="Is {{ candidate }} right for {{ task }}?")
    world.drafts = ["x", "10"]
    assert (await world.run(t.chain([t.Generate(), stage]))).candidates[0].score == 10.0
    assert "Is x right for the task?" in world.engine.prompts[-1]
    with pytest.raises(NodeError, match="it may use: task, history, candidate"):
        await propose(["x"]).run(t.chain([t.Generate(), replace(stage, prompt="{{ answer }}")]))


@pytest.mark.anyio
async def test_the_conversation_before_the_task_is_kept_as_it_is() -> None:
    history = [Message("user", "I am Ada."), Message("assistant", "Hello.")]
    engine = ScriptedEngine(["x"])
    result = await t.ensemble(samples=1).run("Who am I?", history, engine=engine)
    assert history == [Message("user", "I am Ada."), Message("assistant", "Hello.")]
    assert result.history == tuple(history)
    assert engine.prompts[0].startswith("<|user|>I am Ada.\n<|assistant|>Hello.\n<|user|>Who am I?")


@pytest.mark.anyio
async def test_executed_tests_choose_the_code_that_passes(propose: Any) -> None:
    drafts = ["```python\ndef f(x): return x\n```", "```python\ndef f(x): return 2 * x\n```", "no code ("]
    stages = [
        t.Generate(samples=3),
        t.ExecuteTests(given_tests=["assert f(1) == 2", "assert f(0) == 0"], isolated=False),
    ]
    result = await propose(drafts).run(t.chain(stages))
    assert [candidate.score for candidate in result.candidates] == [2.0, 1.0, 0.0]
    assert result.answer == drafts[1]


# ---- components by name


def test_chains_are_written_as_data() -> None:
    graph = t.chain_of([{"component": "generate", "samples": 3}, {"component": "rank", "top_k": 1}], name="mine")
    assert [node.name for node in graph.nodes] == ["task", "history", "begin", "generate", "rank"]


@pytest.mark.parametrize("name", sorted(set(t.COMPONENTS) - {"checked", "drag", "iter_drag"}))
def test_every_component_can_be_had_by_name(name: str) -> None:
    assert t.component(name).kind == name
    assert t.component(name, model="x", max_tokens=3) == replace(t.component(name), model="x", max_tokens=3)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"component": "generat"}, "did you mean 'generate'"),
        ({"component": "generate", "sample": 3}, "did you mean 'samples'"),
        ({"component": "generate", "samples": "many"}, "can't take samples='many'"),
        ({"component": "generate", "samples": 0}, "samples=0 can't be used"),
        ({"component": "checked"}, "needs check"),
        ({"samples": 3}, "component 1 of the chain"),
    ],
)
def test_what_is_no_component_is_refused_by_name(entry: dict[str, Any], words: str) -> None:
    with pytest.raises((InputError, UnknownNameError), match=words):
        t.chain_of([entry])


@pytest.mark.anyio
async def test_chains_that_begin_alike_share_their_samples(tmp_path: Path) -> None:
    engine = ScriptedEngine(lambda prompt, number: "Score: 5" if "Judge" in prompt else f"draft {number}")
    options: dict[str, Any] = {"engine": engine, "cache": "study"}
    with plait.Journal(tmp_path / "runs.db") as journal:
        voted = await t.self_consistency(samples=3).run("the task", journal=journal, **options)
        assert engine.calls == 3
        chosen = await t.best_of_n(samples=3).run("the task", journal=journal, **options)
        assert engine.calls == 6
        more = await t.self_consistency(samples=5).run("the task", journal=journal, **options)
    texts = [{candidate.text for candidate in result.candidates} for result in (voted, chosen, more)]
    assert engine.calls == 8
    assert texts[0] == texts[1] < texts[2]

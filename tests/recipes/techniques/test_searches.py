"""Searches over steps: the known best is found with the calls expected, ties are the seed's, prefixes are shared."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import plait
from plait.engines import Choice
from plait.engines.scripted import ScriptedEngine
from plait.errors import InputError
from plait.orchestrator import Budget, NodeNote, compile_graph
from plait.recipes import techniques as t
from plait.recipes.techniques.tree import ROOT

GOAL = "bcb."
"""The one right answer: letters a, b, c in turn, then a full stop, which ends it."""


class Letters:
    """Proposes the letters in turn at every fork, three letters and a full stop make an answer."""

    def __init__(self) -> None:
        self.drawn: Counter[str] = Counter()
        self.engine = ScriptedEngine(self.reply)

    def reply(self, prompt: str, number: int) -> str:
        said = prompt.rpartition("<|assistant|>")[2]
        if len(said.split()) == 3:
            return " ."
        letter = "abc"[self.drawn[said] % 3]
        self.drawn[said] += 1
        return f" {letter}\n\n"


def near(task: str, text: str) -> float:
    """How much of the text is the goal's beginning, 0 where it has left it."""
    letters = "".join(text.split())
    return len(letters) / len(GOAL) if GOAL.startswith(letters) else 0.0


FULL: dict[str, Any] = {"check": near, "width": 3, "depth": 4}
SEARCHES: list[tuple[t.TreeSearch, int]] = [
    (t.Beam(beams=1, **FULL), 9 + 3),
    (t.Beam(beams=2, **FULL), 3 + 6 + 6 + 6),
    (t.TreeOfThoughts(keep=1, **FULL), 9 + 3),
    (t.TreeOfThoughts(first="depth", least=0.1, **FULL), 9 + 3),
    (t.AStar(**FULL), 9 + 3),
    (t.MonteCarlo(explore=0.5, **{**FULL, "expansions": 8}), 9 + 3),
    (t.Particles(particles=6, **{**FULL, "expansions": 24}), 24),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("search", "calls"), SEARCHES, ids=lambda value: getattr(value, "kind", ""))
async def test_the_known_best_is_found_with_the_calls_expected(search: t.TreeSearch, calls: int) -> None:
    letters, events = Letters(), list[Any]()
    result = await t.searched(search).run("go", engine=letters.engine, listeners=[events.append])
    assert "".join(result.answer.split()) == GOAL
    assert result.candidates[0].score == 1.0
    assert letters.engine.calls == calls
    assert [event.data for event in events if isinstance(event, NodeNote) and event.name == "thoughts"] == [calls]
    assert letters.engine.held == 0
    foreseen = compile_graph(t.searched(search), letters.engine).as_dict()["calls"]["think"]
    assert calls <= foreseen


@pytest.mark.anyio
async def test_an_expansion_encodes_nothing_again() -> None:
    letters = Letters()
    one = await t.ensemble(samples=1).run("go", engine=Letters().engine)
    result = await t.searched(t.Beam(beams=2, **FULL)).run("go", engine=letters.engine)
    assert (result.usage.prefilled, result.usage.recomputed) == (one.usage.prefilled, 0)


@pytest.mark.anyio
async def test_expanding_costs_no_prefill_on_the_local_engine() -> None:
    async with plait.open_engine("local") as engine:
        search = t.Beam(check=lambda task, text: len(text) / 100, beams=2, width=2, depth=4, max_tokens=4, step=())
        once = await t.ensemble(samples=1).run("24: 3 8 1", engine=engine)
        result = await t.searched(search).run("24: 3 8 1", engine=engine)
    prompt = once.usage.prefilled + once.usage.cached
    assert result.usage.prefilled + result.usage.cached == prompt
    assert result.usage.recomputed == 0
    assert result.usage.generated > 8


@pytest.mark.anyio
async def test_grammar_states_are_forked_with_their_contexts() -> None:
    async with plait.open_engine("local") as engine:
        search = t.Beam(
            check=lambda task, text: text.count("b") / 10,
            beams=2,
            depth=9,
            max_tokens=1,
            grammar=Choice(("aaaa", "abab", "bbbb")),
        )
        result = await t.searched(search).run("x", engine=engine)
    assert result.candidates
    assert {candidate.text for candidate in result.candidates} <= {"aaaa", "abab", "bbbb"}


@pytest.mark.anyio
@pytest.mark.parametrize("search", [t.Beam, t.AStar, t.MonteCarlo, t.Particles, t.TreeOfThoughts])
async def test_ties_are_the_seeds_to_break(search: Any) -> None:
    async def chosen(seed: int) -> str:
        made = search(check=lambda task, text: 0.5, width=3, depth=2, expansions=9)
        return (await t.searched(made).run("go", engine=Letters().engine, seed=seed)).answer

    answers = [await chosen(seed) for seed in range(8)]
    assert [await chosen(seed) for seed in range(8)] == answers
    assert len(set(answers)) > 1


@pytest.mark.anyio
async def test_an_unfinished_search_gives_the_best_there_is() -> None:
    result = await t.searched(t.Beam(beams=1, expansions=2, check=near, depth=9)).run("go", engine=Letters().engine)
    assert ("".join(result.answer.split()), result.candidates[0].score) == ("bc", 0.5)
    assert len(result.rejected) == 4
    spent = Budget(tokens=24)
    result = await t.searched(t.Beam(beams=1, check=near, depth=9)).run("go", engine=Letters().engine, budget=spent)
    assert "".join(result.answer.split()) in ("b", "bc")


@pytest.mark.anyio
async def test_an_expansion_runs_its_steps_side_by_side() -> None:
    letters = Letters()
    await t.searched(t.Beam(beams=2, **FULL)).run("go", engine=letters.engine)
    assert letters.engine.peak_active == 6


@pytest.mark.anyio
@pytest.mark.parametrize("value", ["judge", "reward"])
async def test_partial_answers_are_judged_by_a_model(value: Any) -> None:
    letters = Letters()

    def reply(prompt: str, number: int) -> str:
        judged = re.search(r"Answer so far:\n(.*?)\n\nThink briefly", prompt, re.DOTALL)
        return f"Score: {10 * near('', judged[1])}" if judged else letters.reply(prompt, number)

    def score(prompt: str, continuation: str) -> float:
        judged = re.search(r"Answer so far:\n(.*?)\n\nIs this right", prompt, re.DOTALL)
        assert judged is not None
        return near("", judged[1]) if continuation == "yes" else 0.0

    engine = ScriptedEngine(reply, score=score)
    result = await t.searched(t.Beam(beams=1, width=3, depth=4, value=value)).run("go", engine=engine)
    assert "".join(result.answer.split()) == GOAL
    assert engine.calls == (24 if value == "judge" else 12)


# ---- whole answers


@pytest.mark.anyio
async def test_adaptive_branching_goes_wide_and_deep() -> None:
    engine = ScriptedEngine(lambda prompt, number: f"answer {prompt.count('can be better')} {number}")
    search = t.AdaptiveBranching(check=lambda task, text: int(text.split()[1]) / 4, expansions=12)
    result = await t.searched(search).run("go", engine=engine)
    assert engine.calls == 12 == len(result.candidates)
    depths = [int(candidate.text.split()[1]) for candidate in result.candidates]
    assert depths == sorted(depths, reverse=True)
    assert depths[0] > 1 > depths[-1] == 0
    assert result.usage.recomputed == 0


# ---- the tree as data


def test_f_never_falls_along_a_path() -> None:
    search, tree = t.AStar(check=near), t.Tree(0)
    parent = ROOT
    for value in (0.5, 0.9, 0.2, 0.8, 0.1):
        grown = tree.add(parent, "x", value, finished=False)
        search.tell(tree, [grown])
        parent = grown.index
    costs = [thought.cost for thought in tree.path(parent)]
    assert costs == sorted(costs, reverse=True)
    assert tree[parent].total == pytest.approx(0.7 + 0.7)


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12), st.integers(1, 12), st.integers(0, 99))
def test_a_draw_is_of_all_particles_in_their_order(values: list[float], particles: int, seed: int) -> None:
    tree = t.Tree(seed)
    tree.front = [tree.add(ROOT, "x", value, finished=False).index for value in values]
    drawn = t.Particles(particles=particles, check=near).ask(tree)
    assert len(drawn) == particles
    assert drawn == sorted(drawn)
    assert set(drawn) <= set(range(1, len(values) + 1))


def test_a_sure_particle_takes_the_draw() -> None:
    tree = t.Tree(3)
    tree.front = [tree.add(ROOT, "x", value, finished=False).index for value in (0.0, 1.0, 0.0)]
    assert t.Particles(particles=5, check=near).ask(tree) == [2] * 5


def test_values_come_back_to_all_above() -> None:
    tree = t.Tree(0)
    one = tree.add(ROOT, "x", 0.4, finished=False)
    two = tree.add(one.index, "y", 0.8, finished=True)
    t.MonteCarlo(check=near).tell(tree, [one, two])
    assert [(thought.visits, thought.total) for thought in tree.thoughts] == [
        (2, pytest.approx(1.2)),
        (2, pytest.approx(1.2)),
        (1, 0.8),
    ]
    assert tree.text(two.index) == "xy"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: t.Beam(beams=0), "beams=0 can't be used"),
        (lambda: t.AStar(at_once=0), "at_once=0 can't be used"),
        (lambda: t.MonteCarlo(expansions=0), "expansions=0 can't be used"),
        (lambda: t.Particles(particles=40), "expansions=32 are too few for one step of 40 particles"),
    ],
)
def test_what_can_not_be_searched_is_refused(make: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()

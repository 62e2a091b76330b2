"""Judges and annotators on a scripted model: passes, both orders, what is no judgement."""

from __future__ import annotations

import pytest

import plait
from plait.engines.scripted import ScriptedEngine
from plait.errors import InputError
from plait.recipes.trajectories import Step, Trajectory, annotate, rate, sopr, sowr

pytestmark = pytest.mark.anyio

GOOD = Trajectory("2+3?", (Step("add", "calculate", {"expression": "2+3"}, "5"),), "5", edges="1->2")
BAD = Trajectory("2+3?", (), "6")


async def test_the_pass_rate_is_the_mean_of_the_passes() -> None:
    scripted = ScriptedEngine(["solved", "Unsure.", "unsolved"])
    assert await sopr().run(GOOD.as_json(), engine=scripted) == 0.5
    assert "Task: 2+3?" in scripted.prompts[0]
    assert 'calculate({"expression": "2+3"}) gave 5' in scripted.prompts[0]
    assert len({asked.sampling.seed for asked in scripted.asked}) == 3


async def test_a_judge_that_likes_the_first_makes_a_tie() -> None:
    assert await sowr().run(GOOD.as_json(), BAD.as_json(), engine=ScriptedEngine(["first"] * 6)) == 0.5


async def test_a_judge_that_likes_the_better_makes_a_win() -> None:
    def judge(prompt: str, _: int) -> str:
        return "first" if prompt.index("the answer: 5") < prompt.index("the answer: 6") else "second"

    scripted = ScriptedEngine(judge)
    assert await sowr(passes=1).run(GOOD.as_json(), BAD.as_json(), engine=scripted) == 1.0
    assert await sowr(passes=2).run(BAD.as_json(), GOOD.as_json(), engine=scripted) == 0.0
    assert await sowr(passes=1).run(BAD.as_json(), GOOD.as_json(), engine=ScriptedEngine(["tie"] * 2)) == 0.5


async def test_what_is_no_judgement_is_a_named_error() -> None:
    with pytest.raises(plait.PlaitError, match=r"one of solved, unsure, unsolved; it said 'well'"):
        await sopr(passes=1).run(GOOD.as_json(), engine=ScriptedEngine(["well"]))
    other = Trajectory("2+4?", (), "6").as_json()
    with pytest.raises(plait.PlaitError, match="different tasks"):
        await sowr().run(GOOD.as_json(), other, engine=ScriptedEngine([]))
    with pytest.raises(plait.PlaitError, match="is no JSON"):
        await sopr().run("{", engine=ScriptedEngine([]))


async def test_the_embedded_model_may_be_a_judge() -> None:
    """Any engine may: its grammar holds it to the words, whatever it thinks."""
    assert 0.0 <= await sopr(passes=2).run(GOOD.as_json(), engine="local") <= 1.0


async def test_rates_have_errors() -> None:
    found = rate([1.0, 0.5, 0.0, 0.5])
    assert (found.mean, found.count) == (0.5, 4)
    assert found.error == pytest.approx((0.5 / 3 / 4) ** 0.5)
    assert rate([1.0]).error == 0.0
    with pytest.raises(InputError, match="one trajectory at least"):
        rate([])


# ---- annotation


async def test_an_annotator_is_told_what_is_wrong_and_asked_again() -> None:
    scripted = ScriptedEngine(["2->1", "1->2"])
    assert await annotate().run(GOOD.as_json(), engine=scripted) == "1->2"
    assert "must be the answer" in scripted.prompts[1]


async def test_an_annotator_that_finds_no_graph_is_a_named_error() -> None:
    with pytest.raises(plait.PlaitError, match="in 3 tries: the calls need each other in a circle"):
        await annotate().run(GOOD.as_json(), engine=ScriptedEngine(["1->2,2->1"] * 3))

"""The evaluation counts what is right, what is wrong and what failed."""

from __future__ import annotations

import pytest

from plait.engines.scripted import ScriptedEngine
from plait.recipes.training.evaluate import COUNTRIES, Score, evaluate, table

PARALLEL = ["parallel queries"]


@pytest.mark.anyio
async def test_an_engine_that_knows_nothing_is_right_about_the_unknown() -> None:
    engine = ScriptedEngine(lambda prompt, call: "\\boxed{unknown}")
    number, unknown = await evaluate(engine, count=5, families=["unknown fact", "number"], formats=PARALLEL)
    assert (unknown.right, number.right) == (5, 0)
    assert number.failed == 0
    assert len(number.wrong) == 5


@pytest.mark.anyio
async def test_a_run_that_fails_is_a_miss() -> None:
    (score,) = await evaluate(ScriptedEngine(lambda prompt, call: "?"), count=3, families=["text"], formats=PARALLEL)
    assert (score.right, score.asked, score.failed) == (0, 3, 3)


@pytest.mark.anyio
async def test_a_countdown_path_is_judged_by_arithmetic() -> None:
    engine = ScriptedEngine(lambda prompt, call: "<ret>1+1=3</ret>")
    (score,) = await evaluate(engine, count=3, families=["Countdown, 3 numbers"], formats=["serial"])
    assert score.right == 0


@pytest.mark.anyio
async def test_country_questions_are_there() -> None:
    engine = ScriptedEngine(lambda prompt, call: "\\boxed{unknown}")
    (score,) = await evaluate(engine, families=[COUNTRIES], formats=PARALLEL)
    assert score.asked >= 100
    assert 0 < score.right < score.asked


def test_the_table_has_a_row_a_family_and_a_column_a_format() -> None:
    text = table([Score("a", "x", 1, 2, 0, 0.0), Score("a", "y", 2, 2, 0, 0.0), Score("b", "x", 0, 2, 0, 0.0)])
    assert text.splitlines()[2:] == ["| a | 50.0% of 2 | 100.0% of 2 |", "| b | 0.0% of 2 |  |"]

"""Calls that a person must approve, and questions that a tool puts: in graphs, in drivers, in resumed runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import plait
from plait.errors import GraphError, NodeError, ToolError, ToolRefusedError
from plait.orchestrator import Scope

pytestmark = pytest.mark.anyio


@plait.tool(approve=True, secret=("key",))
async def pay(amount: int, key: str = "") -> int:
    """Pay."""
    return amount


@plait.graph
def bill(g: plait.Builder, amounts: list[int]) -> list[int]:
    return g.map(pay, amounts)


def says(answers: Sequence[bool], asked: list[str]) -> Any:
    def answer(question: plait.Question) -> bool:
        asked.append(question.text)
        return answers[len(asked) - 1]

    return answer


async def test_a_person_is_asked_before_each_call() -> None:
    asked: list[str] = []
    assert await bill.run([3, 4], engine=None, answer=says([True, True], asked)) == [3, 4]
    assert sorted(asked) == ["May pay(amount=3) be called?", "May pay(amount=4) be called?"]


async def test_a_refused_call_is_an_error_that_says_so() -> None:
    with pytest.raises(NodeError, match="a person refused this call") as failed:
        await bill.run([3], engine=None, answer=says([False], []))
    assert isinstance(failed.value.__cause__, ToolRefusedError)


async def test_a_run_that_has_nobody_to_ask_is_refused_before_it_begins() -> None:
    with pytest.raises(GraphError, match="asks a person, but the run has nobody to ask"):
        await bill.run([3], engine=None)


async def test_a_secret_argument_is_not_shown_to_the_person() -> None:
    asked: list[str] = []

    @plait.graph
    def once(g: plait.Builder, key: str) -> int:
        return g.call(pay, amount=1, key=key)

    assert await once.run("opensesame", engine=None, answer=says([True], asked)) == 1
    assert asked == ["May pay(amount=1, key='[secret]') be called?"]


async def test_what_was_approved_is_not_asked_again_when_the_run_goes_on(tmp_path: Path) -> None:
    reached: list[int] = []

    @plait.tool(approve=True)
    async def flaky(number: int) -> int:
        """Fails the first time."""
        reached.append(number)
        if len(reached) == 1:
            raise OSError("the network is down")
        return number

    @plait.graph
    def once(g: plait.Builder, number: int) -> int:
        return g.call(flaky, number=number)

    asked: list[str] = []
    with plait.Journal(tmp_path / "runs.db") as journal:
        with pytest.raises(NodeError, match="the network is down"):
            await once.run(7, engine=None, answer=says([True], asked), journal=journal)
        run = journal.runs()[0].run
        with pytest.raises(NodeError, match="may have happened"):
            await once.run(engine=None, answer=says([], asked), journal=journal.resume(run))
        (uncertain,) = journal.uncertain(run)
        journal.resolve(run, uncertain.path, "again")
        assert await once.run(engine=None, answer=says([], asked), journal=journal.resume(run)) == 7
    assert (len(asked), reached) == (1, [7, 7])


async def test_a_tool_can_put_a_question_whose_answer_is_kept(tmp_path: Path) -> None:
    async def drive(scope: Scope, topic: str) -> str:
        outcomes = await scope.settle([(plait.tools.ask_person, {"question": f"Which {topic}?"})])
        return outcomes[0].text

    @plait.graph
    def once(g: plait.Builder, topic: str) -> str:
        return g.drive(drive, topic=topic)

    with plait.Journal(tmp_path / "runs.db") as journal:
        assert await once.run("year", engine=None, answer=lambda question: "1999", journal=journal) == "1999"
        assert await once.run(engine=None, journal=journal.replay(journal.runs()[0].run)) == "1999"


async def test_a_question_outside_a_run_says_that_it_needs_one() -> None:
    with pytest.raises(ToolError, match="a question is put by a run"):
        await plait.tools.ask_person("Which year?")


async def test_a_fact_is_found_once_and_a_text_is_cut_where_the_run_that_goes_on_cuts_it(tmp_path: Path) -> None:
    found: list[int] = []

    async def drive(scope: Scope, text: str) -> str:
        first = await scope.fact("number", lambda: found.append(1) or len(found))
        return f"{first} {await scope.shortened(text, 3)} {await scope.shortened('abc', 3)}"

    @plait.graph
    def once(g: plait.Builder, text: str) -> str:
        return g.drive(drive, text=text)

    engine = plait.open_engine("local")
    async with engine as local:
        with plait.Journal(tmp_path / "runs.db") as journal:
            value = await once.run("seven words make a text that is long", engine=local, journal=journal)
            run = journal.runs()[0].run
            assert await once.run(engine=None, journal=journal.replay(run)) == value
    assert value.startswith("1 ")
    assert value.endswith("characters left out] abc")
    assert found == [1]

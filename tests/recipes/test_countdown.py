"""Countdown on a scripted model: children are isolated, joins labelled in spawn order, claims verified."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import plait
from plait.engines.scripted import ScriptedEngine
from plait.errors import InputError
from plait.recipes.countdown import reaches, read_task


@pytest.mark.anyio
async def test_children_run_apart_and_join_in_spawn_order() -> None:
    def reply(prompt: str, call: int) -> str:
        task = prompt.rpartition("<|user|>")[2]
        if "<join>" in task:
            return "<ret>8-3=5,5*2=10</ret>"
        if "8 3 2" in task:
            return "<spawn>8+3=11;11 2|8-3=5;5 2|8*3=24;24 2</spawn>"
        return "5*2=10!<ret>5*2=10</ret>" if "5 2" in task else "11-2=9<ret>none</ret>"

    scripted = ScriptedEngine(reply)
    assert await plait.recipes.countdown().run("10: 3 8 2", engine=scripted) == "8-3=5,5*2=10"
    threads = [prompt.splitlines()[-1].removeprefix("<|assistant|>") for prompt in scripted.prompts]
    assert threads[-1].endswith("<join>8-3=5,5*2=10</join>")
    assert threads[:-1] == [""] * 4


@pytest.mark.anyio
async def test_a_wrong_claim_is_not_passed_on() -> None:
    scripted = ScriptedEngine(["8*3=10;<ret>8*3=10,10/1=10</ret>"])
    assert await plait.recipes.countdown_serial().run("10: 8 3 2", engine=scripted) == "none"


@pytest.mark.parametrize(
    "task", ["", "24", "24:", "make 24 from 3 and 8", "24: 3", "24: 3 x", "-1: 2 3", "24: " + "1 " * 9]
)
def test_a_task_that_is_no_countdown_is_refused(task: str) -> None:
    with pytest.raises(InputError, match="target: numbers"):
        read_task(task)


def test_a_task_is_read_largest_first() -> None:
    assert read_task(" 24: 3, 8 1 2 ") == (24, [8, 3, 2, 1])


@pytest.mark.parametrize(
    ("path", "right"),
    [
        ("8*3=24", True),
        ("8*3=25", False),
        ("3*8=24", True),
        ("8/3=2", False),
        ("8-3=5", False),
        ("8*3=24,24+1=25", False),
        ("8*8=64", False),
        ("none", False),
        ("", False),
        ("8/0=1", False),
    ],
)
def test_paths_are_verified(path: str, right: bool) -> None:
    assert reaches(path, 24, [8, 3]) is right


@given(st.text(alphabet="0123456789+-*/=, ", max_size=40))
def test_any_path_is_judged(path: str) -> None:
    assert reaches(path, 24, [8, 3, 1]) in (True, False)

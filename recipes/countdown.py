"""Countdown: reach a target from given numbers, serially or by spawn and join (Adaptive Parallel Reasoning, 2025)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..engines import Regex
from ..errors import InputError
from ..orchestrator import Builder, Graph, Scope, graph
from .apr import NONE, RETURN, RETURN_END, Join, Spawn, SpawnFormat, SpawnLimits, between, needs, spawn_and_join
from .prompt import conversation

STEP = r"\d+[-+*/]\d+=\d+"
PATH = rf"<ret>({STEP}(,{STEP})*|none)</ret>"
PARALLEL = Regex(rf"(<spawn>{STEP};[\d ]+(\|{STEP};[\d ]+)*</spawn>|({STEP}!?( {STEP}!?)*)?{PATH})")
AFTER_JOIN = Regex(PATH)
SERIAL = Regex(rf"({STEP};[\d ]+:({STEP}!?( {STEP}!?)*)?\|)*{PATH}")


def countdown(
    *,
    max_tokens: int = 1024,
    max_children: int = 100,
    max_depth: int = 4,
    max_calls: int = 100_000,
    join: Join = "keep",
) -> Graph[str]:
    """A graph that gives the steps to the target, or "none". Every first step is a child of its own, side by side.

    The task reads "24: 3 8 1 2". A child sees its own numbers only; its results come back labelled, in spawn order.
    The embedded model was trained with the spawn's text before the join, so that is kept; see `apr` for the others.
    """
    limits = SpawnLimits(
        max_tokens=max_tokens,
        max_children=max_children,
        max_depth=max_depth,
        max_calls=max_calls,
        max_spawns=1,
        join=join,
    )

    async def solve(scope: Scope, task: str) -> str:
        target, numbers = read_task(task)
        path = await spawn_and_join(scope, _write_task(target, numbers), STEPS, limits)
        return path if reaches(path, target, numbers) else NONE

    @graph(name="countdown")
    def build(g: Builder, task: str) -> str:
        return g.drive(solve, task=task, needs=needs(join))

    return build


def countdown_serial(*, max_tokens: int = 2048) -> Graph[str]:
    """The same in one thread: the steps are tried one after the other."""

    async def solve(scope: Scope, task: str) -> str:
        target, numbers = read_task(task)
        context = await scope.start(conversation("countdown_serial", _write_task(target, numbers)))
        written = await scope.generate(
            context, max_tokens=max_tokens, stop=[RETURN_END], grammar=scope.supported(SERIAL)
        )
        path = between(written.text, RETURN, RETURN_END)
        return path if reaches(path, target, numbers) else NONE

    @graph(name="countdown_serial")
    def build(g: Builder, task: str) -> str:
        return g.drive(solve, task=task)

    return build


def read_task(task: str) -> tuple[int, list[int]]:
    """Target and numbers of "24: 3 8 1 2" (commas are fine). Raises InputError."""
    found = re.fullmatch(r"\s*(\d{1,6})\s*:\s*(\d{1,4}(?:[\s,]+\d{1,4}){1,5})\s*", task)
    if not found:
        raise InputError(f"a Countdown task reads 'target: numbers', such as '24: 3 8 1 2'; got {task[:80]!r}")
    return int(found[1]), sorted((int(number) for number in re.split(r"[\s,]+", found[2])), reverse=True)


def reaches(path: str, target: int, numbers: list[int]) -> bool:
    """Whether the steps are right, use each number once and end at the target."""
    left = list(numbers)
    for step in path.split(","):
        found = re.fullmatch(r"(\d+)([-+*/])(\d+)=(\d+)", step)
        if not found:
            return False
        first, second, result = int(found[1]), int(found[3]), int(found[4])
        for number in (first, second):
            if number not in left:
                return False
            left.remove(number)
        exact = {"+": first + second, "-": first - second, "*": first * second}
        if found[2] == "/":
            if second == 0 or first % second or first // second != result:
                return False
        elif exact[found[2]] != result:
            return False
        left.append(result)
    return left == [target]


def _write_task(target: int, numbers: list[int]) -> str:
    return f"{target}: {' '.join(map(str, numbers))}"


def _read_steps(task: str, spawned: str) -> list[Spawn]:
    """The children of "8-3=5;5 2|8*3=24;24 2": first steps, and the numbers that each leaves."""
    target, children = task.split(":")[0], [child.partition(";") for child in spawned.split("|")]
    return [Spawn(step, f"{target}: {numbers}") for step, _, numbers in children]


def _write_paths(spawns: Sequence[Spawn], paths: Sequence[str]) -> str:
    """The paths that lead to the target, each with the step that it began with."""
    found = [f"{spawn.title},{path}" for spawn, path in zip(spawns, paths, strict=True) if path != NONE]
    return "|".join(found) or NONE


STEPS = SpawnFormat(prompt="countdown", read=_read_steps, write=_write_paths, grammar=PARALLEL, after_join=AFTER_JOIN)

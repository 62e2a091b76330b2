"""Countdown: reach a target from given numbers, serially or by spawn and join (Adaptive Parallel Reasoning, 2025)."""

from __future__ import annotations

import re
from functools import partial

from ..engines import Regex
from ..errors import FormatError, InputError
from ..orchestrator import Builder, Graph, Scope, graph
from .prompt import conversation

SPAWN_END, RETURN, RETURN_END = "</spawn>", "<ret>", "</ret>"
STEP = r"\d+[-+*/]\d+=\d+"
PATH = rf"<ret>({STEP}(,{STEP})*|none)</ret>"
PARALLEL = Regex(rf"(<spawn>{STEP};[\d ]+(\|{STEP};[\d ]+)*</spawn>|({STEP}!?( {STEP}!?)*)?{PATH})")
AFTER_JOIN = Regex(PATH)
SERIAL = Regex(rf"({STEP};[\d ]+:({STEP}!?( {STEP}!?)*)?\|)*{PATH}")


def countdown(*, max_tokens: int = 1024, max_depth: int = 4) -> Graph[str]:
    """A graph that gives the steps to the target, or "none". Every first step is a child of its own, side by side.

    The task reads "24: 3 8 1 2". A child sees its own numbers only; its results come back labelled, in spawn order.
    """

    async def search(scope: Scope, task: str, depth: int) -> str:
        context = await scope.start(conversation("countdown", task))
        written = await scope.generate(
            context, max_tokens=max_tokens, stop=[SPAWN_END, RETURN_END], grammar=scope.supported(PARALLEL)
        )
        if written.text.endswith(SPAWN_END):
            if depth == 0:
                raise FormatError(f"spawned deeper than max_depth={max_depth}")
            joined = await join(scope, written.text, target=task.split(":")[0], depth=depth - 1)
            context = await scope.extend(written.context, f"<join>{joined}</join>")
            written = await scope.generate(
                context, max_tokens=max_tokens, stop=[RETURN_END], grammar=scope.supported(AFTER_JOIN)
            )
        return _returned(written.text)

    async def join(scope: Scope, text: str, *, target: str, depth: int) -> str:
        children = [child.split(";") for child in text[len("<spawn>") : -len(SPAWN_END)].split("|")]
        paths = await scope.gather(
            [(step, partial(search, task=f"{target}: {numbers}", depth=depth)) for step, numbers in children]
        )
        found = [f"{step},{path}" for (step, _), path in zip(children, paths, strict=True) if path != "none"]
        return "|".join(found) or "none"

    async def solve(scope: Scope, task: str) -> str:
        target, numbers = read_task(task)
        path = await search(scope, _write_task(target, numbers), max_depth)
        return path if reaches(path, target, numbers) else "none"

    @graph(name="countdown")
    def build(g: Builder, task: str) -> str:
        return g.drive(solve, task=task)

    return build


def countdown_serial(*, max_tokens: int = 2048) -> Graph[str]:
    """The same in one thread: the steps are tried one after the other."""

    async def solve(scope: Scope, task: str) -> str:
        target, numbers = read_task(task)
        context = await scope.start(conversation("countdown_serial", _write_task(target, numbers)))
        written = await scope.generate(
            context, max_tokens=max_tokens, stop=[RETURN_END], grammar=scope.supported(SERIAL)
        )
        path = _returned(written.text)
        return path if reaches(path, target, numbers) else "none"

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


def _returned(text: str) -> str:
    _, start, rest = text.rpartition(RETURN)
    if not start or not rest.endswith(RETURN_END):
        raise FormatError(f"a Countdown thread ended without {RETURN}…{RETURN_END}: {text[-200:]!r}")
    return rest.removesuffix(RETURN_END)

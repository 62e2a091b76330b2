"""Countdown: reach a target with all numbers, each used once; solver and search documents (APR)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache
from zlib import crc32

from .formats import END, Document, Piece, joined, prompt

LARGEST = 200
NONE = "none"
SPAWN = ("<spawn>", "</spawn>")
JOIN = ("<join>", "</join>")
RETURN = ("<ret>", "</ret>")

State = tuple[int, ...]
Step = tuple[str, State]


def operations(left: int, right: int) -> list[tuple[str, int]]:
    """The allowed operations on two numbers, larger first, each with its result."""
    high, low = max(left, right), min(left, right)
    found = []
    if high + low <= LARGEST:
        found.append((f"{high}+{low}={high + low}", high + low))
    if high > low:
        found.append((f"{high}-{low}={high - low}", high - low))
    if low > 1 and high * low <= LARGEST:
        found.append((f"{high}*{low}={high * low}", high * low))
    if low > 1 and high % low == 0:
        found.append((f"{high}/{low}={high // low}", high // low))
    return found


@lru_cache(maxsize=200_000)
def expand(state: State) -> tuple[Step, ...]:
    """Every operation on two numbers of a state (in descending order), with the state that follows."""
    steps = []
    for first in range(len(state)):
        for second in range(first + 1, len(state)):
            rest = [state[index] for index in range(len(state)) if index not in (first, second)]
            for text, result in operations(state[first], state[second]):
                steps.append((text, tuple(sorted([*rest, result], reverse=True))))
    return tuple(steps)


@lru_cache(maxsize=200_000)
def solve(target: int, state: State) -> tuple[str, ...] | None:
    """The first path that reaches the target, or None."""
    if len(state) == 1:
        return () if state[0] == target else None
    for text, following in expand(state):
        path = solve(target, following)
        if path is not None:
            return (text, *path)
    return None


def is_held_out(numbers: Sequence[int]) -> bool:
    """Whether a set of numbers belongs to the evaluation: one in eight, by a hash."""
    return crc32(words(sorted(numbers, reverse=True)).encode()) % 8 == 0


def task(rng: random.Random, count: int, *, solvable: float = 0.85, held_out: bool = False) -> tuple[int, State]:
    """Draw a target and numbers in descending order, from the training or the held-out sets."""
    while True:
        numbers = tuple(sorted((rng.randint(1, 25) for _ in range(count)), reverse=True))
        if count > 2 and is_held_out(numbers) != held_out:
            continue
        target = _reached(rng, numbers) if rng.random() < solvable else rng.randint(10, 100)
        if 10 <= target <= 100:
            return target, numbers


def words(numbers: Sequence[int]) -> str:
    """Numbers as a prompt shows them."""
    return " ".join(map(str, numbers))


def serial_document(target: int, state: State) -> Document:
    """One thread that tries every first operation and, below it, every last one (3 numbers)."""
    tried, found = "", NONE
    for text, following in expand(state):
        leaves, last = _leaves(target, following)
        tried += f"{text};{words(following)}:{leaves}|"
        if last:
            found = f"{text},{last}"
            break
    return joined([_prompt("serial", target, state), Piece(f"{tried}{_returned(found)}", True)])


def parallel_document(target: int, state: State) -> Document:
    """One thread of a search that spawns a child for every first operation and copies the first path that returns."""
    first = _prompt("parallel", target, state)
    if len(state) == 2:
        leaves, last = _leaves(target, state)
        return joined([first, Piece(f"{leaves}{_returned(last or NONE)}", True)])
    steps = expand(state)
    spawned = "|".join(f"{text};{words(following)}" for text, following in steps)
    paths = [(text, solve(target, following)) for text, following in steps]
    results = [",".join((text, *path)) for text, path in paths if path is not None]
    return joined(
        [
            first,
            Piece(f"{SPAWN[0]}{spawned}{SPAWN[1]}", True),
            Piece(f"{JOIN[0]}{'|'.join(results) or NONE}{JOIN[1]}", False),
            Piece(_returned(results[0] if results else NONE), True),
        ]
    )


def substate(rng: random.Random, count: int, *, roots: Sequence[int] = (3, 4)) -> tuple[int, State]:
    """A state of `count` numbers as it occurs below a larger root, with solvable ones oversampled."""
    while True:
        target, state = task(rng, rng.choice([root for root in roots if root > count]))
        path = solve(target, state) if rng.random() < 0.4 else None
        while len(state) > count and expand(state):
            steps = dict(expand(state))
            state = steps[path[-(len(state) - 1)]] if path else rng.choice(list(steps.values()))
        if len(state) == count and expand(state) and not (count > 2 and is_held_out(state)):
            return target, state


def _prompt(tag: str, target: int, state: State) -> Piece:
    return prompt(tag, f"{target}: {words(state)}")


def _returned(path: str) -> str:
    return f"{RETURN[0]}{path}{RETURN[1]}{END}"


def _leaves(target: int, state: State) -> tuple[str, str]:
    """The operations on the last two numbers up to the one that hits (marked `!`), and that one."""
    tried: list[str] = []
    for text, following in expand(state):
        if following == (target,):
            return " ".join([*tried, text + "!"]), text
        tried.append(text)
    return " ".join(tried), ""


def _reached(rng: random.Random, state: State) -> int:
    while len(state) > 1:
        steps = expand(state)
        if not steps:
            return 0
        state = rng.choice(steps)[1]
    return state[0]

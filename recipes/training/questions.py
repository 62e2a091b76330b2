"""The held-out questions of the evaluation: families of fact questions with unseen entities, and Countdown sets."""

from __future__ import annotations

import random
from dataclasses import replace

from . import countdown, names
from .facts_tasks import Problem, Style, problem

_PLAIN = Style(
    side_sizes=(1, 2, 3),
    total_sizes=(2, 3, 4, 5, 6),
    hop_chances=(0.0, 0.0, 0.3),
    most_hops=1,
    unknown_chance=0.0,
    varied_names=False,
    attributes=names.NUMBER_ATTRIBUTES,
    text_attributes=names.TEXT_ATTRIBUTES,
    relations=names.RELATIONS,
)
_CHAINS = replace(_PLAIN, side_sizes=(1,), total_sizes=(2,))

FAMILIES: dict[str, Style] = {
    "number": replace(_PLAIN, kinds=("number",), most_hops=0),
    "text": replace(_PLAIN, kinds=("text",), most_hops=0),
    "total of 2-6": replace(_PLAIN, kinds=("total",)),
    "difference of sums": replace(_PLAIN, kinds=("difference",)),
    "comparison of sums": replace(_PLAIN, kinds=("larger", "smaller")),
    "one hop": replace(_CHAINS, least_hops=1, most_hops=1),
    "two hops": replace(_CHAINS, least_hops=2, most_hops=2),
    "unknown fact": replace(_PLAIN, unknown_chance=1.0, most_hops=2),
    "unseen words": replace(
        _PLAIN,
        attributes=names.HELD_OUT_ATTRIBUTES,
        text_attributes=names.HELD_OUT_TEXT_ATTRIBUTES,
        relations=names.HELD_OUT_RELATIONS,
    ),
}
"""Unseen entities in all; attributes and relations of the training, but in the last, whose are unseen too."""


def questions(family: str, count: int, *, seed: int = 4242) -> list[Problem]:
    """Held-out questions of one family."""
    rng = random.Random(f"{family} {seed}")
    style = replace(FAMILIES[family], source=unseen_name)
    return [problem(rng, style) for _ in range(count)]


def unseen_name(rng: random.Random) -> str:
    """A real name that training never sees, or an invented one."""
    draw = rng.random()
    if draw < 0.35:
        return names.held_out_name(rng)
    return names.mangled(rng, rng.choice(names.SEEN_NAMES)) if draw < 0.5 else names.invented(rng)


def countdown_tasks(numbers: int, count: int, *, seed: int = 4242) -> list[tuple[int, tuple[int, ...]]]:
    """Solvable Countdown tasks on number sets that training never sees as roots."""
    rng = random.Random(f"countdown {numbers} {seed}")
    found: list[tuple[int, tuple[int, ...]]] = []
    while len(found) < count:
        target, state = countdown.task(rng, numbers, held_out=True)
        if countdown.solve(target, state) is not None:
            found.append((target, state))
    return found


def same_answer(given: str, right: str) -> bool:
    """Whether an answer is right, case, articles and outer white space aside."""
    return _normal(given) == _normal(right)


def _normal(text: str) -> str:
    return text.strip().rstrip(".").lower().removeprefix("the ")

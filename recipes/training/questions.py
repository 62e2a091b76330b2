"""The held-out questions of the evaluation: families of fact questions with unseen entities, and Countdown sets."""

from __future__ import annotations

import random
from dataclasses import replace

from . import countdown, names
from .facts_tasks import Problem, Style, problem

_HOPLESS = Style(
    side_sizes=(1, 2, 3),
    total_sizes=(2, 3, 4, 5, 6),
    hop_chances=(0.0, 0.0, 0.3),
    most_hops=1,
    unknown_chance=0.0,
    varied_names=False,
)
_CHAINS = replace(_HOPLESS, side_sizes=(1, 1, 2), total_sizes=(2, 3))

FAMILIES: dict[str, Style] = {
    "number": replace(_HOPLESS, kinds=("number",), most_hops=0),
    "text": replace(_HOPLESS, kinds=("text",), most_hops=0),
    "total": replace(_HOPLESS, kinds=("total",)),
    "difference": replace(_HOPLESS, kinds=("difference",)),
    "comparison": replace(_HOPLESS, kinds=("larger", "smaller")),
    "one hop": replace(_CHAINS, least_hops=1, most_hops=1),
    "two hops": replace(_CHAINS, least_hops=2, most_hops=2),
    "unknown": replace(_HOPLESS, unknown_chance=1.0, most_hops=2),
}


def questions(family: str, count: int, *, seed: int = 4242) -> list[Problem]:
    """Held-out questions of one family; in a fifth of them attributes and relations are unseen, too."""
    rng = random.Random(f"{family} {seed}")
    style = replace(FAMILIES[family], source=unseen_name)
    words = replace(
        style,
        attributes=names.HELD_OUT_ATTRIBUTES,
        text_attributes=names.HELD_OUT_TEXT_ATTRIBUTES,
        relations=names.HELD_OUT_RELATIONS,
    )
    return [problem(rng, words if rng.random() < 0.2 else style) for _ in range(count)]


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

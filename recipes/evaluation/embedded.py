"""Embedded tasks: generated ones on which techniques differ with the embedded model, because its samples err and the
errors can be seen, voted or searched away. All are held out from the model's training.

- "countdown": three numbers to a target in one thread. At temperature 2 four samples of five are right, and a path can
  be checked by arithmetic.
- "queries": which facts a question needs. At temperature 1.5 a sample often misspells a name, each one another way.
- "questions": multi-hop questions to be answered with tools, for recipes that call them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from difflib import get_close_matches

from ...errors import InputError, UnknownNameError
from ...tools import Tool, calculator
from ...tools.facts import lookup_in
from ..countdown import reaches, read_task
from ..prompt import render
from ..training import questions
from ..training.evaluate import fact_table
from ..training.facts_tasks import Facts, Problem, answer
from .items import Dataset, Item

COUNT = 200
SEED = 9
PATH_PATTERN = r"<ret>(.*?)(?:</ret>|$)"
QUERIES_PATTERN = r"<\|begin_search_queries\|>(.*?)(?:<\|end_search_queries\|>|$)"
_HOPS = ("total of 2-6", "difference of sums", "comparison of sums", "one hop", "two hops")


def embedded_dataset(text: str) -> Dataset:
    """The embedded tasks of a name, such as "countdown" (200 of them) or "countdown:50"."""
    name, _, count = text.partition(":")
    if name not in EMBEDDED_TASKS:
        near = get_close_matches(name, EMBEDDED_TASKS, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise UnknownNameError(f"there are no embedded tasks '{name}'; {hint}known: {', '.join(EMBEDDED_TASKS)}")
    if count and not (count.isdecimal() and 1 <= int(count) <= 10_000):
        raise InputError(f"'{count}' embedded tasks can't be made; use 1 to 10000")
    return EMBEDDED_TASKS[name](int(count or COUNT))


def countdown_dataset(count: int = COUNT) -> Dataset:
    """Solvable Countdown tasks of three numbers; the answer is any right path."""
    tasks = dict.fromkeys(questions.countdown_tasks(3, 4 * count, seed=SEED))
    items = [
        Item(id=f"countdown-{index}", task=f"{target}: {' '.join(map(str, state))}")
        for index, (target, state) in enumerate(list(tasks)[:count], 1)
    ]
    return Dataset(
        name=f"embedded:countdown:{count}",
        items=tuple(items),
        scorer="countdown",
        instructions=render("countdown_serial"),
        answer=PATH_PATTERN,
        stop=("</ret>",),
    )


def queries_dataset(count: int = COUNT) -> Dataset:
    """Questions over three to six facts; the answer is the list of queries that finds them."""
    found = [problem for problem in questions.questions("total of 2-6", 4 * count, seed=SEED) if _is_flat(problem)]
    items = [
        Item(id=f"queries-{index}", task=problem.question, answer=";\n".join(_queries(problem)))
        for index, problem in enumerate(found[:count], 1)
    ]
    return Dataset(
        name=f"embedded:queries:{count}",
        items=tuple(items),
        scorer="exact",
        instructions=render("hybrid_search"),
        answer=QUERIES_PATTERN,
        stop=("<|end_search_queries|>",),
    )


def questions_dataset(count: int = COUNT) -> Dataset:
    """Questions with hops, sums and comparisons, and a tool that knows the facts of all of them."""
    drawn = random.Random(SEED)
    known: Facts = {}
    items: list[Item] = []
    pools = [questions.questions(family, count, seed=SEED) for family in _HOPS]
    rows = [problem for group in zip(*pools, strict=True) for problem in group]
    for problem in rows:
        if len(items) < count and all(known.get(key, value) == value for key, value in problem.facts.items()):
            known.update(problem.facts)
            items.append(Item(id=f"questions-{len(items) + 1}", task=problem.question, answer=answer(problem)))
    drawn.shuffle(items)
    return Dataset(name=f"embedded:questions:{count}", items=tuple(items), scorer="exact", tools=_tools(known))


EMBEDDED_TASKS: dict[str, Callable[[int], Dataset]] = {
    "countdown": countdown_dataset,
    "queries": queries_dataset,
    "questions": questions_dataset,
}


def right_path(task: str, path: str) -> bool:
    """Whether a path solves a Countdown task: a verifier for techniques, and the scorer "countdown"."""
    target, numbers = read_task(task)
    return reaches(path.strip(), target, numbers)


def _is_flat(problem: Problem) -> bool:
    return len(problem.operands) >= 3 and not any(operand.relations for operand in problem.operands)


def _queries(problem: Problem) -> list[str]:
    return [f"{problem.attribute} of {operand.entity}" for operand in problem.operands]


def _tools(facts: Facts) -> tuple[Tool, ...]:
    return lookup_in(fact_table(facts)), calculator


__all__ = ["EMBEDDED_TASKS", "embedded_dataset", "right_path"]

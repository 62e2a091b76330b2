"""Do members that see each other cover more of a task? Group Think's and Hogwild's teams beside members that don't.

Completion coverage (Group Think, arXiv:2505.11107) is the share of a task's items that all members have found together.
It is read at equal steps, where N members have written N times as many tokens as one, and at equal tokens of all.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean
from typing import TypeAlias

import anyio

from plait.benchmarks.table import Cell, Table
from plait.engines import Context, Engine, Member, Regex, Sampling, Teamwork, open_engine
from plait.orchestrator.together import together
from plait.recipes.group_think import teamwork as group_think_teamwork
from plait.recipes.hogwild import teamwork as hogwild_teamwork
from plait.recipes.prompt import conversation
from plait.recipes.teams import names_of

CHECK_EVERY = 256
SHARES = (8, 4, 2, 1)
"""Coverage is read after the steps divided by these."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked, how many items there are to find, and which of them a text holds."""

    kind: str
    prompt: str
    required: int
    found: Callable[[str], set[str]]
    grammar: Regex
    """The form of an answer that holds nothing else."""


@dataclass(frozen=True, slots=True)
class Written:
    """What one member wrote, piece by piece, each with its sampled tokens (0 for a text that it was given)."""

    pieces: tuple[tuple[str, int], ...]

    def after(self, tokens: int) -> str:
        """The text of the first `tokens` tokens."""
        text, count = "", 0
        for piece, size in self.pieces:
            count += size
            if count > tokens:
                break
            text += piece
        return text


@dataclass(frozen=True, slots=True)
class Plan:
    """How many members write so many tokens each. `held` members write answers and nothing else, by a grammar, so that
    a model that can't be told to can be measured, too; they are given no headers."""

    members: int
    steps: int
    held: bool

    def grammar(self, task: Task) -> Regex | None:
        return task.grammar if self.held else None

    def work(self, work: Teamwork) -> Teamwork:
        return replace(work, step_header="", check="", check_every=0) if self.held else work


Arm: TypeAlias = Callable[[Engine, Task, Plan, int], Awaitable[list[Written]]]
"""`(engine, task, plan, seed)` -> what the members wrote."""


# ---- tasks


def enumeration(required: int = 50) -> Task:
    """List different two-digit numbers."""
    prompt = f"List {required} different two-digit numbers, separated by commas, none of them twice."
    found = re.compile(r"(?<!\d)[1-9]\d(?!\d)")
    grammar = Regex(r"[1-9][0-9](, [1-9][0-9])*")
    return Task("enumeration", prompt, required, lambda text: set(found.findall(text)), grammar)


def shortest_paths(seed: int, nodes: int = 5) -> Task:
    """All pairs' shortest paths of a random weighted digraph; a pair that is also stated wrongly is not found."""
    rng, names = random.Random(seed), "ABCDEFGHIJ"[:nodes]
    around = dict.fromkeys(zip(names, names[1:] + names[0], strict=True), 0)  # so that every node reaches every other
    chords = dict.fromkeys(rng.sample([(a, b) for a in names for b in names if a != b], nodes), 0)
    edges = {edge: rng.randint(1, 9) for edge in (around | chords)}
    lengths = floyd_warshall(names, edges)
    listed = ", ".join(f"{a}->{b} {length}" for (a, b), length in edges.items())
    prompt = (
        f"A directed graph has these edges, with their lengths: {listed}. For every ordered pair of different nodes, "
        f"{len(lengths)} in all, write the length of the shortest path, such as A-B=7."
    )
    pair = f"[{names}]-[{names}]=[1-9][0-9]?"
    found = partial(_stated_rightly, lengths)
    return Task("shortest paths", prompt, len(lengths), found, Regex(f"{pair}(, {pair})*"))


def floyd_warshall(names: str, edges: dict[tuple[str, str], int]) -> dict[str, int]:
    infinite = sum(edges.values()) + 1
    best = {(a, b): 0 if a == b else edges.get((a, b), infinite) for a in names for b in names}
    for through in names:
        for a, b in best:
            best[a, b] = min(best[a, b], best[a, through] + best[through, b])
    return {f"{a}-{b}": length for (a, b), length in best.items() if a != b}


def _stated_rightly(lengths: dict[str, int], text: str) -> set[str]:
    stated = re.findall(r"\b([A-J]-[A-J])=(\d{1,6})\b", text)
    wrong = {pair for pair, length in stated if lengths.get(pair) != int(length)}
    return {pair for pair, _ in stated if pair in lengths} - wrong


# ---- arms


async def independent(engine: Engine, task: Task, plan: Plan, seed: int) -> list[Written]:
    """Members that don't see each other."""
    context = await engine.start(conversation("alone", task.prompt))
    jobs = [partial(_alone, context, plan.steps, plan.grammar(task), seed + member) for member in range(plan.members)]
    return await together(jobs)


async def one(engine: Engine, task: Task, plan: Plan, seed: int) -> list[Written]:
    """A single member, who writes as many tokens as all members do elsewhere."""
    return await independent(engine, task, replace(plan, members=1, steps=plan.steps * plan.members), seed)


async def _alone(context: Context, steps: int, grammar: Regex | None, seed: int) -> Written:
    async with context.stream(max_tokens=steps, grammar=grammar, sampling=_sampling(seed)) as stream:
        return Written(tuple([(chunk.text, chunk.tokens) async for chunk in stream]))


async def _team(
    prompt: str, work: Callable[[int], Teamwork], engine: Engine, task: Task, plan: Plan, seed: int
) -> list[Written]:
    names = names_of(plan.members)
    context = await engine.start(conversation(prompt, task.prompt, names=names))
    grammar = plan.grammar(task)
    team = [
        Member(context=context, name=name, max_tokens=plan.steps, grammar=grammar, sampling=_sampling(seed + index))
        for index, name in enumerate(names)
    ]
    pieces: list[list[tuple[str, int]]] = [[] for _ in team]
    async with engine.stream_team(team, plan.work(work(plan.steps))) as stream:
        async for chunk in stream:
            pieces[chunk.member].append((chunk.text, chunk.tokens))
    return [Written(tuple(own)) for own in pieces]


def _sampling(seed: int) -> Sampling:
    return Sampling(temperature=0.6, top_p=0.95, seed=seed)


def _hogwild(steps: int) -> Teamwork:
    return hogwild_teamwork("combined", CHECK_EVERY)


ARMS: dict[str, Arm] = {
    "one": one,
    "independent": independent,
    "group_think": partial(_team, "group_think", group_think_teamwork),
    "hogwild": partial(_team, "hogwild", _hogwild),
}


# ---- the measure


def coverage(task: Task, written: Sequence[Written], steps: int) -> float:
    """The share of the items that members have found together after so many steps each."""
    return min(1.0, len(task.found("\n".join(one.after(steps) for one in written))) / task.required)


async def measure(engine: Engine, plan: Plan, *, problems: int) -> list[Table]:
    """Coverage of each kind of task by each arm, at equal steps and at equal tokens of all members."""
    kinds = [[enumeration()] * problems, [shortest_paths(seed) for seed in range(problems)]]
    members, grid = plan.members, [max(1, plan.steps // share) for share in SHARES]
    at_steps, at_tokens = list[tuple[Cell, ...]](), list[tuple[Cell, ...]]()
    for tasks in kinds:
        for name, arm in ARMS.items():
            runs = [(task, await arm(engine, task, plan, 1000 * seed)) for seed, task in enumerate(tasks)]
            at_steps.append((tasks[0].kind, name, *(_mean(runs, step) for step in grid)))
            share = 1 if name == "one" else members
            at_tokens.append((tasks[0].kind, name, *(_mean(runs, step * members // share) for step in grid)))
    held = ", held to answers" if plan.held else ""
    about = f"{members} members{held}, {problems} problems of a kind, {engine.name}; mean share of items found"
    return [
        Table("equal steps", about, ("task", "arm", *(f"{step} steps" for step in grid)), tuple(at_steps)),
        Table("equal tokens", about, ("task", "arm", *(f"{step * members} tokens" for step in grid)), tuple(at_tokens)),
    ]


def _mean(runs: Sequence[tuple[Task, list[Written]]], steps: int) -> float:
    return fmean(coverage(task, written, steps) for task, written in runs)


def main(*, engine: str, members: int, steps: int, problems: int, held: bool, as_json: bool = False) -> None:
    """Print both tables, or the same as data."""

    async def run() -> list[Table]:
        async with open_engine(engine) as opened:
            return await measure(opened, Plan(members, steps, held), problems=problems)

    tables = anyio.run(run)
    if as_json:
        print(json.dumps({"tables": [table.as_dict() for table in tables]}))
    else:
        print("\n\n".join(table.text() for table in tables))

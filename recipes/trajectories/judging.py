"""Judging: whether a task was solved, and who solved it better, by any engine as the judge (StableToolBench, 2024).

SoPR, the solvable pass rate, counts 1 for solved, 0.5 for unsure and 0 for unsolved. SoWR, the solvable win rate,
counts 1 where a trajectory is preferred to its rival, 0.5 for a tie and 0 otherwise; a pair is judged in both orders,
because judges like what they read first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import sqrt
from statistics import fmean

from ...engines import Choice, Sampling
from ...errors import FormatError, InputError
from ...orchestrator import Builder, Graph, Scope, graph
from ..prompt import conversation
from ..settings import at_least
from .trajectory import Trajectory

PASSES = 3
"""How often each judgement is passed (StableToolBench passes three)."""
SOLVED: Mapping[str, float] = {"solved": 1.0, "unsure": 0.5, "unsolved": 0.0}
FIRST: Mapping[str, float] = {"first": 1.0, "tie": 0.5, "second": 0.0}
SECOND: Mapping[str, float] = {"first": 0.0, "tie": 0.5, "second": 1.0}


@dataclass(frozen=True, slots=True)
class Rate:
    """The mean of judgements from 0 to 1, of how many, and its standard error."""

    mean: float
    count: int
    error: float


def rate(judgements: Sequence[float]) -> Rate:
    """SoPR or SoWR of a set of trajectories, from the judgement of each. Raises InputError for none."""
    if not judgements:
        raise InputError("no judgement has no mean; judge one trajectory at least")
    mean, count = fmean(judgements), len(judgements)
    spread = sum((each - mean) ** 2 for each in judgements) / max(count - 1, 1)
    return Rate(mean, count, sqrt(spread / count))


def sopr(*, passes: int = PASSES, temperature: float = 0.3) -> Graph[float]:
    """A graph that judges a trajectory (as JSON text): the mean of `passes` judgements, passed side by side."""
    at_least(1, passes=passes)

    async def judge(scope: Scope, trajectory: str) -> float:
        shown = _shown(trajectory=trajectory)
        one = partial(_judgement, prompt="sopr", shown=shown, worth=SOLVED, temperature=temperature)
        return fmean(await scope.gather([(f"pass {number + 1}", one) for number in range(passes)]))

    @graph(name="sopr")
    def build(g: Builder, trajectory: str) -> float:
        return g.drive(judge, trajectory=trajectory)

    return build


def sowr(*, passes: int = PASSES, temperature: float = 0.3) -> Graph[float]:
    """A graph that judges a trajectory against a rival for the same task (both as JSON text): the mean of `passes`
    judgements in each order, passed side by side."""
    at_least(1, passes=passes)

    async def judge(scope: Scope, trajectory: str, rival: str) -> float:
        first, second = _shown(first=trajectory, second=rival), _shown(first=rival, second=trajectory)
        orders = [("first", first, FIRST), ("second", second, SECOND)]
        jobs = [
            (
                f"{place}, pass {number + 1}",
                partial(_judgement, prompt="sowr", shown=shown, worth=worth, temperature=temperature),
            )
            for place, shown, worth in orders
            for number in range(passes)
        ]
        return fmean(await scope.gather(jobs))

    @graph(name="sowr")
    def build(g: Builder, trajectory: str, rival: str) -> float:
        return g.drive(judge, trajectory=trajectory, rival=rival)

    return build


async def _judgement(scope: Scope, *, prompt: str, shown: str, worth: Mapping[str, float], temperature: float) -> float:
    context = await scope.start(conversation(prompt, shown))
    written = await scope.generate(
        context,
        max_tokens=16,
        grammar=scope.supported(Choice(tuple(worth))),
        sampling=Sampling(temperature=temperature),
    )
    said = written.text.strip().strip(".'\"").casefold()
    if said not in worth:
        raise FormatError(f"a judge says one of {', '.join(worth)}; it said {written.text[:80]!r}")
    return worth[said]


def _shown(**trajectories: str) -> str:
    """What a judge reads: the task, and what was done, under a heading where there are several. Raises InputError."""
    done = {name: Trajectory.read_json(text) for name, text in trajectories.items()}
    tasks = {each.task for each in done.values()}
    if len(tasks) > 1:
        raise InputError(f"trajectories of different tasks can't be compared: {', '.join(map(repr, sorted(tasks)))}")
    parts = [f"The {name} agent:\n{each.text()}" if len(done) > 1 else each.text() for name, each in done.items()]
    return "\n\n".join([f"Task: {tasks.pop()}", *parts])

"""Rank: candidates put in order by a model that sees all of them (list-wise), or two at a time (pair-wise)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import ClassVar

from ...orchestrator import Scope
from .expected import Expected
from .reading import read_ranking
from .result import Candidate, Result, order
from .score import kept
from .stage import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank(Stage):
    """One call that sees all candidates, with their critiques if there are any, and answers "[4] > [2]" (Archon, 2024).

    Candidates that it leaves out follow in their order. A score is how many candidates stand behind. `top_k` are kept
    (0: all). Fewer candidates than `least` are not asked about.
    """

    kind: ClassVar[str] = "rank"

    top_k: int = 0
    least: int = 2
    use_critiques: bool = True
    max_tokens: int = 256

    async def work(self, scope: Scope, given: Result) -> Result:
        count = len(given.candidates)
        if count < max(1, self.least):
            return given
        said = await self.reply(scope, given, self.say(given, candidates=shown(given, self.use_critiques)))
        places = read_ranking(said, count)
        scores = {place: float(count - rank) for rank, place in enumerate(places, 1)}
        return given.scored([scores[place] for place in range(count)]).keep(places, self.top_k)

    def foresee(self, given: Expected) -> Expected:
        asked = given.ask(self.length + given.shown, self.max_tokens, int(given.candidates >= max(1, self.least)))
        return replace(asked, candidates=kept(given.candidates, self.top_k))


@dataclass(frozen=True, slots=True, kw_only=True)
class Compare(Stage):
    """Each pair judged once, side by side; a candidate's score is how many of the others it beats.

    Who stands first in a pair takes turns, so that a judge who prefers the first place favours nobody in the sum; where
    a judge names neither, both get half. Equal scores are told apart by the run's seed.
    """

    kind: ClassVar[str] = "compare"

    top_k: int = 0
    max_tokens: int = 128

    async def work(self, scope: Scope, given: Result) -> Result:
        pairs = list(pairs_of(len(given.candidates)))
        children = [
            (f"{one + 1} or {other + 1}", partial(self._judge, given=given, pair=(one, other))) for one, other in pairs
        ]
        wins = [0.0] * len(given.candidates)
        for (one, other), share in zip(pairs, await scope.gather(children, kind="pair"), strict=True):
            wins[one] += share
            wins[other] += 1.0 - share
        return given.scored(wins).keep(order(wins, scope.seed), self.top_k)

    def foresee(self, given: Expected) -> Expected:
        pairs = given.candidates * (given.candidates - 1) // 2
        asked = given.ask(self.length + given.task + 2 * (given.length + given.critique), self.max_tokens, pairs)
        return replace(asked, candidates=kept(given.candidates, self.top_k))

    async def _judge(self, scope: Scope, given: Result, pair: tuple[int, int]) -> float:
        """The share of the point that goes to the first of the pair."""
        one, other = (given.candidates[place] for place in pair)
        said = await self.reply(scope, given, self.say(given, first=one.text, second=other.text))
        return preferred(said)


def preferred(said: str) -> float:
    """1.0 for "[1]", 0.0 for "[2]", one half for neither; the last one named counts."""
    first, second = said.rfind("[1]"), said.rfind("[2]")
    if first == second:
        return 0.5
    return 1.0 if first > second else 0.0


def pairs_of(count: int) -> Iterator[tuple[int, int]]:
    """Each pair once; the lower place stands first in every second one."""
    for one, other in combinations(range(count), 2):
        yield (one, other) if (one + other) % 2 else (other, one)


def shown(given: Result, critiques: bool) -> list[Candidate]:
    """The candidates as a prompt shows them, with or without what critics said."""
    return list(given.candidates) if critiques else [replace(one, critique="") for one in given.candidates]

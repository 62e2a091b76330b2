"""Self-consistency: the answer that most candidates reach, plain, weighted, or sampled until it is clear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import comb
from typing import ClassVar

from ...engines import Context, Stop
from ...orchestrator import Scope
from ..settings import at_least
from .answers import answer_of, same_form
from .expected import Expected
from .generate import Generate, opening
from .result import Candidate, Result, best
from .score import kept
from .stage import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote(Stage):
    """The most frequent answer first (Wang et al., 2022); with `weighted`, the one whose candidates' scores add up to
    most. A candidate's score is then its answer's share of all. Asks no model.

    `answer` is a pattern of where the answer stands; else the usual marks are looked for. Of the candidates with the
    winning answer the first stands for it; equal shares are told apart by the run's seed.
    """

    kind: ClassVar[str] = "vote"

    weighted: bool = False
    answer: str = ""
    keep: int = 0

    async def work(self, scope: Scope, given: Result) -> Result:
        answers = [same_form(answer_of(candidate.text, self.answer)) for candidate in given.candidates]
        weights = [max(0.0, candidate.score) if self.weighted else 1.0 for candidate in given.candidates]
        total, votes = sum(weights), dict[str, float]()
        for text, weight in zip(answers, weights, strict=True):
            votes[text] = votes.get(text, 0.0) + weight if text else 0.0
        voted = given.scored([votes[text] / total if total else 0.0 for text in answers])
        ranked = rank_groups(answers, votes, scope.seed)
        return voted.keep(ranked, self.keep)

    def foresee(self, given: Expected) -> Expected:
        return replace(given, candidates=kept(given.candidates, self.keep))


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveVote(Stage):
    """Samples in batches until the leading answer is the majority's with probability `sure` (Aggarwal et al., 2023).

    The leader's and the runner-up's counts are taken as draws of a coin with an even prior: what is asked is how likely
    it favours the leader. At most `samples` are drawn. The result is a vote's.
    """

    kind: ClassVar[str] = "adaptive_vote"

    samples: int = 40
    batch: int = 5
    sure: float = 0.95
    temperature: float = 0.7
    answer: str = ""
    stop: Sequence[Stop] = ()

    def __post_init__(self) -> None:
        at_least(1, samples=self.samples, batch=self.batch)

    async def work(self, scope: Scope, given: Result) -> Result:
        context = await scope.start(opening(given, self.prompt), adapter=self.model)
        drawn: list[Candidate] = []
        while len(drawn) < self.samples and not self._is_clear(drawn):
            count = min(self.batch, self.samples - len(drawn))
            children = [
                (f"sample {len(drawn) + number}", partial(self._sample, context=context))
                for number in range(1, count + 1)
            ]
            drawn += await scope.gather(children, kind="sample")
        context.release()
        scope.emit("samples", len(drawn))
        sampled = replace(given, candidates=(*given.candidates, *drawn))
        return await Vote(answer=self.answer).work(scope, sampled)

    def foresee(self, given: Expected) -> Expected:
        return self._as_generate().foresee(given)

    def _as_generate(self) -> Generate:
        return Generate(
            model=self.model,
            prompt=self.prompt,
            samples=self.samples,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            stop=self.stop,
        )

    async def _sample(self, scope: Scope, context: Context) -> Candidate:
        return Candidate(await self._as_generate().sample(scope, context, self.temperature), model=self.model)

    def _is_clear(self, drawn: Sequence[Candidate]) -> bool:
        answers = [same_form(answer_of(candidate.text, self.answer)) for candidate in drawn]
        counts = sorted((answers.count(text) for text in set(answers)), reverse=True)
        return bool(counts) and majority(counts[0], counts[1] if len(counts) > 1 else 0) >= self.sure


def majority(leader: int, second: int) -> float:
    """The probability that a coin which gave these counts favours the leader: 1 − I(½; leader + 1, second + 1)."""
    draws = leader + second + 1
    return sum(comb(draws, heads) for heads in range(leader + 1)) / (1 << draws)


def rank_groups(answers: Sequence[str], votes: dict[str, float], seed: int) -> list[int]:
    """Places of candidates by their answers' votes: one answer after the other, equal ones as the seed gives them."""
    first = {text: answers.index(text) for text in reversed(answers)}
    left, ranked = list(dict.fromkeys(answers)), list[int]()
    while left:
        top = answers[best([first[text] for text in left], lambda place: votes[answers[place]], seed)]
        ranked += [index for index, text in enumerate(answers) if text == top]
        left.remove(top)
    return ranked

"""Scores: what says how good a candidate is. A judge, a reward model, the model's own certainty, or a function."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

from ...errors import InputError
from ...orchestrator import Scope
from .expected import Expected
from .reading import read_score
from .result import Candidate, Result
from .stage import Stage, each

LOW, HIGH = 0.0, 10.0
"""The scale that judges are asked for."""

Check: TypeAlias = Callable[[str, str], float | Awaitable[float]]
"""A user's verifier: `(task, text) -> score`; a bool will do."""


@runtime_checkable
class Scorer(Protocol):
    """The port through which candidates, whole or partial, get their worth."""

    async def score(self, scope: Scope, given: Result, text: str) -> float:
        """How good a text is as an answer to the task, or as the beginning of one."""
        ...

    def expect(self, given: Expected) -> tuple[int, int]:
        """Tokens of the prompt, and of the answer, for one score; 0, 0 where no model is asked."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge(Stage):
    """Candidates scored from 0 to 10 by a model that sees one at a time; the best first, `keep` of them (0: all).

    An answer without a number scores 0. The scores are asked for side by side.
    """

    kind: ClassVar[str] = "judge"

    keep: int = 0
    max_tokens: int = 256

    async def work(self, scope: Scope, given: Result) -> Result:
        return await by_score(scope, given, self, self.keep)

    def foresee(self, given: Expected) -> Expected:
        return foresee_scores(given, self, self.keep)

    async def score(self, scope: Scope, given: Result, text: str) -> float:
        said = await self.reply(scope, given, self.say(given, candidate=text))
        return read_score(said, LOW, HIGH) or 0.0

    def expect(self, given: Expected) -> tuple[int, int]:
        return self.length + given.task + given.length, self.max_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward(Stage):
    """Candidates by a reward engine: the log-odds of `good` over `bad` after the judge's question. Needs "score".

    No token is generated. A model that was trained to judge so is a reward model; any model can be asked.
    """

    kind: ClassVar[str] = "reward"

    keep: int = 0
    good: str = "yes"
    bad: str = "no"

    async def work(self, scope: Scope, given: Result) -> Result:
        return await by_score(scope, given, self, self.keep)

    def foresee(self, given: Expected) -> Expected:
        return foresee_scores(given, self, self.keep)

    async def score(self, scope: Scope, given: Result, text: str) -> float:
        context = await scope.start(self.asking(given, self.say(given, candidate=text)), adapter=self.model)
        good, bad = await scope.score(context, [self.good, self.bad])
        context.release()
        return good - bad

    def expect(self, given: Expected) -> tuple[int, int]:
        return self.length + given.task + given.length, 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Certainty(Stage):
    """Candidates by how sure the model is of them: the mean log-probability of their tokens after the task.

    Needs "score". It is the sequence's likelihood, to the power of one over its length in characters; Kang et al.'s
    self-certainty (2025) wants the whole distribution at each token, which engines do not give.
    """

    kind: ClassVar[str] = "certainty"

    keep: int = 0

    async def work(self, scope: Scope, given: Result) -> Result:
        context = await scope.start(given.messages, adapter=self.model)
        texts = [candidate.text for candidate in given.candidates]
        likely = await scope.score(context, texts) if texts else []
        context.release()
        means = [value / max(1, len(text)) for value, text in zip(likely, texts, strict=True)]
        return given.scored(means).best_first(scope.seed, self.keep)

    def foresee(self, given: Expected) -> Expected:
        asked = given.ask(given.task + given.candidates * given.length, 0, 1, samples=0)
        return replace(asked, candidates=kept(given.candidates, self.keep))


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked(Stage):
    """Candidates scored by a function of task and text, such as a verifier; the best first, `keep` of them (0: all)."""

    kind: ClassVar[str] = "checked"

    check: Check
    keep: int = 0

    async def work(self, scope: Scope, given: Result) -> Result:
        return await by_score(scope, given, self, self.keep)

    def foresee(self, given: Expected) -> Expected:
        return foresee_scores(given, self, self.keep)

    async def score(self, scope: Scope, given: Result, text: str) -> float:
        said = self.check(given.task, text)
        return number(await said if inspect.isawaitable(said) else said, self.check)

    def expect(self, given: Expected) -> tuple[int, int]:
        return 0, 0


By: TypeAlias = Literal["judge", "reward", "certainty"]
"""Who scores whole answers."""
ByStep: TypeAlias = Literal["judge", "reward"]
"""Who scores the beginnings of answers."""


async def by_score(scope: Scope, given: Result, scorer: Scorer, keep: int) -> Result:
    """All candidates scored side by side; the best first."""

    async def one(inner: Scope, candidate: Candidate) -> float:
        return await scorer.score(inner, given, candidate.text)

    scores = await each(scope, given.candidates, one, "score")
    return given.scored(scores).best_first(scope.seed, keep)


def foresee_scores(given: Expected, scorer: Scorer, keep: int) -> Expected:
    """What scoring all candidates will use."""
    prompt, tokens = scorer.expect(given)
    asked = given.ask(prompt, tokens, given.candidates if prompt else 0, samples=1 if tokens else 0)
    return replace(asked, candidates=kept(given.candidates, keep))


def kept(candidates: int, keep: int) -> int:
    return min(candidates, keep) if keep else candidates


def number(said: Any, check: Check) -> float:
    """A user's score as a number. Raises InputError for what can't be compared."""
    if not isinstance(said, int | float) or math.isnan(said):
        name = getattr(check, "__name__", "check")
        raise InputError(f"score function '{name}' gave {said!r:.60}; a score is a number or a bool")
    return float(said)

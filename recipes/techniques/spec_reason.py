"""SpecReason: a small model drafts each step, a large one scores it by one token and writes it where it must (2025)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from ...engines import Choice, Context, Generation, Message, Sampling, Stop
from ...orchestrator import Scope
from ..prompt import render
from ..settings import at_least
from .expected import Expected
from .generate import opening
from .result import Candidate, Result
from .stage import Stage

DIGITS = Choice(tuple("0123456789"))


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecReason(Stage):
    """Steps by `drafter` where `model` gives them at least `accept` of 9, else by `model` itself (arXiv:2504.07891).

    A step ends at `step`, an answer by itself or after `steps` steps. Both keep a context, to which the other's steps
    are added as text; the score is asked on a fork of the large model's, after the step. Rejected drafts and scores are
    in the usage like all else. The candidate's score is the share of steps that were accepted.
    """

    kind: ClassVar[str] = "spec_reason"

    drafter: str = ""
    accept: int = 7
    steps: int = 32
    step: Sequence[Stop] = ("\n\n",)

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps)
        at_least(0, accept=self.accept)

    async def work(self, scope: Scope, given: Result) -> Result:
        small = await scope.start(opening(given, self.prompt), adapter=self.drafter)
        large = await scope.start(opening(given, self.prompt), adapter=self.model)
        texts, accepted = list[str](), 0
        for number in range(1, self.steps + 1):
            drafted = await self._write(scope, small, f"draft {number}")
            read = await scope.extend(large, drafted.text) if drafted.text else large
            if await self._score(scope, read, number) >= self.accept:
                accepted, small, large, written = accepted + 1, drafted.context, read, drafted
            else:
                written = await self._write(scope, large, f"step {number}")
                large = written.context
                small = await scope.extend(small, written.text) if written.text else small
            texts.append(written.text)
            if written.finish in ("eos", "grammar", "window"):
                break
        candidate = Candidate("".join(texts), score=accepted / len(texts), model=self.model)
        return replace(given, candidates=(*given.candidates, candidate))

    def foresee(self, given: Expected) -> Expected:
        """Each step drafted, scored, rejected and written."""
        asked = given.ask(given.task, 0, 2, samples=0)
        for _ in range(self.steps):
            drafted = asked.ask(0, self.max_tokens).ask(self.max_tokens + Expected.of_text(self._question), 1)
            asked = drafted.ask(0, self.max_tokens)
        return asked.holding(given.candidates + 1, self.steps * self.max_tokens)

    @property
    def _question(self) -> str:
        return render("techniques/spec_reason")

    async def _write(self, scope: Scope, context: Context, title: str) -> Generation:
        return await scope.generate(
            context, title=title, max_tokens=self.max_tokens, stop=self.step, sampling=self.sampling
        )

    async def _score(self, scope: Scope, context: Context, number: int) -> int:
        """From 0 to 9, in one token; anything else is a 0."""
        asked = await scope.extend(context, [Message("user", self._question)])
        said = await scope.generate(
            asked, title=f"score {number}", max_tokens=1, grammar=scope.supported(DIGITS), sampling=Sampling()
        )
        for made in (asked, said.context):
            made.release()
        digit = said.text.strip()[:1]
        return int(digit) if digit in DIGITS.options else 0

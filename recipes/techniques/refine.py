"""Self-refine: feedback on an answer, then the answer again with it, until there is nothing to say (Madaan, 2023)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from ...engines import Context, Message
from ...orchestrator import Scope
from ..prompt import render
from ..settings import at_least
from .expected import Expected
from .result import Candidate, Result
from .stage import Stage, each

DONE = "[done]"
"""What feedback ends with when the answer needs no change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refine(Stage):
    """Every candidate refined up to `rounds` times, side by side. Feedback and answer go on in one context: nothing is
    read twice. The last answer stands in the candidate's place, with the last feedback as its critique."""

    kind: ClassVar[str] = "refine"

    rounds: int = 2

    def __post_init__(self) -> None:
        at_least(1, rounds=self.rounds)

    async def work(self, scope: Scope, given: Result) -> Result:
        async def one(inner: Scope, candidate: Candidate) -> Candidate:
            return await self._refine(inner, given, candidate)

        return replace(given, candidates=tuple(await each(scope, given.candidates, one, "refine")))

    def foresee(self, given: Expected) -> Expected:
        prompt = self.length + given.task + given.length
        for _ in range(self.rounds):
            given = given.ask(prompt, self.max_tokens, given.candidates).ask(0, self.max_tokens, given.candidates)
            prompt = self.length
        return replace(given, length=self.max_tokens)

    async def _refine(self, scope: Scope, given: Result, candidate: Candidate) -> Candidate:
        context = await scope.start(self.asking(given, self.say(given, candidate=candidate.text)), adapter=self.model)
        for number in range(1, self.rounds + 1):
            context, feedback = await self._write(scope, context, f"feedback {number}")
            if DONE in feedback.lower():
                return replace(candidate, critique=feedback)
            asked = await scope.extend(context, [Message("user", render("techniques/rewrite"))])
            context, text = await self._write(scope, asked, f"answer {number}")
            candidate = Candidate(text, critique=feedback, model=self.model)
            if number < self.rounds:
                context = await scope.extend(context, [Message("user", render("techniques/feedback"))])
        return candidate

    async def _write(self, scope: Scope, context: Context, title: str) -> tuple[Context, str]:
        written = await scope.generate(context, title=title, max_tokens=self.max_tokens, sampling=self.sampling)
        context.release()
        return written.context, written.text

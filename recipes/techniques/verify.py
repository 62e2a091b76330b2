"""Verify: candidates held to be wrong are put out; if all are, all stay (Archon, 2024)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from ...engines import Message
from ...orchestrator import Scope
from ..prompt import render
from .expected import Expected
from .reading import read_verdict
from .result import Candidate, Result
from .score import kept
from .stage import Stage, until


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify(Stage):
    """Two calls a candidate: reasoning about whether it is right, then the verdict "[Correct]" or "[Incorrect]".

    Without a verdict a candidate has not passed. The verdict continues the reasoning's context. All candidates are
    verified side by side; with `first_k` no more than are needed until so many have passed, which are kept.
    """

    kind: ClassVar[str] = "verify"

    first_k: int = 0
    max_tokens: int = 512
    verdict_tokens: int = 64

    async def work(self, scope: Scope, given: Result) -> Result:
        async def one(inner: Scope, candidate: Candidate) -> bool:
            return await self._passes(inner, given, candidate)

        passed = await until(scope, given.candidates, one, "verify", passes=bool, count=self.first_k)
        left = [False] * (len(given.candidates) - len(passed))
        judged = given.scored([float(passes) for passes in (*passed, *left)])
        right = [index for index, passes in enumerate(passed) if passes]
        if not right:
            scope.emit("none passed", len(passed))
            return judged
        return judged.keep(right, self.first_k)

    def foresee(self, given: Expected) -> Expected:
        prompt = self.length + given.task + given.length
        asked = given.ask(prompt, self.max_tokens, given.candidates)
        judged = asked.ask(Expected.of_text(render("techniques/verdict")), self.verdict_tokens, given.candidates)
        return replace(judged, candidates=kept(given.candidates, self.first_k))

    async def _passes(self, scope: Scope, given: Result, candidate: Candidate) -> bool:
        context = await scope.start(self.asking(given, self.say(given, candidate=candidate.text)), adapter=self.model)
        reasoned = await scope.generate(context, title="reasoning", max_tokens=self.max_tokens, sampling=self.sampling)
        asked = await scope.extend(reasoned.context, [Message("user", render("techniques/verdict"))])
        said = await scope.generate(asked, title="verdict", max_tokens=self.verdict_tokens)
        for made in (context, reasoned.context, asked, said.context):
            made.release()
        return read_verdict(said.text) is True

"""Critique: strengths and weaknesses of every candidate, for the stages after it (Archon, 2024)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from ...orchestrator import Scope
from .expected import Expected
from .reading import read_critiques
from .result import Result
from .stage import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Critique(Stage):
    """One call that sees all candidates and gives a critique of each. A candidate that it leaves out has none."""

    kind: ClassVar[str] = "critique"

    max_tokens: int = 1024

    async def work(self, scope: Scope, given: Result) -> Result:
        if not given.candidates:
            return given
        said = await self.reply(scope, given, self.say(given, candidates=given.candidates))
        critiques = read_critiques(said, len(given.candidates))
        pairs = zip(given.candidates, critiques, strict=True)
        return replace(given, candidates=tuple(replace(one, critique=critique) for one, critique in pairs))

    def foresee(self, given: Expected) -> Expected:
        asked = given.ask(self.length + given.shown, self.max_tokens, int(given.candidates > 0))
        return replace(asked, critique=self.max_tokens // max(1, given.candidates))

"""Fuse: one answer written from all candidates, by one model or several (LLM-Blender, 2023; Archon, 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from ...orchestrator import Scope
from ..settings import at_least
from .expected import Expected
from .result import Candidate, Result
from .stage import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Fuse(Stage):
    """`samples` answers of each of `models`, all side by side, each written by who has read all candidates.

    They stand in the candidates' place, which are then rejected: what was said of those does not hold for them. With
    `short` the answer is asked to be no longer than the candidates.
    """

    kind: ClassVar[str] = "fuse"

    models: Sequence[str] = ("",)
    samples: int = 1
    use_critiques: bool = True
    short: bool = False
    temperature: float = 0.7

    def __post_init__(self) -> None:
        at_least(1, samples=self.samples, models=len(self.models))

    async def work(self, scope: Scope, given: Result) -> Result:
        if not given.candidates:
            return given
        critiqued = self.use_critiques and any(candidate.critique for candidate in given.candidates)
        text = self.say(given, candidates=given.candidates, critiqued=critiqued, short=self.short)
        children = [
            (model or "model", partial(self._of_model, given=given, text=text, model=model)) for model in self.models
        ]
        written = await scope.gather(children, kind="model")
        fused = tuple(candidate for of_model in written for candidate in of_model)
        return replace(given, candidates=fused, rejected=(*given.rejected, *given.candidates), tests=())

    def foresee(self, given: Expected) -> Expected:
        if not given.candidates:
            return given
        asked = given.ask(self.length + given.shown, self.max_tokens, len(self.models), samples=self.samples)
        return replace(asked.holding(self.samples * len(self.models), self.max_tokens), tests=0)

    async def _of_model(self, scope: Scope, given: Result, text: str, model: str) -> list[Candidate]:
        context = await scope.start(self.asking(given, text), adapter=model or self.model)

        async def sample(inner: Scope) -> str:
            written = await inner.generate(context, max_tokens=self.max_tokens, sampling=self.sampling)
            written.context.release()
            return written.text

        texts = await scope.gather([(f"sample {n}", sample) for n in range(1, self.samples + 1)], kind="sample")
        context.release()
        return [Candidate(text, model=model or self.model) for text in texts]

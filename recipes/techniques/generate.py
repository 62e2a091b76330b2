"""Generate: candidates from one model or several, in samples that share the task's context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from ...engines import Context, Grammar, Message, Sampling, Stop
from ...orchestrator import Scope
from ..settings import at_least
from .expected import Expected
from .result import Candidate, Result
from .stage import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Generate(Stage):
    """`samples` answers of each of `models`, all side by side; with `greedy` one more of each at temperature 0.

    A greedy one beside samples at a moderate temperature is hedged sampling (Khairi et al., 2025). `prompt`, if there
    is one, is the system's message. Candidates that are there already stay in front, or are rejected with `anew`;
    `no_system` leaves out the system's messages of the conversation, for models that take none.
    """

    kind: ClassVar[str] = "generate"

    models: Sequence[str] = ("",)
    samples: int = 1
    greedy: bool = False
    anew: bool = False
    no_system: bool = False
    temperature: float = 0.7
    stop: Sequence[Stop] = ()
    grammar: Grammar | None = None

    def __post_init__(self) -> None:
        at_least(0 if self.greedy else 1, samples=self.samples)
        at_least(1, models=len(self.models))

    async def work(self, scope: Scope, given: Result) -> Result:
        children = [(model or "model", partial(self._of_model, given=given, model=model)) for model in self.models]
        written = await scope.gather(children, kind="model")
        candidates = [candidate for of_model in written for candidate in of_model]
        if self.anew:
            return replace(given, candidates=tuple(candidates), rejected=(*given.rejected, *given.candidates))
        return replace(given, candidates=(*given.candidates, *candidates))

    def foresee(self, given: Expected) -> Expected:
        each = self.samples + self.greedy
        asked = given.ask(given.task + self.length, self.max_tokens, len(self.models), samples=each)
        there = 0 if self.anew else given.candidates
        return asked.holding(there + each * len(self.models), self.max_tokens)

    @property
    def length(self) -> int:
        return Expected.of_text(self.prompt)

    async def _of_model(self, scope: Scope, given: Result, model: str) -> list[Candidate]:
        context = await scope.start(self._messages(given), adapter=model or self.model)
        temperatures = [self.temperature] * self.samples + [0.0] * self.greedy
        children = [
            (f"sample {number}", partial(self.sample, context=context, temperature=temperature))
            for number, temperature in enumerate(temperatures, 1)
        ]
        texts = await scope.gather(children, kind="sample")
        context.release()
        return [Candidate(text, model=model or self.model) for text in texts]

    def _messages(self, given: Result) -> list[Message]:
        messages = opening(given, self.prompt)
        return [message for message in messages if message.role != "system"] if self.no_system else messages

    async def sample(self, scope: Scope, context: Context, temperature: float) -> str:
        """One answer on a context that others share."""
        written = await scope.generate(
            context,
            max_tokens=self.max_tokens,
            stop=self.stop,
            grammar=scope.supported(self.grammar) if self.grammar else None,
            sampling=Sampling(temperature=temperature),
        )
        written.context.release()
        return written.text


def opening(given: Result, system: str) -> list[Message]:
    """The conversation up to the task, under a system message of our own where there is one."""
    return [Message("system", system), *given.messages] if system else given.messages

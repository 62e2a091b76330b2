"""Debate: agents answer, read each other, and answer again, each in its own conversation (Du et al., 2023)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, TypeAlias

from ...engines import Context, Message
from ...orchestrator import Scope
from ..settings import at_least
from .expected import Expected
from .generate import opening
from .result import Candidate, Result
from .stage import Stage

Said: TypeAlias = tuple[str, Context]
"""An agent's last answer, and its conversation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Debate(Stage):
    """`agents` answers, then `rounds` in which each agent is shown the others' last ones (arXiv:2305.14325).

    An agent goes on in its own context: what it has read and said is not read again. `models` are dealt out in turn.
    The candidates are the last answers; a vote or a judge chooses.
    """

    kind: ClassVar[str] = "debate"

    agents: int = 3
    rounds: int = 2
    models: Sequence[str] = ("",)
    temperature: float = 0.7

    def __post_init__(self) -> None:
        at_least(2, agents=self.agents)
        at_least(1, rounds=self.rounds, models=len(self.models))

    async def work(self, scope: Scope, given: Result) -> Result:
        models = [self.models[number % len(self.models)] or self.model for number in range(self.agents)]
        firsts = [partial(self._first, given=given, model=model) for model in models]
        last = await self._round(scope, 0, firsts)
        for number in range(1, self.rounds + 1):
            texts = [text for text, _ in last]
            nexts = [
                partial(self._next, given=given, context=context, others=texts[:place] + texts[place + 1 :])
                for place, (_, context) in enumerate(last)
            ]
            last = await self._round(scope, number, nexts)
        for _, context in last:
            context.release()
        said = [Candidate(text, model=model) for (text, _), model in zip(last, models, strict=True)]
        return replace(given, candidates=(*given.candidates, *said))

    def foresee(self, given: Expected) -> Expected:
        asked = given.ask(given.task, self.max_tokens, self.agents)
        for _ in range(self.rounds):
            asked = asked.ask(self.length + (self.agents - 1) * self.max_tokens, self.max_tokens, self.agents)
        return asked.holding(given.candidates + self.agents, self.max_tokens)

    async def _round(self, scope: Scope, number: int, jobs: Sequence[Callable[[Scope], Awaitable[Said]]]) -> list[Said]:
        children = [(f"round {number} agent {place}", job) for place, job in enumerate(jobs, 1)]
        return await scope.gather(children, kind="agent")

    async def _first(self, scope: Scope, *, given: Result, model: str) -> Said:
        return await self._answer(scope, await scope.start(opening(given, ""), adapter=model))

    async def _next(self, scope: Scope, *, given: Result, context: Context, others: Sequence[str]) -> Said:
        asked = await scope.extend(context, [Message("user", self.say(given, others=others))])
        context.release()
        return await self._answer(scope, asked)

    async def _answer(self, scope: Scope, context: Context) -> Said:
        written = await scope.generate(context, max_tokens=self.max_tokens, sampling=self.sampling)
        context.release()
        return written.text, written.context

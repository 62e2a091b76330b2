"""The stage: one step of a technique, from a result to a result, as a value that a driver node runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, TypeVar

from ...engines import Message, Sampling
from ...orchestrator import Scope
from ..prompt import render, source
from .expected import Expected
from .result import Candidate, Result

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage(ABC):
    """A step. Its fields are all that it is made of, so that equal stages have equal records in a journal.

    `model` is the role (`engines.Roles`) or adapter that it asks; none is the run's engine. `prompt` is a jinja text in
    place of the shipped one of its kind (recipes/prompts/techniques). `max_tokens` bounds each of its generations.
    """

    kind: ClassVar[str]

    model: str = ""
    prompt: str = ""
    max_tokens: int = 512
    temperature: float = 0.0

    @property
    def __name__(self) -> str:
        """What its node is called."""
        return self.kind

    async def __call__(self, scope: Scope, given: Result) -> Result:
        """Run in a scope of its own. A budget that ends it leaves what it was given, if that has an answer."""
        if given.candidates:
            scope.offer(given)
        done = await self.work(scope, given)
        return replace(done, usage=given.usage + scope.usage)

    @abstractmethod
    async def work(self, scope: Scope, given: Result) -> Result:
        """What the stage does; `usage` is added by who calls."""

    @abstractmethod
    def foresee(self, given: Expected) -> Expected:
        """What the stage will find there, and use, at most: no early stop, no retry."""

    # ---- asking

    def say(self, given: Result, **values: object) -> str:
        """The stage's prompt, filled in."""
        return render(f"techniques/{self.kind}", self.prompt, task=given.task, history=given.history, **values)

    async def ask(self, scope: Scope, text: str, *, system: str = "", title: str = "") -> str:
        """What the model answers to one message, in a context of its own."""
        messages = [Message("system", system)] if system else []
        return await answer(scope, [*messages, Message("user", text)], self, title=title)

    @property
    def length(self) -> int:
        """Tokens of the prompt's own words."""
        return Expected.of_text(self.prompt or source(f"techniques/{self.kind}"))


async def answer(scope: Scope, messages: Sequence[Message], stage: Stage, *, title: str = "", model: str = "") -> str:
    """One generation as the stage's fields say, in a context that ends with it."""
    context = await scope.start(messages, adapter=model or stage.model)
    written = await scope.generate(
        context, title=title, max_tokens=stage.max_tokens, sampling=Sampling(temperature=stage.temperature)
    )
    written.context.release()
    context.release()
    return written.text


async def each(
    scope: Scope, candidates: Sequence[Candidate], job: Callable[[Scope, Candidate], Any], kind: str
) -> list[Any]:
    """A job for every candidate, all side by side, each in a node of its own; what they give, in order."""

    async def one(inner: Scope, candidate: Candidate) -> Any:
        return await job(inner, candidate)

    children = [(f"{kind} {index}", partial(one, candidate=candidate)) for index, candidate in enumerate(candidates, 1)]
    return await scope.gather(children, kind=kind)

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

    async def reply(self, scope: Scope, given: Result, text: str, *, title: str = "") -> str:
        """What the model answers to one message after the conversation, in a context of its own."""
        return await answer(scope, self.asking(given, text), self, title=title)

    def asking(self, given: Result, text: str) -> list[Message]:
        """The conversation before the task, without the system's messages, and then a message of the stage's own."""
        return [*(message for message in given.history if message.role != "system"), Message("user", text)]

    @property
    def sampling(self) -> Sampling:
        return Sampling(temperature=self.temperature)

    @property
    def length(self) -> int:
        """Tokens of the prompt's own words."""
        return Expected.of_text(self.prompt or source(f"techniques/{self.kind}"))


async def answer(scope: Scope, messages: Sequence[Message], stage: Stage, *, title: str = "", model: str = "") -> str:
    """One generation as the stage's fields say, in a context that ends with it."""
    context = await scope.start(messages, adapter=model or stage.model)
    written = await scope.generate(context, title=title, max_tokens=stage.max_tokens, sampling=stage.sampling)
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


async def until(
    scope: Scope,
    candidates: Sequence[Candidate],
    job: Callable[[Scope, Candidate], Any],
    kind: str,
    *,
    passes: Callable[[Any], bool],
    count: int,
) -> list[Any]:
    """As `each`, but in order, and no more at a time than are still missing until `count` pass (0: all at once).

    So no job is done that one after the other would not have been done. Those that were not reached are left out.
    """
    if not count:
        return await each(scope, candidates, job, kind)
    found: list[Any] = []
    while len(found) < len(candidates) and (missing := count - sum(map(passes, found))) > 0:
        found += await each(scope, candidates[len(found) : len(found) + missing], job, kind)
    return found

"""DRAG and IterDRAG: answers from retrieved documents and worked examples, at once or question by question (2024)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from ...errors import InputError
from ...orchestrator import Scope
from ...tools import Tool
from ..settings import at_least
from .expected import Expected
from .result import Candidate, Result
from .stage import Stage, answer

FOLLOW_UP, INTERMEDIATE, FINAL = "Follow up:", "Intermediate answer:", "So the final answer is:"
DOCUMENT_TOKENS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Drag(Stage):
    """DRAG (Yue et al., arXiv:2410.04343): `documents` for the question and `examples`, then one answer.

    `search` is a tool that takes a query and gives texts, the best first. The best stands nearest to the question.
    """

    kind: ClassVar[str] = "drag"

    search: Tool
    documents: int = 5
    examples: Sequence[str] = ()

    def __post_init__(self) -> None:
        at_least(1, documents=self.documents)

    async def work(self, scope: Scope, given: Result) -> Result:
        found = await self.find(scope, given.task)
        text = self.say(given, documents=found[::-1], examples=self.examples)
        said = await answer(scope, self.asking(given, text), self)
        stated = said.rpartition(FINAL)[2].strip()
        return replace(given, candidates=(*given.candidates, Candidate(stated, model=self.model)))

    def foresee(self, given: Expected) -> Expected:
        asked = given.ask(self._prompt(given, 1), self.max_tokens)
        return asked.holding(given.candidates + 1, self.max_tokens)

    async def find(self, scope: Scope, query: str) -> list[str]:
        """The best documents for a query. The tool's argument is its first one."""
        name = self.search.signature.arguments[0]
        found = await scope.call(self.search, {name: query})
        if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
            raise InputError(f"tool '{self.search.name}' gave {found!r:.60}; a search gives a list of texts")
        return found[: self.documents]

    def _prompt(self, given: Expected, rounds: int) -> int:
        shots = Expected.of_text("\n".join(self.examples))
        return self.length + given.task + shots + rounds * self.documents * DOCUMENT_TOKENS


@dataclass(frozen=True, slots=True, kw_only=True)
class IterDrag(Drag):
    """IterDRAG: up to `iterations` follow-up questions, each with documents of its own and an intermediate answer, in
    one context; then the final answer, which is asked for where the model does not come to it."""

    kind: ClassVar[str] = "iter_drag"

    iterations: int = 5

    def __post_init__(self) -> None:
        at_least(1, documents=self.documents, iterations=self.iterations)

    async def work(self, scope: Scope, given: Result) -> Result:
        found = await self.find(scope, given.task)
        text = self.say(given, documents=found[::-1], examples=self.examples)
        context = await scope.start(self.asking(given, text), adapter=self.model)
        for number in range(1, self.iterations + 1):
            stop = [INTERMEDIATE]
            asked = await scope.generate(
                context, title=f"question {number}", max_tokens=self.max_tokens, stop=stop, sampling=self.sampling
            )
            context = asked.context
            if FINAL in asked.text or asked.stop != INTERMEDIATE:
                return self._with(given, asked.text)
            query = asked.text.removesuffix(INTERMEDIATE).rpartition(FOLLOW_UP)[2].strip()
            more = [text for text in await self.find(scope, query) if text not in found]
            found += more
            shown = "\n".join(more[::-1])
            context = await scope.extend(context, f"\n{shown}\n{INTERMEDIATE}" if shown else "")
            said = await scope.generate(
                context, title=f"answer {number}", max_tokens=self.max_tokens, stop=["\n"], sampling=self.sampling
            )
            context = said.context
        final = await scope.generate(
            await scope.extend(context, f"\n{FINAL}"), title="final", max_tokens=self.max_tokens, sampling=self.sampling
        )
        return self._with(given, final.text)

    def foresee(self, given: Expected) -> Expected:
        asked = given.ask(self._prompt(given, 1), 0, 1, samples=0)
        for _ in range(self.iterations):
            asked = asked.ask(0, self.max_tokens).ask(self.documents * DOCUMENT_TOKENS, self.max_tokens)
        return asked.ask(0, self.max_tokens).holding(given.candidates + 1, self.max_tokens)

    def _with(self, given: Result, text: str) -> Result:
        stated = text.rpartition(FINAL)[2].strip()
        return replace(given, candidates=(*given.candidates, Candidate(stated, model=self.model)))

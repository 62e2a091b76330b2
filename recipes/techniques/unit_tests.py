"""Unit tests: statements that a right answer satisfies, or code that it has to pass, written once (Archon, 2024)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from ...orchestrator import Scope
from ...tools.sandbox import Bounds, run_python
from ..settings import at_least
from .expected import Expected
from .reading import read_passes, read_tests
from .result import Candidate, Result
from .score import kept
from .stage import Stage, each, until

TEST_TOKENS = 32
_FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)```", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteTests(Stage):
    """One call writes at most `cap` tests from the task alone. With `code` each is a line of Python that asserts."""

    kind: ClassVar[str] = "write_tests"

    cap: int = 5
    code: bool = False

    def __post_init__(self) -> None:
        at_least(1, cap=self.cap)

    async def work(self, scope: Scope, given: Result) -> Result:
        said = await self.reply(scope, given, self.say(given, cap=self.cap, code=self.code))
        return replace(given, tests=tuple(read_tests(said, self.cap)))

    def foresee(self, given: Expected) -> Expected:
        return replace(given.ask(self.length + given.task, self.max_tokens), tests=self.cap)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeTests(Stage):
    """One call a candidate that says which tests it passes; most passes first, equal ones in their order.

    `top_k` are kept (0: all). With `first_k` no more are judged than are needed until so many have passed all tests,
    which are then kept. Without tests the candidates stay as they are.
    """

    kind: ClassVar[str] = "judge_tests"

    top_k: int = 0
    first_k: int = 0
    max_tokens: int = 1024

    async def work(self, scope: Scope, given: Result) -> Result:
        if not given.tests:
            return given

        async def one(inner: Scope, candidate: Candidate) -> int:
            said = await self.reply(inner, given, self.say(given, candidate=candidate.text, tests=given.tests))
            return sum(read_passes(said, len(given.tests)))

        def passes_all(count: int) -> bool:
            return count == len(given.tests)

        passes = await until(scope, given.candidates, one, "tests", passes=passes_all, count=self.first_k)
        right = sum(map(passes_all, passes))
        passes += [0] * (len(given.candidates) - len(passes))
        return by_passes(given, passes, self.first_k if self.first_k and right >= self.first_k else self.top_k)

    def foresee(self, given: Expected) -> Expected:
        prompt = self.length + given.task + given.length + given.tests * TEST_TOKENS
        asked = given.ask(prompt, self.max_tokens, given.candidates if given.tests else 0)
        return replace(asked, candidates=kept(given.candidates, self.top_k))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecuteTests(Stage):
    """Each candidate's code run with each test in the sandbox; a test that ends well is passed. Asks no model.

    The code is the candidate's last fenced block, or all of it. `given_tests` come on top of those that were written.
    Without the sandbox's protections the run fails (see tools.sandbox); `isolated=False` runs with limits alone.
    """

    kind: ClassVar[str] = "execute_tests"

    top_k: int = 0
    given_tests: Sequence[str] = ()
    seconds: float = 10.0
    isolated: bool = True

    async def work(self, scope: Scope, given: Result) -> Result:
        tests = [*self.given_tests, *given.tests]
        if not tests:
            return given

        async def one(inner: Scope, candidate: Candidate) -> int:
            code = code_of(candidate.text)
            return sum([await self._passes(code, test) for test in tests])

        return by_passes(given, await each(scope, given.candidates, one, "tests"), self.top_k)

    def foresee(self, given: Expected) -> Expected:
        return replace(given, candidates=kept(given.candidates, self.top_k))

    async def _passes(self, code: str, test: str) -> bool:
        ran = await run_python(f"{code}\n\n{test}\n", bounds=Bounds(seconds=self.seconds), isolated=self.isolated)
        return ran.outcome == "ok"


def code_of(text: str) -> str:
    """The last fenced block of a text, or the text."""
    blocks = _FENCE.findall(text)
    return blocks[-1] if blocks else text


def by_passes(given: Result, passes: Sequence[int], top_k: int) -> Result:
    """Most passes first; the sort is stable."""
    places = sorted(range(len(passes)), key=lambda place: -passes[place])
    return given.scored([float(count) for count in passes]).keep(places, top_k)

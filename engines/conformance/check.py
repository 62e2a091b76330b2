"""Checks: what one looks at, how it is judged by what the engine declares, and what came of all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Literal, TypeAlias

import anyio

from ...errors import CapabilityError, InputError
from ..base import Context, Engine, Generation, Sampling

Outcome: TypeAlias = Literal["passed", "refused", "failed"]
"""`refused`: the engine does not declare it, and says so when it is asked."""

TOLERANCE = 0.1
"""Nats by which two log-probabilities of the same token may differ: more than what bfloat16 and batches make of it."""
SECONDS = 120.0
PROMPTS = (
    "Tell a short story about a cat and a mouse.",
    "The quick brown fox jumps over",
    "What is 2 + 3?",
    "one two three four five six",
)
"""What checks begin with: the first one on which the model writes enough."""


class ConformanceError(Exception):
    """The engine does something else than the protocol says; the message says what was seen."""


def require(holds: object, seen: str) -> None:
    """Raise ConformanceError unless it holds."""
    if not holds:
        raise ConformanceError(seen)


@dataclass(frozen=True, slots=True)
class Check:
    """One property of an engine.

    `needs` are capabilities, as `Capabilities.offered` names them, one of which has to be declared; what is not is
    asked for all the same, and has to be refused with a CapabilityError, unless `silent`: such a capability promises
    something of calls that all engines have. What is `optional` has no capability, and may be refused.
    """

    name: str
    says: str
    run: Callable[[Trial], Awaitable[object]]
    needs: tuple[str, ...] = ()
    silent: bool = False
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a check; `seen` says why it failed, or how it was refused."""

    name: str
    says: str
    outcome: Outcome
    seen: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """What came of all checks."""

    engine: str
    results: tuple[Result, ...]

    @property
    def ok(self) -> bool:
        return not self.failed

    @property
    def failed(self) -> tuple[Result, ...]:
        return tuple(result for result in self.results if result.outcome == "failed")

    def counts(self) -> Counter[Outcome]:
        return Counter(result.outcome for result in self.results)

    def as_dict(self) -> dict[str, Any]:
        rows = [
            {"check": one.name, "outcome": one.outcome, "seen": one.seen, "seconds": round(one.seconds, 3)}
            for one in self.results
        ]
        return {"engine": self.engine, "ok": self.ok, "counts": dict(self.counts()), "checks": rows}

    def describe(self) -> str:
        """A line for each check."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        width = max((len(result.name) for result in self.results), default=0)
        for result in self.results:
            yield f"{result.outcome:8} {result.name:{width}}  {result.seen or result.says}"
        counts = self.counts()
        yield f"{self.engine}: {', '.join(f'{counts[name]} {name}' for name in ('passed', 'refused', 'failed'))}"


class Trial:
    """An engine under check, and what the checks have in common."""

    def __init__(self, engine: Engine, tolerance: float = TOLERANCE) -> None:
        self.engine = engine
        self.tolerance = tolerance
        self._prompt = ""

    def offers(self, *names: str) -> bool:
        """Whether the engine declares one of the capabilities."""
        return not set(names).isdisjoint(self.engine.capabilities.offered)

    @property
    def greedy(self) -> Sampling:
        """Without chance, and with log-probabilities where there are some: they tell a near tie from a fault."""
        return Sampling(logprobs=2 if self.offers("logprobs") else 0)

    async def start(self) -> Context:
        """A context on which the model writes some text."""
        prompt = self._prompt or await self._find_prompt()
        return await self.engine.start(prompt)

    async def written(self, context: Context, *, max_tokens: int = 16) -> Generation:
        """What the model writes greedily."""
        return await context.generate(max_tokens=max_tokens, sampling=self.greedy)

    def alike(self, what: str, first: Generation, second: Generation) -> None:
        """Raise ConformanceError unless both say the same, or part where two tokens were as likely."""
        if first.text == second.text:
            return
        for mine, theirs in zip(first.logprobs, second.logprobs, strict=False):
            if mine.text != theirs.text:
                gap = abs(mine.logprob - theirs.logprob)
                require(
                    gap <= self.tolerance,
                    f"{what}: {first.text!r} and {second.text!r}, which part where {mine.text!r} and {theirs.text!r} "
                    f"are {gap:.3f} nats apart",
                )
                return
        raise ConformanceError(f"{what}: {first.text!r} and {second.text!r}")

    async def same_next(self, what: str, first: Context, second: Context) -> None:
        """Raise ConformanceError unless what comes next is as likely after both: by scores, else by what is written."""
        if not self.offers("score"):
            self.alike(what, await self.written(first), await self.written(second))
            return
        told = " and then", " one", "."
        for text, mine, theirs in zip(told, await first.score(told), await second.score(told), strict=True):
            gap = abs(mine - theirs)
            require(gap <= self.tolerance, f"{what}: {text!r} scores {mine:.4f} and {theirs:.4f}, {gap:.4f} nats apart")

    async def _find_prompt(self) -> str:
        said = []
        for prompt in PROMPTS:
            written = await (await self.engine.start(prompt)).generate(max_tokens=24)
            said.append(written.text)
            if len(written.text.strip()) >= 8:
                self._prompt = prompt
                return prompt
        raise ConformanceError(f"the model writes nothing to check anything by: {said} after {list(PROMPTS)}")


async def check_engine(
    engine: Engine,
    *,
    only: Collection[str] = (),
    tolerance: float = TOLERANCE,
    seconds: float = SECONDS,
    report: Callable[[Result], None] | None = None,
) -> Report:
    """Run all checks on an engine, or those named in `only`; `report` is given each result as it comes.

    The last check closes the engine. `seconds` is what one check may take. Raises InputError for a name that is no
    check's.
    """
    chosen, trial, results = _chosen(only), Trial(engine, tolerance), []
    for check in chosen:
        results.append(await run_check(check, trial, seconds=seconds))
        if report is not None:
            report(results[-1])
    return Report(engine.name, tuple(results))


async def run_check(check: Check, trial: Trial, *, seconds: float = SECONDS) -> Result:
    """Run one check and judge it by what the engine declares. It raises nothing: what goes wrong is what was seen."""
    began = monotonic()
    outcome, seen = await _judged(check, trial, seconds)
    return Result(check.name, check.says, outcome, " ".join(seen.split()), monotonic() - began)


async def _judged(check: Check, trial: Trial, seconds: float) -> tuple[Outcome, str]:
    declared = not check.needs or trial.offers(*check.needs)
    if not declared and check.silent:
        return "refused", f"not declared: {_either(check.needs)}"
    try:
        with anyio.fail_after(seconds):
            await check.run(trial)
    except CapabilityError as error:
        if declared and not check.optional:
            return "failed", f"{_either(check.needs) or 'something'} is declared or needed, but refused: {error}"
        return "refused", str(error)
    except ConformanceError as error:
        return "failed", str(error)
    except TimeoutError:
        return "failed", f"took longer than {seconds:g} seconds"
    except Exception as error:
        return "failed", f"{type(error).__name__}: {error}"
    if not declared:
        return "failed", f"{_either(check.needs)} is not declared, but not refused with a CapabilityError either"
    return "passed", ""


def _either(names: Sequence[str]) -> str:
    return " or ".join(f"'{name}'" for name in names)


def _chosen(only: Collection[str]) -> list[Check]:
    from .checks import CHECKS  # they are made of this module's types

    unknown = set(only) - {check.name for check in CHECKS}
    if unknown:
        known = ", ".join(check.name for check in CHECKS)
        raise InputError(f"no check is called '{sorted(unknown)[0]}'; there are {known}")
    return [check for check in CHECKS if not only or check.name in only]

"""The conformance suite: our engines pass it, and engines that depart from the protocol are found out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest
from conforming import STORY, conforming
from stub_server import StubServer

from plait.engines import Capabilities, Context, Prompt
from plait.engines.base import Mode, Placement
from plait.engines.conformance import CHECKS, Check, Report, Result, Trial, check_engine, run_check
from plait.engines.local import LocalEngine
from plait.engines.local.context import LocalContext
from plait.engines.openai import OpenAIEngine
from plait.engines.scripted import ALL, ScriptedContext, ScriptedEngine
from plait.errors import CapabilityError, InputError
from plait.usage import Usage

pytestmark = pytest.mark.anyio
NO_IDS = {"stop token", "logprobs"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def outcomes(report: Report, outcome: str) -> dict[str, str]:
    return {result.name: result.seen for result in report.results if result.outcome == outcome}


# ---- engines that pass


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_the_scripted_engine_passes(anyio_backend: str) -> None:
    report = await check_engine(ScriptedEngine(conforming))
    assert report.ok, report.describe()
    assert set(outcomes(report, "refused")) == {*NO_IDS, "score", "embed", "adapter", "window"}


@pytest.mark.parametrize("text", ["completions", "user"])
async def test_the_openai_engine_passes_on_a_server_that_says_the_same_each_time(text: Any) -> None:
    def answer(body: dict[str, Any]) -> str:
        return conforming(body["prompt"] if "prompt" in body else str(body["messages"]), 0)

    with StubServer(answer) as server:
        report = await check_engine(OpenAIEngine("stub", url=server.url, text=text))
    assert report.ok, report.describe()
    assert {"messages", "stop text", "logprobs", "grammar JsonSchema", "usage over turns"} <= set(
        outcomes(report, "passed")
    )


async def test_what_an_engine_does_not_declare_has_to_be_refused() -> None:
    report = await check_engine(ScriptedEngine(conforming, capabilities=Capabilities(seeds=False, streaming=False)))
    assert report.ok, report.describe()
    needs = {check.name for check in CHECKS if check.needs}
    assert set(outcomes(report, "refused")) == needs | {"stop token"}


async def test_a_silent_server_of_a_small_window_is_checked_by_it() -> None:
    capabilities = replace(ALL, window=300)
    report = await check_engine(ScriptedEngine(conforming, capabilities=capabilities), only=["window", "shared prefix"])
    assert report.counts() == {"passed": 2}, report.describe()


# ---- engines that do not


class Forgetful(LocalEngine):
    """Gives what `shift` makes as `exact`."""

    async def prune(self, context: LocalContext, start: int, stop: int, mode: Mode) -> LocalContext:
        return await super().prune(context, start, stop, "shift")

    async def splice(self, context: LocalContext, others: Sequence[Context], at: Placement, mode: Mode) -> LocalContext:
        return await super().splice(context, others, at, "shift")


class Miscounting(LocalEngine):
    """Counts nothing of what it is given."""

    async def start(self, prompt: Prompt, *, adapter: str | Path = "") -> LocalContext:
        made = await super().start(prompt, adapter=adapter)
        made._usage = Usage()
        return made


class Deaf(LocalEngine):
    """Scores as if the context ended a word earlier."""

    async def score(self, context: LocalContext, continuations: Sequence[str]) -> list[float]:
        return await super().score(
            await self.prune(context, context.length - 2, context.length, "shift"), continuations
        )


class Lazy(ScriptedEngine):
    """Never says that it is closed, and takes any adapter and any length."""

    async def start(self, prompt: Prompt, *, adapter: str = "") -> ScriptedContext:
        self.closed = False
        return await super().start(prompt)


class Stuck(ScriptedEngine):
    """Never begins."""

    async def start(self, prompt: Prompt, *, adapter: str = "") -> ScriptedContext:
        await anyio.sleep_forever()
        raise AssertionError


def rambling() -> Callable[[str, int], str]:
    numbers = count()
    return lambda prompt, index: f"{next(numbers)} and {STORY}"


WRONG: dict[str, tuple[Callable[[], Any], str, str]] = {
    "a shift given as an exact prune": (lambda: Forgetful.open(kv_tokens=8192), "prune exact", "nats apart"),
    "a shift given as an exact splice": (lambda: Forgetful.open(kv_tokens=8192), "splice exact", "nats apart"),
    "prompts that aren't counted": (lambda: Miscounting.open(kv_tokens=8192), "usage", "live is not what it holds"),
    "scores of another context": (lambda: Deaf.open(kv_tokens=8192), "score", "no word's score"),
    "forks that differ": (lambda: ScriptedEngine(rambling()), "fork", "two forks of one context say"),
    "streams that differ": (lambda: ScriptedEngine(rambling()), "stream", "with and without a stream"),
    "seeds that draw anew": (lambda: ScriptedEngine(rambling()), "seed", "the same seed draws"),
    "samples that are drawn anew": (lambda: ScriptedEngine(rambling()), "samples", "the same seed draws"),
    "text outside a grammar": (lambda: ScriptedEngine([STORY] * 9), "grammar Regex", "finished by 'eos'"),
    "text outside a grammar that isn't checked": (lambda: ScriptedEngine([STORY] * 9), "grammar Lark", "it says 'Once"),
    "a capability that isn't there": (
        lambda: ScriptedEngine(conforming, capabilities=replace(ALL, score=True)),
        "score",
        "'score' is declared or needed, but refused",
    ),
    "what isn't declared and is done": (lambda: Lazy(conforming), "adapter", "it goes on with the adapter"),
    "an engine that is never closed": (lambda: Lazy(conforming), "close", "starts contexts all the same"),
    "a model that says nothing": (lambda: ScriptedEngine(lambda prompt, index: ""), "fork", "the model writes nothing"),
    "an error of another kind": (lambda: ScriptedEngine([]), "generate", "EngineError: the script has no more than 0"),
    "an engine that hangs": (lambda: Stuck(conforming), "start", "took longer than"),
}


@pytest.mark.parametrize("what", WRONG)
async def test_departures_are_found_out(what: str) -> None:
    make, name, seen = WRONG[what]
    engine = make()
    check = next(check for check in CHECKS if check.name == name)
    result = await run_check(check, Trial(engine), seconds=0.2 if "hangs" in what else 60)
    await engine.aclose()
    assert result.outcome == "failed"
    assert seen in result.seen


# ---- the suite itself


async def test_a_name_that_is_no_checks_is_refused() -> None:
    with pytest.raises(InputError, match="no check is called 'forks'; there are start, "):
        await check_engine(ScriptedEngine([]), only=["forks"])


async def test_results_come_as_checks_end_and_make_the_report() -> None:
    seen: list[Result] = []
    report = await check_engine(ScriptedEngine(conforming), only=["fork", "score", "start"], report=seen.append)
    assert [one.name for one in seen] == ["start", "fork", "score"]
    assert report.results == tuple(seen)
    assert report.as_dict()["counts"] == {"passed": 2, "refused": 1}
    assert report.describe().splitlines()[-1] == "scripted: 2 passed, 1 refused, 0 failed"


async def test_a_refusal_of_what_has_no_capability_counts_as_such_only_where_it_is_optional() -> None:
    async def refuse(trial: Trial) -> None:
        raise CapabilityError("can't")

    trial = Trial(ScriptedEngine([]))
    must, may = Check("a", "a", refuse), Check("b", "b", refuse, optional=True)
    assert [(await run_check(one, trial)).outcome for one in (must, may)] == ["failed", "refused"]


def test_checks_have_names_of_their_own_and_say_what_they_check() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    assert all(check.says and check.says[0].islower() for check in CHECKS)
    assert CHECKS[-1].name == "close"

"""Several engines in one run: each role on its own, each engine under its own limit, alone and with a journal."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from several import DRAFTS, layers
from stub_server import StubServer

import plait
from plait.engines import Roles
from plait.engines.local import LocalEngine
from plait.engines.local.context import LocalContext
from plait.engines.local.generation import Generation
from plait.engines.local.work import Work
from plait.engines.openai import OpenAIEngine
from plait.engines.remote import Server
from plait.engines.scripted import Reply, ScriptedEngine
from plait.errors import InputError, NodeError, TransientEngineError
from plait.orchestrator import Journal, Limits, Scope

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class CountedLocal(LocalEngine):
    """Notes how many generations are in flight whenever one begins."""

    peak = 0

    def begin(self, context: LocalContext | None, work: Work) -> None:
        self.works = [one for one in [*getattr(self, "works", ()), work] if isinstance(one, Generation)]
        self.peak = max(self.peak, sum(one.finish is None for one in self.works))
        super().begin(context, work)

    @property
    def calls(self) -> int:
        return len(getattr(self, "works", ()))


class CountedServer(OpenAIEngine):
    """Notes how many requests are in flight."""

    now = peak = calls = 0

    async def events(self, server: Server, path: str, body: Mapping[str, Any]) -> AsyncGenerator[Any, None]:
        self.calls += 1
        self.now += 1
        self.peak = max(self.peak, self.now)
        try:
            async for event in super().events(server, path, body):
                yield event
        finally:
            self.now -= 1


@dataclass
class Cast:
    """Who plays which role, and the most generations that each had in flight."""

    writer: CountedLocal
    judge: CountedServer
    fuser: ScriptedEngine = field(
        default_factory=lambda: ScriptedEngine(lambda prompt, index: Reply(f"fused {index}", latency=0.002))
    )

    @property
    def roles(self) -> Roles:
        return Roles({"writer": self.writer, "judge": self.judge, "fuser": self.fuser})

    @property
    def peaks(self) -> tuple[int, int, int]:
        return self.writer.peak, self.judge.peak, self.fuser.peak_active

    @property
    def calls(self) -> tuple[int, int, int]:
        return self.writer.calls, self.judge.calls, self.fuser.calls

    def limits(self, writer: int, judge: int, fuser: int) -> Limits:
        return Limits(engines={self.writer.name: writer, self.judge.name: judge, self.fuser.name: fuser})


@pytest.fixture
def cast() -> Iterator[Cast]:
    with StubServer() as server:
        yield Cast(CountedLocal.open(kv_tokens=4096), CountedServer("stub", url=server.url))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "runs.db") as opened:
        yield opened


async def test_three_engines_work_in_one_run_each_under_its_own_limit(cast: Cast) -> None:
    async with cast.roles as engine:
        value = await layers.run(engine=engine, limits=cast.limits(2, 3, 1))
    assert sorted(value) == [f"fused {number}" for number in range(DRAFTS)]
    assert cast.calls == (DRAFTS, DRAFTS, DRAFTS)
    assert all(1 <= peak <= limit for peak, limit in zip(cast.peaks, (2, 3, 1), strict=True))


async def test_without_a_limit_all_work_at_once(cast: Cast) -> None:
    async with cast.roles as engine:
        await layers.run(engine=engine, limits=cast.limits(2, 0, 0))
    assert cast.fuser.peak_active == DRAFTS


async def test_limits_of_engines_and_of_all_of_them_hold_at_once() -> None:
    first, second = (
        ScriptedEngine(lambda prompt, index: Reply("x", latency=0.002), name=name) for name in ("first", "second")
    )
    engine = Roles({"writer": first, "*": second})
    await layers.run(engine=engine, limits=Limits(engine=3, engines={"first": 5, "second": 2}))
    assert (first.peak_active, second.peak_active) == (3, 2)


async def test_a_run_that_goes_on_from_its_journal_keeps_the_limits(journal: Journal, cast: Cast) -> None:
    broken = ScriptedEngine(lambda prompt, index: Reply("", error=TransientEngineError("down")))
    whole, cast.fuser = cast.fuser, broken
    async with cast.roles as engine:
        with pytest.raises(NodeError, match="down"):
            await layers.run(engine=engine, journal=journal)
        (begun,) = journal.runs()
        calls, cast.fuser = cast.calls[:2], whole
        value = await layers.run(
            engine=cast.roles, journal=journal.resume(begun.run), limits=Limits(engines={whole.name: 2})
        )
    assert sorted(value) == [f"fused {number}" for number in range(DRAFTS)]
    assert cast.calls == (*calls, DRAFTS)
    assert whole.peak_active == 2
    assert await layers.run(journal=journal.replay(begun.run), limits=Limits(engines={"gone": 1})) == value


async def test_a_draft_that_goes_on_from_a_journal_is_held_to_its_own_engines_limit(journal: Journal) -> None:
    async def drafts(scope: Scope) -> list[str]:
        async def draft(inner: Scope) -> str:
            context = await inner.start("one", adapter="writer")
            first = await inner.generate(context)
            longer = await inner.extend(first.context, " two")
            return first.text + (await inner.generate(longer)).text

        return await scope.gather([(f"draft {number}", draft) for number in range(DRAFTS)])

    graph, failing = plait.graph(lambda g: g.drive(drafts), name="drafts"), [True]

    def answer(prompt: str, index: int) -> Reply:
        fault = TransientEngineError("down") if failing and prompt.endswith(" two") else None
        return Reply("x", latency=0.002, error=fault)

    writer = ScriptedEngine(answer, name="small")
    engine = Roles({"writer": writer, "other": ScriptedEngine([])})
    with pytest.raises(NodeError, match="down"):
        await graph.run(engine=engine, journal=journal)
    failing.clear()
    writer.peak_active = 0
    past = journal.resume(journal.runs()[0].run)
    assert await graph.run(engine=engine, journal=past, limits=Limits(engines={"small": 2})) == ["xx"] * DRAFTS
    assert writer.peak_active == 2


async def test_the_one_engine_of_a_run_has_a_name_for_its_limit_too() -> None:
    engine = ScriptedEngine(lambda prompt, index: Reply("x", latency=0.002))
    graph = plait.graph(lambda g: g.think("Go.", samples=6), name="samples")
    for limits, peak in [
        (Limits(engines={"scripted": 2}), 2),
        (Limits(engine=3, engines={"scripted": 5}), 3),
        (Limits(engine=5, engines={"scripted": 3}), 3),
    ]:
        engine.peak_active = 0
        await graph.run(engine=engine, limits=limits)
        assert engine.peak_active == peak


async def test_a_limit_of_an_engine_that_is_not_there_is_refused() -> None:
    engine = ScriptedEngine([])
    with pytest.raises(InputError, match="limits name engine 'vllm', which the run has not; it has scripted"):
        await layers.run(engine=Roles({"*": engine}), limits=Limits(engines={"vllm": 1}))
    with pytest.raises(InputError, match="limit scripted=-1 is negative"):
        Limits(engines={"scripted": -1})

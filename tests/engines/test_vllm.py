"""The vLLM engine against a server of our own that has vLLM's routes."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import vllm_stub
from conforming import conforming
from vllm_stub import NAME, VllmStub

import plait
from plait import errors
from plait.engines import Choice, Ebnf, JsonSchema, Lark, Message, Regex, Sampling, open_engine
from plait.engines.base import HoldsKeys
from plait.engines.conformance import check_engine
from plait.engines.vllm import Counters, VllmEngine
from plait.engines.vllm.engine import PYTHON

pytestmark = pytest.mark.anyio
KEY = "sk-very-secret-key"


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[VllmStub]:
    monkeypatch.setenv("PLAIT_API_KEY", KEY)
    with VllmStub() as server:
        yield server


@pytest.fixture
async def engine(stub: VllmStub) -> AsyncIterator[VllmEngine]:
    async with VllmEngine.at(stub.url, timeout=60) as opened:
        yield opened


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


async def test_it_passes_the_conformance_suite(stub: VllmStub) -> None:
    stub.says = lambda prompt: conforming(prompt, 0) + NAME
    report = await check_engine(VllmEngine.at(stub.url))
    assert report.ok, report.describe()
    assert report.counts()["passed"] >= 30


async def test_it_is_opened_by_name(stub: VllmStub) -> None:
    async with open_engine(f"vllm:{stub.url}/v1") as engine:
        assert engine.name == f"vllm:{stub.url}"
        assert engine.capabilities.window == 1000
        out = await (await engine.start("hi")).generate()
    assert (out.text, out.finish) == ("you said hi", "eos")
    assert stub.keys == [f"Bearer {KEY}"]
    async with open_engine(f"vllm:stub@{stub.url}") as engine:
        assert engine.name == f"vllm:stub@{stub.url}"
    with pytest.raises(errors.UnknownModelError, match="it has: stub"):
        async with open_engine(f"vllm:other@{stub.url}"):
            pass


def test_a_run_is_told_of_its_key_to_hide_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_VARIABLE", KEY)
    engine = VllmEngine.at("http://127.0.0.1:1", key="A_VARIABLE")
    assert isinstance(engine, HoldsKeys)
    assert engine.keys == {"A_VARIABLE": KEY}


def test_an_address_that_holds_a_key_is_refused_without_showing_it() -> None:
    for name in (f"vllm:http://me:{KEY}@host:1", f"vllm:m@http://me:{KEY}@host:1", f"vllm:http://host:1?key={KEY}"):
        with pytest.raises(errors.InputError, match="environment variable") as caught:
            open_engine(name)
        assert KEY not in str(caught.value)


async def test_a_server_that_shows_no_routes_is_used_without_adapters(stub: VllmStub) -> None:
    stub.shows_routes = False
    async with VllmEngine.at(stub.url) as engine:
        assert not engine.capabilities.adapters


async def test_requests_say_all_of_a_sampling(stub: VllmStub) -> None:
    sampling = Sampling(
        temperature=0.7,
        top_k=5,
        top_p=0.0,
        min_p=0.1,
        seed=2**62,
        presence_penalty=0.5,
        logit_bias={65: -3.0},
        logprobs=2,
    )
    async with VllmEngine.at(stub.url, priority=3, cache_salt="tenant") as engine:
        context = await engine.start("hi")
        out = await context.generate(max_tokens=2, stop=["zz", 90], sampling=sampling)
        await context.generate(max_tokens=1)
    asked, plain = stub.requests
    assert asked["prompt"] == [104, 105]
    assert asked["temperature"] == 0.7
    assert 0 < asked["top_p"] < 1e-6
    assert (asked["seed"], asked["stop"], asked["stop_token_ids"]) == (2**62, ["zz"], [90])
    assert (asked["priority"], asked["cache_salt"], asked["logit_bias"]) == (3, "tenant", {"65": -3.0})
    assert [likely.text for likely in out.logprobs[0].best] == ["y", "z"]
    assert (plain["temperature"], plain["top_k"], "seed" in plain) == (0.0, 0, False)


@pytest.mark.parametrize(
    ("grammar", "field"),
    [
        (JsonSchema({"type": "integer"}), {"json": {"type": "integer"}}),
        (Regex("4"), {"regex": "4"}),
        (Choice(("4", "5")), {"choice": ["4", "5"]}),
        (Lark('start: "4"'), {"grammar": 'start: "4"'}),
        (Ebnf('root ::= "4"'), {"grammar": 'root ::= "4"'}),
    ],
)
async def test_grammars_go_to_the_server(engine: VllmEngine, stub: VllmStub, grammar: Any, field: Any) -> None:
    stub.says = lambda _: f"4{NAME}"
    out = await (await engine.start("hi")).generate(grammar=grammar)
    assert stub.requests[0]["structured_outputs"] == field
    assert (out.finish, out.text, out.usage.generated) == ("grammar", "4", 1)


async def test_a_grammar_that_is_refused_is_a_grammar_error(engine: VllmEngine, stub: VllmStub) -> None:
    context = await engine.start("hi")
    with pytest.raises(errors.GrammarError, match="unterminated"):
        await context.generate(grammar=Regex("["))
    stub.faults = [(400, {"error": {"message": "Grammar error", "code": 400}})]
    with pytest.raises(errors.RequestError):
        await context.generate()


async def test_text_that_is_no_json_is_refused_by_name(engine: VllmEngine, stub: VllmStub) -> None:
    stub.says = lambda _: '"a\nb"' + NAME
    with pytest.raises(errors.GrammarError, match="control character"):
        await (await engine.start("hi")).generate(grammar=JsonSchema({"type": "string", "maxLength": 5}))


async def test_conversations_go_on(engine: VllmEngine, stub: VllmStub) -> None:
    stub.says = lambda _: f"yes{NAME}"
    said = await (await engine.start([Message("user", "hi")])).generate()
    longer = await said.context.extend([Message("user", "so?")])
    assert longer.text == "<user>hi</><assistant>yes</><user>so?</><assistant>"


async def test_usage_is_what_the_server_counts(engine: VllmEngine, stub: VllmStub) -> None:
    context = await engine.start("x" * 100)
    outs = await context.samples(8, max_tokens=4)
    seen = await engine.counters()
    assert seen.prompt == sum(out.usage.prefilled + out.usage.cached + out.usage.recomputed for out in outs) == 800
    assert seen.found == sum(out.usage.cached for out in outs)
    assert seen.generated == sum(out.usage.generated for out in outs) == 32
    assert seen.hit_rate == seen.found / 800
    assert (seen - seen) == Counters()


async def test_a_server_that_does_not_tell_what_is_cached_is_warned_of_once(
    engine: VllmEngine, stub: VllmStub, caplog: pytest.LogCaptureFixture
) -> None:
    stub.tells_cached = False
    context = await engine.start("x" * 100)
    with caplog.at_level(logging.WARNING, "plait"):
        used = [(await context.generate(max_tokens=1)).usage for _ in range(2)]
    assert [(one.prefilled, one.recomputed, one.cached) for one in used] == [(100, 0, 0), (0, 100, 0)]
    assert [record.message.count("--enable-prompt-tokens-details") for record in caplog.records] == [1]


async def test_continuations_are_scored(engine: VllmEngine) -> None:
    assert await (await engine.start("hi")).score(["y", "z!"]) == pytest.approx([-0.5, -10.5])


async def test_adapters_are_named_or_loaded(stub: VllmStub) -> None:
    async with VllmEngine.at(stub.url) as engine:
        assert not engine.capabilities.adapters
        with pytest.raises(errors.CapabilityError, match="--enable-lora"):
            await engine.start("hi", adapter="one")
    stub.adapters, stub.loads_adapters = {"one": "/a"}, True
    async with VllmEngine.at(stub.url) as engine:
        assert engine.capabilities.adapters
        await (await engine.start("hi", adapter="one")).generate(max_tokens=1)
        context = await engine.start("hi", adapter="/folders/two")
        await context.generate(max_tokens=1)
        await (await engine.start("hi", adapter="/folders/two")).generate(max_tokens=1)
    assert [asked["model"] for asked in stub.requests] == ["one", context.adapter, context.adapter]
    assert stub.adapters == {"one": "/a", context.adapter: "/folders/two"}


@pytest.mark.parametrize(
    ("status", "kind"),
    [(500, errors.ServerFaultError), (429, errors.RateLimitError), (401, errors.AccessError)],
)
async def test_faults_are_named_and_show_no_key(
    engine: VllmEngine, stub: VllmStub, status: int, kind: type[errors.EngineError]
) -> None:
    context = await engine.start("hi")
    stub.faults = [(status, {"error": {"message": f"no {KEY}"}})]
    with pytest.raises(kind) as caught:
        await context.generate()
    assert KEY not in str(caught.value) + repr(caught.value.__context__)
    assert stub.url in str(caught.value)


async def test_a_server_that_gives_no_token_ids_is_too_old(engine: VllmEngine, stub: VllmStub) -> None:
    stub.gives_ids = False
    with pytest.raises(errors.AnswerError, match=r"0\.11"):
        await (await engine.start("hi")).generate()


async def test_a_generation_that_is_left_ends_on_the_server(engine: VllmEngine, stub: VllmStub) -> None:
    stub.hangs = True
    context = await engine.start("hi")
    async with context.stream() as stream:
        async for _ in stream:
            assert (await engine.counters()).running == 1
            break
    assert await anyio.to_thread.run_sync(stub.wait_left)


async def test_closing_ends_what_is_under_way(stub: VllmStub) -> None:
    stub.hangs = True
    async with VllmEngine.at(stub.url) as engine, (await engine.start("hi")).stream() as stream:
        await anext(aiter(stream))
        await engine.aclose()
        with pytest.raises(errors.EngineClosedError):
            await anext(aiter(stream))


async def test_a_server_that_is_gone_is_a_passing_fault(stub: VllmStub) -> None:
    engine = VllmEngine.at("http://127.0.0.1:9")  # discard: nobody listens there
    with pytest.raises(errors.ServerLostError, match=r"127\.0\.0\.1:9"):
        await engine.start("hi")


async def test_graphs_run_on_it(stub: VllmStub) -> None:
    @plait.graph
    def build(g: plait.Builder, word: str) -> str:
        first = g.think("{w}", w=word)
        return g.think(" again", after=first)

    assert "again" in await build.run("hi", engine=f"vllm:{stub.url}")


# ---- a server of one's own


async def test_it_starts_a_server_and_stops_it(model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {vllm_stub.__file__} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv(PYTHON, str(python))
    async with open_engine(f"vllm:{model}") as engine:
        assert isinstance(engine, VllmEngine)
        assert engine.child is not None
        assert engine.child.running
        assert (await (await engine.start("hi")).generate()).text == "you said hi"
    assert not engine.child.running


def test_what_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.CheckpointError, match="vllm:http"):
        open_engine(f"vllm:{tmp_path}")


@pytest.mark.parametrize("options", [{}, {"in_process": True}])
def test_without_vllm_the_extra_is_named(model: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    monkeypatch.delenv(PYTHON, raising=False)
    monkeypatch.setitem(sys.modules, "vllm", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(errors.MissingExtraError, match=r"plait\[vllm\]"):
        open_engine(f"vllm:{model}", **options)

"""The vLLM engine on real vLLM servers, with the embedded model and a random one.

    PLAIT_VLLM_PYTHON=…/bin/python pytest -m real_engines tests/real_engines/test_vllm.py

PLAIT_VLLM_PYTHON is the Python of an environment that has vLLM. One server runs at a time.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from random_model import random_adapter, random_model
from several import DRAFTS, layers

import plait
from plait.engines import Choice, Context, Engine, JsonSchema, Lark, Message, Regex, Roles, Sampling
from plait.engines.child import Child
from plait.engines.conformance import check_engine
from plait.engines.local import LocalEngine
from plait.engines.port import Answer, Completion
from plait.engines.scripted import Reply, ScriptedEngine
from plait.engines.together import side_by_side
from plait.engines.vllm import VllmEngine
from plait.engines.vllm.engine import PYTHON
from plait.errors import ContextLengthError, GrammarError, NodeError, ServerLostError, TransientEngineError
from plait.orchestrator import Journal, Limits
from plait.orchestrator.events import NodeText
from plait.recipes.prompt import conversation
from plait.recipes.training.questions import FAMILIES, questions
from plait.tools import ToolBox, default_tools

pytestmark = [
    pytest.mark.real_engines,
    pytest.mark.anyio,
    pytest.mark.skipif(not os.environ.get(PYTHON), reason=f"{PYTHON} names no Python with vLLM"),
]
FLOAT32 = ("--dtype", "float32")
ENDLESS = Sampling(logit_bias={1: -100.0})
"""Does not end by itself."""
ROOT = Path(plait.__file__).parent
NEVER = 1200.0
"""Seconds that nothing here takes, on a machine however busy."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def own(model: Path = LocalEngine.EMBEDDED, *args: str, **options: Any) -> VllmEngine:
    """A server of one's own, in float32 as the local engine is compared in."""
    return VllmEngine.server(model, args=[*FLOAT32, *args], start_seconds=NEVER, timeout=NEVER, **options)


@pytest.fixture(scope="module")
def server() -> Iterator[VllmEngine]:
    """A server with the embedded model, which lasts for the module."""
    engine = own()
    anyio.run(engine.connect)
    try:
        anyio.run(warm, engine)
        yield engine
    finally:
        anyio.run(engine.aclose)


async def warm(engine: Engine) -> None:
    """The first request with log-probabilities compiles."""
    await (await engine.start("Hi")).generate(max_tokens=1, sampling=Sampling(logprobs=1))


def client(server: VllmEngine, **options: Any) -> VllmEngine:
    """Another engine on the same server."""
    return VllmEngine.at(server.url, timeout=NEVER, **options)


# ---- 1: conformance


async def test_it_passes_the_conformance_suite_on_the_embedded_model(server: VllmEngine) -> None:
    report = await check_engine(client(server), seconds=NEVER)
    print(report.describe())
    assert report.ok, report.describe()


# ---- 2: the same answers


async def test_the_embedded_model_answers_100_questions_as_on_the_local_engine(server: VllmEngine) -> None:
    asked = [problem for family in FAMILIES for problem in questions(family, 100)][:: len(FAMILIES)][:100]
    tools = ToolBox(default_tools()).describe()
    prompts = [conversation("tim", problem.question, tools=tools) for problem in asked]
    async with LocalEngine.open(dtype="float32") as local, client(server) as remote:
        here, there = await _answers(local, prompts), await _answers(remote, prompts)
    assert len(here) == len(there) == 100
    apart = [
        (prompt[-1].content, *pair) for prompt, *pair in zip(prompts, here, there, strict=True) if pair[0] != pair[1]
    ]
    for question, mine, theirs in apart:
        step = next(n for n, (a, b) in enumerate(zip((*mine, -1), (*theirs, -1), strict=False)) if a != b)
        print(f"{question!r}: differ at step {step}: {mine[step:][:4]} and {theirs[step:][:4]}")
    print(f"{100 - len(apart)} of 100 are token-identical")
    assert not apart
    assert any(len(tokens) > 20 for tokens in here)


async def _answers(engine: Engine, prompts: Sequence[Sequence[Message]]) -> list[tuple[int, ...]]:
    async def answer(prompt: Sequence[Message]) -> tuple[int, ...]:
        return (await (await engine.start(prompt)).generate(max_tokens=160)).tokens

    return await side_by_side([partial(answer, prompt) for prompt in prompts])


# ---- 3: a fork is encoded once


async def test_an_eight_way_fork_encodes_its_prefix_once(server: VllmEngine) -> None:
    async with client(server, cache_salt="fork") as engine:
        context = await _of_length(engine, 1500)
        before = await engine.counters()
        outs = await context.samples(8, max_tokens=8, sampling=Sampling(temperature=1.0, seed=1))
        since = await engine.counters() - before
    used = [out.usage for out in outs]
    print(since, f"hit rate {since.hit_rate:.3f}")
    assert since.prompt == sum(one.prefilled + one.cached + one.recomputed for one in used) == 8 * context.length
    assert since.found == sum(one.cached for one in used)
    assert since.encoded == sum(one.prefilled + one.recomputed for one in used)
    assert sum(one.prefilled for one in used) == context.length
    ended = sum(out.finish == "eos" for out in outs)
    assert since.generated == sum(one.generated for one in used) + ended
    blocks = 128  # tokens of a page of vLLM's on a CPU; a page that isn't full is each one's own
    assert since.encoded < context.length + 8 * blocks


async def test_tenants_with_different_salts_share_nothing(server: VllmEngine) -> None:
    cached = []
    for salt in ("one", "one", "two"):
        async with client(server, cache_salt=salt) as engine:
            out = await (await _of_length(engine, 300)).generate(max_tokens=1)
            cached.append(out.usage.cached)
    assert cached[0] == cached[2] == 0
    assert cached[1] >= 256


async def test_a_pruned_context_is_sent_again_and_counts_what_that_cost(server: VllmEngine) -> None:
    async with client(server, cache_salt="prune") as engine:
        context = await _of_length(engine, 1000)
        await context.generate(max_tokens=1)
        before = await engine.counters()
        pruned = await context.prune(300, 400, mode="exact")
        out = await pruned.generate(max_tokens=1)
        since = await engine.counters() - before
    assert (out.usage.prefilled, pruned.usage.pruned) == (0, 100)
    assert out.usage.recomputed == since.encoded > 0
    assert out.usage.cached == since.found >= 256


async def _of_length(engine: Engine, length: int) -> Context:
    """A context of so many tokens."""
    unit = (await engine.start("one two three ")).length
    context = await engine.start("one two three " * (length // unit))
    while context.length < length:
        context = await context.extend(" ")  # one token
    assert context.length == length
    return context


# ---- what it can do


async def test_scores_and_log_probabilities_are_those_of_the_local_engine(server: VllmEngine) -> None:
    told = [" 5", "5", " I do not know.", ""]
    async with LocalEngine.open(dtype="float32") as local, client(server) as remote:
        mine, theirs = [await engine.start("What is 2 + 3?") for engine in (local, remote)]
        assert await theirs.score(told) == pytest.approx(await mine.score(told), abs=1e-3)
        here, there = [
            await context.generate(max_tokens=6, sampling=Sampling(logprobs=3)) for context in (mine, theirs)
        ]
    assert [entry.token for entry in here.logprobs] == [entry.token for entry in there.logprobs]
    for one, other in zip(here.logprobs, there.logprobs, strict=True):
        assert other.logprob == pytest.approx(one.logprob, abs=1e-3)
        assert [likely.text for likely in other.best] == [likely.text for likely in one.best]


async def test_grammars_hold(server: VllmEngine) -> None:
    string = {"type": "string", "maxLength": 8}
    note = JsonSchema(
        {"type": "object", "properties": {"note": string}, "required": ["note"], "additionalProperties": False}
    )
    hot = Sampling(temperature=2.0)
    async with client(server) as engine:
        context = await engine.start([Message("user", "What is 2 + 3?")])
        assert (await context.generate(grammar=Choice(("yes", "no")))).text in ("yes", "no")
        assert (await context.generate(grammar=Regex("[ab]{3}"))).finish == "grammar"
        assert (await context.generate(grammar=Lark('start: "q" /[0-9]{2}/'))).text[0] == "q"
        for out in await context.samples(8, grammar=note, sampling=hot):
            assert out.finish == "grammar"  # it is checked: raw control characters would be a GrammarError
        with pytest.raises(GrammarError):
            await context.generate(grammar=Regex("[ab"))


async def test_a_window_that_is_full_is_named(server: VllmEngine) -> None:
    async with client(server) as engine:
        assert engine.capabilities.window == 2048
        context = await _of_length(engine, 2046)
        assert (await context.generate(max_tokens=9)).finish in ("window", "eos")
        with pytest.raises(ContextLengthError):
            await context.extend("one two three four")


async def test_a_recipe_finds_the_same_answers(server: VllmEngine) -> None:
    """TIM writes freely here, since a server begins a grammar with each request."""
    asked = ["Which country has more people, Chile or Bolivia?", "How many people do Chile and Bolivia have together?"]
    tim = plait.recipes.tim(mode="exact")
    async with LocalEngine.open(dtype="float32") as local, client(server) as remote:
        here, there = [[await tim.run(question, engine=engine) for question in asked] for engine in (local, remote)]
    assert here == there == ["Chile", "32018161"]


# ---- 4: cancelled, killed, resumed


async def test_a_cancelled_generation_ends_on_the_server(server: VllmEngine) -> None:
    async with client(server) as engine:
        context = await engine.start("one two three")
        async with context.stream(max_tokens=1500, sampling=ENDLESS) as stream:
            async for _ in stream:
                if (await engine.counters()).running == 1:
                    break
            else:
                pytest.fail("it was never seen running")
        await _until_running(engine, 0)


async def _until_running(engine: VllmEngine, count: int) -> None:
    """Wait until so many requests run on the server."""
    with anyio.fail_after(NEVER):
        while True:
            if (await engine.counters()).running == count:
                return
            await anyio.sleep(0.01)


async def test_a_cancelled_run_ends_on_the_server(server: VllmEngine) -> None:
    @plait.graph
    def build(g: plait.Builder) -> str:
        return g.think("one two three", max_tokens=1500, sampling=ENDLESS)

    async with client(server) as engine:
        async with anyio.create_task_group() as group:

            async def run() -> None:
                await build.run(engine=client(server))

            group.start_soon(run)
            await _until_running(engine, 1)
            group.cancel_scope.cancel()
        await _until_running(engine, 0)


@plait.graph(name="chain")
def chain(g: plait.Builder) -> list[str]:
    """Three thoughts, each of which goes on from the one before."""
    first = g.think("What is 2 + 3?", name="first", max_tokens=8)
    second = g.think("And what is that plus 4?", after=first, name="second", max_tokens=8)
    third = g.think("And then?", after=second, name="third", max_tokens=400, sampling=ENDLESS)
    return [first, second, third]


async def test_a_server_that_dies_is_named_and_the_run_goes_on_on_its_replacement(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.db") as journal:
        async with own() as engine:
            await warm(engine)
            failure = await _run_until_killed(engine, journal)
            assert isinstance(failure, ServerLostError)
            assert isinstance(failure, TransientEngineError)
            assert engine.url in str(failure)
            with pytest.raises(ServerLostError):
                await (await engine.start("Hello")).generate(max_tokens=1)
        (run,) = journal.runs()
        assert run.state == "failed"
        async with own() as replacement:
            before = await replacement.counters()
            async with chain.stream(engine=replacement, journal=journal.resume(run.run)) as resumed:
                events = [event async for event in resumed]
            since = await replacement.counters() - before
    third = "".join(event.text for event in events if isinstance(event, NodeText) and event.path == "third")
    assert resumed.value[2] == third != ""
    print(since, resumed.usage)
    async with LocalEngine.open(dtype="float32") as local:
        assert resumed.value == await chain.run(engine=local)
    assert since.generated <= 400  # the third thought's alone; the first two would be 16 more, in two more requests


async def _run_until_killed(engine: VllmEngine, journal: Journal) -> BaseException | None:
    """The cause of a run's failure, of which the server is killed in the third thought."""
    assert engine.child is not None
    with pytest.raises(NodeError, match="node 'third' failed") as caught:
        await _run_and_kill(engine.child, chain.stream(engine=engine, journal=journal))
    return caught.value.__cause__


async def _run_and_kill(child: Child, stream: Any) -> None:
    async with stream as run:
        async for event in run:
            if isinstance(event, NodeText) and event.path == "third" and child.running:
                os.killpg(child.pid, signal.SIGKILL)


# ---- 7: three engines at once


async def test_three_engines_work_in_one_run_each_under_its_own_limit(
    server: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge, fuser = client(server), ScriptedEngine(lambda prompt, index: Reply(f"fused {index}", latency=0.002))
    complete, now, peak, asked = judge.port.complete, 0, 0, 0

    async def counted(completion: Completion) -> Answer:
        nonlocal now, peak, asked
        now, asked = now + 1, asked + 1
        peak = max(peak, now)
        try:
            async with aclosing(complete(completion)) as answer:
                async for part in answer:
                    yield part
        finally:
            now -= 1

    monkeypatch.setattr(judge.port, "complete", counted)
    async with Roles({"writer": LocalEngine.open(kv_tokens=4096), "judge": judge, "fuser": fuser}) as engine:
        limits = Limits(engines={judge.name: 2, fuser.name: 1})
        value = await layers.run(engine=engine, limits=limits)
    assert sorted(value) == [f"fused {number}" for number in range(DRAFTS)]
    assert (asked, fuser.calls) == (DRAFTS, DRAFTS)
    assert 1 <= peak <= 2
    assert fuser.peak_active == 1


# ---- other ways to open it


async def test_it_passes_the_conformance_suite_on_untrained_weights(tmp_path: Path) -> None:
    async with own(random_model(tmp_path)) as engine:
        report = await check_engine(engine, seconds=NEVER)
    print(report.describe())
    assert report.ok, report.describe()


def test_it_passes_the_conformance_suite_without_a_server(tmp_path: Path) -> None:
    (tmp_path / "plait").symlink_to(ROOT, target_is_directory=True)
    done = subprocess.run(
        [os.environ[PYTHON], Path(__file__).with_name("vllm_in_process.py"), LocalEngine.EMBEDDED],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1", "VLLM_CPU_KVCACHE_SPACE": "1"},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        timeout=NEVER,
        check=True,
    )
    print(done.stdout)
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["ok"]

    async def local() -> list[int]:
        async with LocalEngine.open(dtype="float32") as engine:
            return list((await (await engine.start("What is 2 + 3?")).generate(max_tokens=24)).tokens)

    assert said["tokens"] == anyio.run(local)


async def test_lora_weights_say_what_they_say_on_the_local_engine(tmp_path: Path) -> None:
    adapter = random_adapter(tmp_path / "adapter")
    async with LocalEngine.open(dtype="float32") as local, own(lora=True) as remote:
        said = []
        for engine in (local, remote):
            plain = await (await engine.start("What is 2 + 3?")).generate(max_tokens=24)
            adapted = await (await engine.start("What is 2 + 3?", adapter=str(adapter))).generate(max_tokens=24)
            said.append((plain.tokens, adapted.tokens))
    assert said[0] == said[1]
    assert said[0][0] != said[0][1]

"""The SGLang engine on real SGLang servers, with the embedded model and a random one.

    PLAIT_SGLANG_PYTHON=…/bin/python pytest -m real_engines tests/real_engines/test_sglang.py

PLAIT_SGLANG_PYTHON is the Python of an environment that has SGLang (sglang.sh makes one). Here it runs on a CPU, by the
shims in sglang_on_cpu. One server runs at a time.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from random_model import random_model

import plait
from plait.engines import Choice, Context, Ebnf, Engine, JsonSchema, Message, Regex, Sampling
from plait.engines.conformance import check_engine
from plait.engines.local import LocalEngine
from plait.engines.sglang import SGLangEngine
from plait.engines.sglang.engine import PYTHON
from plait.engines.together import side_by_side
from plait.errors import ContextLengthError, NodeError, ServerLostError, TransientEngineError
from plait.orchestrator import Journal
from plait.orchestrator.events import NodeText
from plait.recipes.prompt import conversation
from plait.recipes.training.questions import FAMILIES, questions
from plait.tools import ToolBox, default_tools

pytestmark = [
    pytest.mark.real_engines,
    pytest.mark.anyio,
    pytest.mark.skipif(not os.environ.get(PYTHON), reason=f"{PYTHON} names no Python with SGLang"),
]
NEVER = 1200.0
"""Seconds that nothing here takes, on a machine however busy."""
SHIMS = Path(__file__).with_name("sglang_on_cpu")
ON_CPU = {"PYTHONPATH": str(SHIMS), "SGLANG_USE_CPU_ENGINE": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
SMALL = ("--attention-backend", "torch_native", "--mem-fraction-static", "0.3", "--max-total-tokens", "30000")
"""What a server on a CPU needs, and how much it may hold."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def own(model: Path = LocalEngine.EMBEDDED) -> SGLangEngine:
    """A server of one's own, in float32 as the local engine is compared in."""
    args = ["--dtype", "float32", *SMALL]
    return SGLangEngine.server(model, args=args, environment=ON_CPU, start_seconds=NEVER, timeout=NEVER)


@pytest.fixture(scope="module")
def server() -> Iterator[SGLangEngine]:
    """A server with the embedded model, which lasts for the module."""
    engine = own()
    anyio.run(engine.connect)
    try:
        yield engine
    finally:
        anyio.run(engine.aclose)


def client(server: SGLangEngine, **options: Any) -> SGLangEngine:
    """Another engine on the same server."""
    return SGLangEngine.at(server.url, timeout=NEVER, **options)


# ---- 1: conformance


@pytest.mark.parametrize("sessions", [False, True])
async def test_it_passes_the_conformance_suite_on_the_embedded_model(server: SGLangEngine, sessions: bool) -> None:
    report = await check_engine(client(server, sessions=sessions), seconds=NEVER)
    print(report.describe())
    assert report.ok, report.describe()


async def test_it_passes_the_conformance_suite_in_process() -> None:
    """In a process of SGLang's Python, which has to find plait and the shims."""
    root = str(Path(plait.__file__).parent)
    command = [os.environ[PYTHON], str(SHIMS / "in_process.py"), str(LocalEngine.EMBEDDED), root]
    done = await anyio.run_process(command, check=False, env={**os.environ, **ON_CPU}, stderr=subprocess.STDOUT)
    said = done.stdout.decode(errors="replace")
    print(said)
    assert done.returncode == 0, said
    assert " 0 failed" in said


# ---- 2: the same answers


async def test_the_embedded_model_answers_100_questions_as_on_the_local_engine(server: SGLangEngine) -> None:
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
    print(f"{100 - len(apart)} of 100 are token-identical, {sum(map(len, here))} tokens")
    assert not apart
    assert any(len(tokens) > 20 for tokens in here)


async def _answers(engine: Engine, prompts: Sequence[Sequence[Message]]) -> list[tuple[int, ...]]:
    async def answer(prompt: Sequence[Message]) -> tuple[int, ...]:
        return (await (await engine.start(prompt)).generate(max_tokens=160)).tokens

    return await side_by_side([partial(answer, prompt) for prompt in prompts])


async def test_scores_and_log_probabilities_are_those_of_the_local_engine(server: SGLangEngine) -> None:
    told = [" 5", "5", " I do not know.", ""]
    asks: list[dict[str, Any]] = [
        {"sampling": Sampling(logprobs=3)},
        {"sampling": Sampling(logprobs=3, presence_penalty=1.0)},
        {"sampling": Sampling(logprobs=3), "grammar": Regex("[0-9]{2}")},
    ]
    async with LocalEngine.open(dtype="float32") as local, client(server) as remote:
        mine, theirs = [await engine.start("What is 2 + 3?") for engine in (local, remote)]
        assert await theirs.score(told) == pytest.approx(await mine.score(told), abs=1e-3)
        for ask in asks:
            here, there = [await context.generate(max_tokens=6, **ask) for context in (mine, theirs)]
            assert [entry.token for entry in here.logprobs] == [entry.token for entry in there.logprobs]
            for one, other in zip(here.logprobs, there.logprobs, strict=True):
                assert other.logprob == pytest.approx(one.logprob, abs=1e-3)
                assert [likely.text for likely in other.best] == [likely.text for likely in one.best]


# ---- 3: a fork is encoded once


@pytest.mark.parametrize("sessions", [False, True])
async def test_an_eight_way_fork_encodes_its_prefix_once(server: SGLangEngine, sessions: bool) -> None:
    async with client(server, sessions=sessions) as engine:
        context = await _of_length(engine, 1500, "sessions" if sessions else "alone")
        before = await engine.counters()
        outs = await context.samples(8, max_tokens=8, sampling=Sampling(temperature=1.0, seed=1))
        since = await engine.counters() - before
    used = [out.usage for out in outs]
    print(since, f"encoded {since.encoded}, hit rate {since.hit_rate:.3f}")
    assert since.prompt == sum(one.prefilled + one.cached + one.recomputed for one in used) == 8 * context.length
    assert since.found == sum(one.cached for one in used)
    assert since.encoded == sum(one.prefilled + one.recomputed for one in used)
    assert since.encoded == context.length + 7  # each encodes the last token, to go on from it
    ended = sum(out.finish == "eos" for out in outs)
    assert since.generated == sum(one.generated for one in used) + ended


async def test_a_pruned_context_is_sent_again_and_counts_what_that_cost(server: SGLangEngine) -> None:
    async with client(server) as engine:
        context = await _of_length(engine, 1000, "pruned")
        await context.generate(max_tokens=1)
        before = await engine.counters()
        pruned = await context.prune(300, 405, mode="exact")  # the text repeats itself, and not so
        out = await pruned.generate(max_tokens=1)
        since = await engine.counters() - before
    assert (out.usage.prefilled, pruned.usage.pruned) == (0, 105)
    assert out.usage.recomputed == since.encoded == 595
    assert out.usage.cached == since.found == 300


async def _of_length(engine: Engine, length: int, salt: str) -> Context:
    """A context of so many tokens, that the server has not seen."""
    context = await engine.start(f"{salt}: ")
    while context.length < length:
        context = await context.extend("one two three ")
    return await context.prune(length, context.length, mode="exact")


# ---- what it can do


async def test_grammars_hold(server: SGLangEngine) -> None:
    note = JsonSchema(
        {
            "type": "object",
            "properties": {"note": {"type": "string", "maxLength": 8}},
            "required": ["note"],
            "additionalProperties": False,
        }
    )
    async with client(server) as engine:
        context = await engine.start([Message("user", "What is 2 + 3?")])
        assert (await context.generate(grammar=Choice(("yes.", "no (not)")))).text in ("yes.", "no (not)")
        assert (await context.generate(grammar=Regex("[ab]{3}"))).finish == "grammar"
        assert (await context.generate(grammar=Ebnf('root ::= "q" more\nmore ::= "x" | "y"'))).text in ("qx", "qy")
        for out in await context.samples(8, grammar=note, sampling=Sampling(temperature=2.0)):
            assert out.finish == "grammar"  # it is checked: raw control characters would be a GrammarError


async def test_a_window_that_is_full_is_named(server: SGLangEngine) -> None:
    async with client(server) as engine:
        window = engine.capabilities.window
        assert 2000 < window <= 2048
        context = await _of_length(engine, window - 12, "window")
        assert (await context.generate(max_tokens=20)).finish in ("window", "eos")
        with pytest.raises(ContextLengthError):
            await context.extend("one two three four five")


# ---- 4: cancelled, killed, resumed


async def test_a_cancelled_run_ends_on_the_server(server: SGLangEngine) -> None:
    @plait.graph
    def build(g: plait.Builder) -> str:
        return g.think("one two three", max_tokens=2000, stop=["\x00"], temperature=5.0)

    async with client(server) as engine:
        async with anyio.create_task_group() as group:

            async def run() -> None:
                while True:  # at this temperature it may end by itself
                    await build.run(engine=client(server))

            group.start_soon(run)
            await _until_running(engine, lambda running: running == 1)
            group.cancel_scope.cancel()
        await _until_running(engine, lambda running: running == 0)


async def _until_running(engine: SGLangEngine, enough: Callable[[int], bool]) -> None:
    """Wait until so many requests run on the server."""
    with anyio.fail_after(NEVER):
        while not enough((await engine.counters()).running):  # noqa: ASYNC110 — the server tells nobody
            await anyio.sleep(0.01)


@plait.graph(name="chain")
def chain(g: plait.Builder) -> list[str]:
    """Three thoughts, each of which goes on from the one before."""
    first = g.think("What is 2 + 3?", name="first", max_tokens=8)
    second = g.think("And what is that plus 4?", after=first, name="second", max_tokens=8)
    third = g.think("And then?", after=second, name="third", max_tokens=400, stop=["\x00"])
    return [first, second, third]


async def test_a_killed_server_is_named_and_the_run_goes_on_on_its_replacement(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.db") as journal:
        async with own() as engine:
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
    third = [event for event in events if isinstance(event, NodeText) and event.path == "third"]
    assert resumed.value[2] == "".join(event.text for event in third) != ""
    print(since, resumed.usage)
    # the server has written the third thought alone, and an end of sequence at most
    assert since.generated - sum(event.tokens for event in third) in (0, 1)
    async with LocalEngine.open(dtype="float32") as local:
        assert resumed.value == await chain.run(engine=local)


async def _run_until_killed(engine: SGLangEngine, journal: Journal) -> BaseException | None:
    """The cause of a run's failure, whose server is killed in the third thought."""
    child = engine.child
    assert child is not None

    async def kill() -> None:
        async with chain.stream(engine=engine, journal=journal) as run:
            async for event in run:
                if isinstance(event, NodeText) and event.path == "third" and child.running:
                    os.killpg(child.pid, signal.SIGKILL)

    with pytest.raises(NodeError, match="node 'third' failed") as caught:
        await kill()
    return caught.value.__cause__


# ---- another model


async def test_it_passes_the_conformance_suite_on_a_random_model(tmp_path: Path) -> None:
    async with own(random_model(tmp_path)) as engine:
        report = await check_engine(engine, seconds=NEVER)
    print(report.describe())
    assert report.ok, report.describe()

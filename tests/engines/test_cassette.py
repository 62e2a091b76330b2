"""Cassettes: a run on a replay is the run on the engine, and what was never asked is named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import plait
from plait.engines import Choice, Member, Message, Regex, Sampling, Teamwork, open_engine
from plait.engines.base import Engine
from plait.engines.cassette import CassetteEngine
from plait.engines.scripted import Reply, ScriptedEngine
from plait.errors import (
    CapabilityError,
    CassetteError,
    ContextError,
    DataError,
    EngineError,
    GrammarError,
    TransientEngineError,
)

pytestmark = pytest.mark.anyio


async def conversation(engine: Engine) -> list[Any]:
    """Every operation that a cassette knows, and what came of it."""
    start = await engine.start([Message("system", "Format: parallel queries"), Message("user", "people of Peru?")])
    hot = Sampling(temperature=1.5, seed=7, logprobs=2)
    async with start.stream(max_tokens=6, sampling=hot) as stream:
        chunks = [chunk async for chunk in stream]
    written = stream.result
    chosen = await start.generate(grammar=Regex("[ab]{3}c"), max_tokens=2)
    assert chosen.grammar is not None
    ended = chosen.grammar.force("bc")
    with pytest.raises(GrammarError):
        chosen.grammar.force("x")
    more = await (await chosen.context.extend("b")).generate(grammar=chosen.grammar.force("b"))
    several = await start.samples(2, max_tokens=3, sampling=Sampling(temperature=1.0))
    joined = await start.splice([one.context for one in several], at="parallel", mode="exact")
    pruned = await (await joined.extend(" so")).prune(2, 5, mode="shift")
    return [
        chunks,
        [(one.text, one.tokens, one.finish, one.logprobs) for one in (written, chosen, more, *several)],
        [(context.text, context.length) for context in (start, written.context, joined, pruned)],
        (chosen.grammar.complete, ended.complete),
        await pruned.score(["yes", "no"]),
        await start.embed(pooling="last"),
    ]


async def test_a_replay_answers_as_the_engine_did(tmp_path: Path) -> None:
    path = tmp_path / "tape.jsonl"
    async with CassetteEngine.record(open_engine("local"), path) as recorded:
        asked = await conversation(recorded)
    async with CassetteEngine.replay(path) as replayed:
        assert await conversation(replayed) == asked
        assert replayed.inner is None
        assert replayed.name == recorded.name
        assert replayed.capabilities == recorded.capabilities


async def test_a_recipe_runs_on_a_replay(tmp_path: Path) -> None:
    agent = plait.recipes.hybrid_search(tools=[*plait.tools.default_tools()])
    question = "Which has more people, Peru or Chile plus Bolivia?"
    async with CassetteEngine.record(open_engine("local"), tmp_path / "tape.jsonl") as engine:
        assert await agent.run(question, engine=engine) == "Peru"
    async with CassetteEngine.replay(tmp_path / "tape.jsonl") as engine:
        assert await agent.run(question, engine=engine) == "Peru"
        with pytest.raises(plait.PlaitError, match="holds no answer to 'start'"):
            await agent.run("Another question?", engine=engine)


async def test_answers_to_one_question_come_in_their_order(tmp_path: Path) -> None:
    async def ask(engine: Engine) -> list[str]:
        context = await engine.start("q")
        return [(await context.generate()).text for _ in range(3)]

    async with CassetteEngine.record(ScriptedEngine(["a", "b", "c"]), tmp_path / "tape.jsonl") as engine:
        assert await ask(engine) == ["a", "b", "c"]
    async with CassetteEngine.replay(tmp_path / "tape.jsonl") as engine:
        assert await ask(engine) == ["a", "b", "c"]


async def test_an_error_is_raised_again(tmp_path: Path) -> None:
    failing = ScriptedEngine([Reply("half", error=TransientEngineError("busy"))])
    for make in (lambda path: CassetteEngine.record(failing, path), CassetteEngine.replay):
        async with make(tmp_path / "t") as engine:
            with pytest.raises(TransientEngineError, match="busy"):
                await (await engine.start("q")).generate()


async def test_what_cannot_be_done_is_refused(tmp_path: Path) -> None:
    async with CassetteEngine.record(ScriptedEngine(["a"]), tmp_path / "tape") as engine:
        context = await engine.start("q")
        with pytest.raises(CapabilityError, match="teams are not recorded"):
            await engine.team([Member(context=context)], Teamwork(layout="combined"))
        with pytest.raises(ContextError, match="another engine"):
            await context.splice([await ScriptedEngine([]).start("q")], at="sequence", mode="exact")
        with pytest.raises(EngineError, match="has not ended"):
            _ = context.stream().result
        context.release()
        with pytest.raises(ContextError, match="released"):
            await context.generate(grammar=Choice(("a",)))
    with pytest.raises((CassetteError, EngineError), match="closed"):
        await engine.start("q")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cassette": 99}', '{"cassette": 1}\nx', "\x00"])
def test_a_file_that_is_no_cassette_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "tape").write_text(text)
    with pytest.raises(DataError, match="tape"):
        CassetteEngine.replay(tmp_path / "tape")


def test_the_plugin_records_once_and_replays_from_then_on(tmp_path: Path) -> None:
    (tmp_path / "script.json").write_text(json.dumps(["Lima"]))
    (tmp_path / "test_capital.py").write_text(
        "import anyio\n"
        "async def ask(engine):\n"
        "    return (await (await engine.start('capital?')).generate()).text\n"
        "def test_capital(plait_cassette):\n"
        "    assert anyio.run(ask, plait_cassette) == 'Lima'\n"
        "def test_script(plait_engine):\n"
        "    assert anyio.run(ask, plait_engine(['Quito'])) == 'Quito'\n"
    )

    def run(*options: str) -> str:
        command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60).stdout

    assert "there is no cassette" in run()
    assert "2 passed" in run("--plait-record", "scripted:script.json")
    (tmp_path / "script.json").unlink()
    assert "2 passed" in run()
    assert (tmp_path / "cassettes" / "test_capital" / "test_capital.jsonl").is_file()

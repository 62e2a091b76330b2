"""The journal on the local engine: a resumed run goes on from exact tokens, and says what it would have said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import plait
from plait.engines import JsonSchema, Sampling
from plait.engines.local import LocalEngine
from plait.errors import FormatError, NodeError
from plait.orchestrator import Graph, Scope

pytestmark = pytest.mark.anyio
SAMPLING = Sampling(temperature=1.0)
SCHEMA = JsonSchema({"type": "array", "items": {"type": "integer"}, "minItems": 3})


def stopping(when: dict[str, bool]) -> Graph[list[str]]:
    """A driver that fails in its middle where it is told to; what it says does not depend on that."""

    async def drive(scope: Scope, question: str) -> list[str]:
        context = await scope.start(question)
        first = await scope.generate(context, max_tokens=20, sampling=SAMPLING)
        list_ = await scope.generate(first.context, max_tokens=6, grammar=SCHEMA, sampling=SAMPLING)
        pruned = await scope.prune(list_.context, 1, 3, mode="exact")
        if when["fails"]:
            raise FormatError("stopped")
        rest = await scope.generate(pruned, max_tokens=12, grammar=list_.grammar, sampling=SAMPLING)
        longer = await scope.extend(rest.context, " and so ")
        last = await scope.generate(longer, max_tokens=20, sampling=SAMPLING)
        return [first.text, list_.text, rest.text, last.text, last.context.text]

    return plait.graph(name="driven")(lambda g, question: g.drive(drive, question=question))


async def test_a_resumed_run_says_what_an_uninterrupted_one_says(tmp_path: Path) -> None:
    when = {"fails": False}
    graph = stopping(when)
    async with LocalEngine.open(kv_tokens=4096) as engine:
        expected = await graph.run("Peru has ", engine=engine, seed=3)
    when["fails"] = True
    with plait.Journal(tmp_path / "j.db") as journal:
        async with LocalEngine.open(kv_tokens=4096) as engine:
            with pytest.raises(NodeError, match="stopped"):
                await graph.run("Peru has ", engine=engine, seed=3, journal=journal)
        when["fails"] = False
        run = journal.runs()[0].run
        async with LocalEngine.open(kv_tokens=4096) as engine:
            async with graph.stream(engine=engine, journal=journal.resume(run)) as resumed:
                async for _ in resumed:
                    pass
            assert resumed.value == expected
            assert resumed.usage.recomputed > 0
            assert engine.stats().sampled < 60
            engine.check_integrity()
        assert await graph.run(engine=None, journal=journal.replay(run)) == expected


async def test_a_whole_recipe_is_replayed_without_an_engine(tmp_path: Path) -> None:
    graph: Graph[Any] = plait.recipes.tim()
    with plait.Journal(tmp_path / "j.db") as journal:
        async with LocalEngine.open() as engine:
            answer = await graph.run("What is the capital of Peru?", engine=engine, journal=journal)
        assert answer == "Lima"
        assert await graph.run(engine=None, journal=journal.replay(journal.runs()[0].run)) == "Lima"

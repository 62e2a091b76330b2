"""Archon's components, held to what they mean: side by side, on the right candidates, with the calls foreseen."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import plait
from plait.engines import Message, Roles
from plait.engines.scripted import Reply, ScriptedEngine
from plait.errors import ConfigError, EngineError, InputError, NodeError
from plait.orchestrator import Scope, compile_graph
from plait.recipes.architecture import load_architecture
from plait.recipes.archon import archon, expect, read_config
from plait.recipes.techniques import Candidate, Result, WriteTests


@pytest.fixture
def anyio_backend() -> str:
    """Trio starts tasks in any order, on purpose; here drafts are told apart by their turn."""
    return "asyncio"


def component(kind: str, **fields: Any) -> dict[str, Any]:
    known = {"model": "m", "model_type": "Together_API", "temperature": 0.7, "max_tokens": 64}
    return {"type": kind, **known, **fields}


def config(*layers: list[dict[str, Any]], **fields: Any) -> str:
    return json.dumps({"name": "test", "layers": layers, **fields})


class Models:
    """A scripted engine that drafts "draft 1", "draft 2" … and judges by what it is told."""

    def __init__(self, right: str = "", latency: float = 0.0, **said: str) -> None:
        self.asked: Counter[str] = Counter()
        self.right, self.latency, self.said = right, latency, said
        self.broken = False
        self.engine = ScriptedEngine(self.reply)

    def reply(self, prompt: str, number: int) -> Reply:
        last = prompt.rpartition("<|user|>")[2]
        kinds = {
            "Rank": "rank",
            "Criticise": "critique",
            "Write the best": "fuse",
            "Check an": "verify",
            "By your": "verdict",
            "Write at most": "tests",
            "Does an": "judge",
        }
        kind = next((kind for words, kind in kinds.items() if last.startswith(words)), "draft")
        self.asked[kind] += 1
        fault = EngineError("down") if self.broken and kind == "fuse" else None
        return Reply(self.say(kind, prompt), latency=self.latency, error=fault)

    def say(self, kind: str, prompt: str) -> str:
        if kind in self.said:
            return self.said[kind]
        if kind == "verdict":
            return "[Correct]" if re.search(rf"Answer:\ndraft [{self.right}]\n", prompt) else "[Incorrect]"
        if kind == "judge":
            return "[1] Passed" if re.search(rf"Answer:\ndraft [{self.right}]\n", prompt) else "[1] Failed"
        return {"draft": f"draft {self.asked['draft']}", "tests": '["it is right"]'}.get(kind, f"{kind} it")

    async def run(self, text: str, **options: Any) -> Result:
        return await archon(text, **options).run("the task", engine=self.engine)


def texts(result: Result) -> list[str]:
    return [candidate.text for candidate in result.candidates]


# ---- components


@pytest.mark.anyio
async def test_a_layer_runs_its_components_and_samples_side_by_side() -> None:
    models = Models(latency=0.01)
    layer = [component("generator", samples=3, model=name) for name in "abc"]
    result = await models.run(config(layer))
    assert models.engine.peak_active == 9
    assert sorted(texts(result)) == [f"draft {number}" for number in range(1, 10)]


@pytest.mark.anyio
async def test_a_runs_calls_are_those_that_were_foreseen() -> None:
    models = Models("123", rank="[2] > [1]")
    text = config(
        [component("generator", samples=3)],
        [component("critic")],
        [component("ranker", top_k=2, use_critiques=True)],
        [component("fuser", samples=2), component("fuser")],
        [component("unit_test_generator")],
        [component("unit_test_evaluator", remove_unit_tests_from_prompt=False)],
        [component("verifier")],
    )
    result = await models.run(text)
    told = expect(read_config(text))
    assert models.engine.calls == told.calls == 3 + 1 + 1 + 3 + 1 + 3 + 6
    assert len(result.candidates) == told.candidates == 3
    graph = archon(text)
    assert compile_graph(graph, models.engine).as_dict()["calls"]["think"] == told.calls
    assert models.engine.held == 0


@pytest.mark.anyio
async def test_critiques_follow_their_candidates_and_end_with_them() -> None:
    models = Models(critique="[1] first\n[2] second\n[3] third", rank="[3] > [1]")
    layers = [
        [component("generator", samples=3)],
        [component("critic")],
        [component("ranker", top_k=2, use_critiques=True)],
    ]
    ranked = await models.run(config(*layers))
    assert [(one.text, one.critique) for one in ranked.candidates] == [("draft 3", "third"), ("draft 1", "first")]
    models = Models(critique="[1] first\n[2] second\n[3] third", rank="[3] > [1]")
    await models.run(config(*layers, [component("fuser")], [component("fuser")]))
    first, second = (prompt for prompt in models.engine.prompts if "Write the best" in prompt)
    assert "Critique of [1]: third" in first
    assert "Critique" not in second
    assert "[1] fuse it" in second


@pytest.mark.anyio
async def test_a_ranker_that_uses_no_critiques_shows_none_and_keeps_them() -> None:
    models = Models(critique="[1] first\n[2] second", rank="[2] > [1]")
    result = await models.run(
        config([component("generator", samples=2)], [component("critic")], [component("ranker", top_k=1)])
    )
    assert "Critique of" not in models.engine.prompts[-1]
    assert [one.critique for one in result.candidates] == ["second"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("right", "first_k", "kept", "calls"),
    [("24", 0, ["draft 2", "draft 4"], 8), ("24", 1, ["draft 2"], 4), ("1", 1, ["draft 1"], 2), ("24", 2, None, 8)],
)
async def test_a_verifier_stops_when_enough_have_passed(
    right: str, first_k: int, kept: list[str] | None, calls: int
) -> None:
    models = Models(right)
    early = {"first_k": first_k} if first_k else {}
    result = await models.run(config([component("generator", samples=4)], [component("verifier", **early)]))
    assert texts(result) == (kept or ["draft 2", "draft 4"])
    assert models.asked["verify"] + models.asked["verdict"] == calls


@pytest.mark.anyio
async def test_all_stay_where_none_is_verified() -> None:
    result = await Models("9").run(config([component("generator", samples=3)], [component("verifier", first_k=1)]))
    assert texts(result) == ["draft 1", "draft 2", "draft 3"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fields", "kept", "judged"),
    [
        ({"top_k": 2}, ["draft 3", "draft 4"], 4),
        ({}, ["draft 3", "draft 4", "draft 1", "draft 2"], 4),
        ({"first_pass": True, "top_k": 4}, ["draft 3"], 3),
        ({"first_k": 2}, ["draft 3", "draft 4"], 4),
    ],
)
async def test_unit_tests_sort_stably_and_stop_at_the_first_that_pass(
    fields: dict[str, Any], kept: list[str], judged: int
) -> None:
    models = Models("34")
    text = config(
        [component("generator", samples=4)],
        [component("unit_test_generator", unit_test_cap=1)],
        [component("unit_test_evaluator", remove_unit_tests_from_prompt=True, **fields)],
    )
    assert texts(await models.run(text)) == kept
    assert models.asked["judge"] == judged


@pytest.mark.anyio
async def test_unit_tests_reach_neither_later_generators_nor_the_conversation() -> None:
    models = Models(tests='["names the secret"]')
    history = [Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Hello")]
    before = list(history)
    text = config([component("unit_test_generator")], [component("generator"), component("generator", no_system=True)])
    result = await archon(text).run("the task", history, engine=models.engine)
    assert history == before
    assert not any("secret" in prompt for prompt in models.engine.prompts[1:])
    assert result.tests == ("names the secret",)
    assert ["Be brief." in prompt for prompt in models.engine.prompts] == [False, True, False]
    assert all("<|assistant|>Hello\n" in prompt for prompt in models.engine.prompts)


@pytest.mark.anyio
async def test_mixed_layers_append_and_what_nobody_writes_passes_through() -> None:
    models = Models()
    result = await models.run(config([component("generator")], [component("generator"), component("fuser")]))
    assert texts(result) == ["draft 2", "fuse it"]
    models = Models(critique="[1] so")
    result = await models.run(config([component("generator")], [component("critic"), component("unit_test_generator")]))
    assert (texts(result), result.candidates[0].critique, result.tests) == (["draft 1"], "so", ("it is right",))
    models = Models(critique="[1] so")
    result = await models.run(config([component("generator")], [component("critic"), component("critic")]))
    assert result.candidates[0].critique == "so\nso"


@pytest.mark.anyio
async def test_a_layers_uses_add_up_and_its_chains_do_not() -> None:
    models = Models()
    one = await models.run(config([component("generator")], [component("fuser")]))
    three = await Models().run(config([component("generator")], [component("fuser")] * 3))
    assert three.usage.generated > one.usage.generated
    assert three.usage.steps == one.usage.steps


# ---- whose models and components


@pytest.mark.anyio
async def test_models_are_played_by_who_the_table_says() -> None:
    small, large = ScriptedEngine(["small"], name="small"), ScriptedEngine(["large", "fused"], name="large")
    text = config(
        [component("generator", model="a"), component("generator", model="b")], [component("fuser", model="c")]
    )
    graph = archon(text, roles={"a": "a", "*": "*"})
    result = await graph.run("?", engine=Roles({"a": small, "*": large}))
    assert (result.answer, small.calls, large.calls) == ("fused", 1, 2)
    with pytest.raises(InputError, match="no engine plays model 'b'; the table has a"):
        archon(text, roles={"a": "a"})


@pytest.mark.anyio
async def test_components_of_ones_own_are_functions() -> None:
    def shout(result: Result) -> Result:
        return Result(result.task, candidates=tuple(Candidate(one.text.upper()) for one in result.candidates))

    async def repeat(scope: Scope, result: Result, settings: Any) -> Result:
        written = await scope.generate(await scope.start(result.answer))
        return Result(result.task, candidates=(Candidate(written.text + str(settings.samples)),))

    text = config([component("generator")], [{"type": "shout"}], [{"type": "repeat", "samples": 3}])
    own = {"shout": shout, "repeat": repeat}
    assert (await Models(draft="echo").run(text, components=own)).answer == "echo3"
    with pytest.raises(ConfigError, match="no component of type 'shout'"):
        archon(text)
    with pytest.raises(InputError, match="pass components="):
        archon(config([component("generator")], [{"type": "shout"}], custom=True))
    with pytest.raises(NodeError, match="component 'shout' gave 3"):
        await Models().run(text, components={"shout": lambda result: 3, "repeat": repeat})


def test_strict_refuses_what_breaks_a_rule() -> None:
    with pytest.raises(InputError, match="architecture 'test' breaks the rules: layer 1 holds fuser"):
        archon(config([component("fuser")]), strict=True)
    archon(config([component("generator")]), strict=True)


@pytest.mark.anyio
async def test_an_architecture_is_run_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    file.write_text(config([component("generator", samples=2)], [component("ranker", top_k=1)]))
    assert await load_architecture(file).run("?", engine=Models(rank="[2] > [1]").engine) == "draft 2"
    file.write_text(json.dumps({"name": "mine", "components": [{"component": "generate", "samples": 3}]}))
    assert await load_architecture(file).run("?", engine=Models().engine) == "draft 1"
    file.write_text(json.dumps({"components": [], "extra": 1}))
    with pytest.raises(InputError, match="has extra; it takes 'name' and 'components'"):
        load_architecture(file)


@pytest.mark.anyio
async def test_a_run_that_failed_asks_nothing_twice(tmp_path: Path) -> None:
    models = Models(rank="[2] > [1]")
    models.broken = True
    graph = archon(config([component("generator", samples=2)], [component("ranker", top_k=1)], [component("fuser")]))
    with plait.Journal(tmp_path / "runs.db") as journal:
        with pytest.raises(NodeError, match="layer_3_fuse"):
            await graph.run("the task", engine=models.engine, journal=journal)
        models.broken = False
        again = await graph.run(engine=models.engine, journal=journal.resume(journal.runs()[0].run))
    assert again.answer == "fuse it"
    assert (models.asked["draft"], models.asked["rank"], models.asked["fuse"]) == (2, 1, 2)


def test_write_tests_takes_the_cap_of_the_configuration() -> None:
    from plait.recipes.archon.build import stage_of

    stage = stage_of(read_config(config([component("unit_test_generator", unit_test_cap=7)])).layers[0][0])
    assert isinstance(stage, WriteTests)
    assert stage.cap == 7

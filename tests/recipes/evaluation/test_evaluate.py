"""Evaluations: results an item, failures that are recorded, and going on from a file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

import plait
from plait.engines.scripted import Reply, ScriptedEngine
from plait.errors import DataError, InputError, TransientEngineError
from plait.recipes.evaluation import Dataset, Evaluation, Item, evaluate, find_scorer, read_evaluation

PLAIT = [str(Path(sys.executable).with_name("plait"))]
DATA = Dataset(
    name="four", items=tuple(Item(id=word, task=f"Say {word}.", answer=word) for word in ("one", "two", "six", "ten"))
)


@plait.graph
def say(g: plait.Builder, task: str) -> str:
    return g.think("{task}", task=task)


def answering(**replies: str | Reply) -> ScriptedEngine:
    known = {"one": "one", "two": "two", "six": "six", "ten": "ten"}
    return ScriptedEngine({f"Say {word}.": replies.get(word, text) for word, text in known.items()})


def run(engine: ScriptedEngine, **options: Any) -> Evaluation:
    async def main() -> Evaluation:
        return await evaluate(
            options.pop("graph", say), options.pop("data", DATA), options.pop("scorer", find_scorer("exact")),
            engine=engine, **options,
        )  # fmt: skip

    return anyio.run(main)


def test_results_stand_in_the_order_of_the_items_with_what_each_used() -> None:
    found = run(answering(six="seven"))
    assert [result.id for result in found.results] == ["one", "two", "six", "ten"]
    assert found.scores == [1, 1, 0, 1]
    assert found.accuracy.mean == 0.75
    assert all(result.usage["generated"] == 1 for result in found.results)


def test_an_item_that_fails_is_recorded_and_the_others_go_on() -> None:
    found = run(answering(two=Reply("", error=TransientEngineError("busy"))))
    assert found.scores == [1, 0, 1, 1]
    assert [result.id for result in found.failed] == ["two"]
    assert found.failed[0].error.startswith("TransientEngineError: ")


def test_a_scorer_that_raises_is_recorded() -> None:
    def fussy(item: Item, answer: str) -> bool:
        if item.id == "ten":
            raise ZeroDivisionError("no")
        return True

    found = run(answering(), scorer=find_scorer(fussy))
    assert found.scores == [1, 1, 1, 0]
    assert found.failed[0].error == "scorer 'fussy' raised ZeroDivisionError: no"


def test_an_evaluation_goes_on_from_its_file_and_asks_for_failed_items_again(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    run(answering(two=Reply("", error=TransientEngineError("busy"))), file=path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]) + lines[-1][:10])  # killed within its last line
    lost = json.loads(lines[-1])["id"]

    asked: list[str] = []
    found = run(answering(), file=path, report=lambda result, known, all_: asked.append(result.id))
    assert sorted(asked) == sorted({"two", lost})
    assert found.scores == [1, 1, 1, 1]
    assert read_evaluation(path).accuracy == found.accuracy


def test_a_file_of_another_evaluation_is_refused(tmp_path: Path) -> None:
    run(answering(), file=tmp_path / "a.jsonl")
    with pytest.raises(InputError, match="seed is 0 there and 1 here"):
        run(answering(), file=tmp_path / "a.jsonl", seed=1)
    (tmp_path / "b.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match="holds no results"):
        run(answering(), file=tmp_path / "b.jsonl")


def test_two_evaluations_are_compared_on_the_items_that_both_have() -> None:
    found = run(answering()).against(run(answering(six="x", ten="y"), data=DATA.first(3)))
    assert (found.items, found.better, found.worse) == (3, 1, 0)
    assert found.p_value == 1.0


def test_a_graph_that_takes_no_text_is_refused_before_the_first_item() -> None:
    @plait.graph
    def count(g: plait.Builder, numbers: list[int]) -> str:
        return g.think("{numbers}", numbers=numbers)

    engine = answering()
    with pytest.raises(InputError, match="input 'numbers"):
        run(engine, graph=count)


# ---- the command line


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PLAIT, *arguments], capture_output=True, text=True, timeout=120)


def graph_file(folder: Path) -> list[str]:
    (folder / "say.py").write_text(
        "import plait\n\n@plait.graph\ndef say(g: plait.Builder, task: str) -> str:\n"
        "    return g.think('{task}', task=task)\n"
    )
    (folder / "data.jsonl").write_text('{"task": "Say one.", "answer": "one"}\n{"task": "Say two.", "answer": "2"}\n')
    (folder / "script.json").write_text(json.dumps({"one.": "one", "two.": "two"}))
    return [str(folder / "say.py"), str(folder / "data.jsonl"), "--engine", f"scripted:{folder / 'script.json'}"]


def test_the_command_prints_a_table_and_keeps_its_file(tmp_path: Path) -> None:
    arguments = graph_file(tmp_path)
    done = command("eval", *arguments, "--out", str(tmp_path / "out.jsonl"))
    assert done.returncode == 0, done.stderr
    assert "| say " in done.stdout
    assert "50.0%" in done.stdout
    assert "2 of 2" in done.stderr

    again = command(
        "eval", *arguments, "--out", str(tmp_path / "out.jsonl"), "--against", str(tmp_path / "out.jsonl"), "--json"
    )
    found = json.loads(again.stdout)
    assert (found["count"], found["accuracy"]["mean"], found["against"][0]["p_value"]) == (2, 0.5, 1.0)
    assert again.stderr == ""


def test_bad_data_is_one_line_and_status_2(tmp_path: Path) -> None:
    arguments = graph_file(tmp_path)
    (tmp_path / "data.jsonl").write_text("")
    done = command("eval", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"plait: {tmp_path / 'data.jsonl'} has no items; a dataset needs at least one\n"

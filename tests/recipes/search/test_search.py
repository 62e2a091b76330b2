"""Searches: what candidates share, what is left out, and that nothing is lost or spent twice."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

import plait
from plait.engines.roles import Roles
from plait.engines.scripted import Reply, ScriptedEngine
from plait.errors import BudgetError, InputError, TransientEngineError, UnknownNameError
from plait.orchestrator import Budget, Journal
from plait.recipes.evaluation import Dataset, Item, embedded_dataset, find_scorer
from plait.recipes.search import (
    Choice,
    Outcome,
    Plan,
    Space,
    Study,
    Whole,
    draw_front,
    find_space,
    hold_out,
    read_outcomes,
    search,
    write_winner,
)

PROGRAM = Path(__file__).with_name("searching.py")
DATA = Dataset(name="five", items=tuple(Item(id=str(n), task=f"Number {n}.", answer="even") for n in range(5)))


def sampled(point: Any) -> list[dict[str, Any]]:
    return [{"component": "generate", "samples": point["samples"]}, {"component": "vote"}]


SAMPLES = Space("samples", [Whole("samples", 1, 6)], sampled)


def engine(**options: Any) -> ScriptedEngine:
    return ScriptedEngine(lambda prompt, count: "odd" if count % 4 == 0 else "even", **options)


def run(folder: Path, space: Space = SAMPLES, **options: Any) -> tuple[Study, list[Outcome]]:
    study = Study(space, storage=folder / "study.db", optimiser=options.pop("optimiser", "random"))
    scorer, used = find_scorer(options.pop("scorer", "exact")), options.pop("engine", engine())
    data = options.pop("data", DATA)

    async def main() -> list[Outcome]:
        with Journal(folder / "journal.db") as journal:
            return await search(
                study, data, scorer, engine=used, journal=journal, folder=folder / "items", plan=Plan(**options)
            )

    return study, anyio.run(main)


def test_candidates_share_their_samples(tmp_path: Path) -> None:
    study, outcomes = run(tmp_path)
    assert [outcome.state for outcome in outcomes] == ["done"] * 6
    assert study.spent["generated"] == 6 * len(DATA)  # six samples of each item, by whichever candidate came first
    _, alone = run(tmp_path / "alone", shared=False)
    assert sum(outcome.spent["generated"] for outcome in alone) == (1 + 2 + 3 + 4 + 5 + 6) * len(DATA)
    for outcome in outcomes:  # what a candidate is said to use is what it would use by itself
        assert outcome.values["tokens"] >= outcome.point["samples"]


def test_two_that_go_on_differently_share_what_came_before(tmp_path: Path) -> None:
    def architecture(point: Any) -> list[dict[str, Any]]:
        generate = {"component": "generate", "samples": 3}
        return [generate, {"component": point["then"]}]

    space = Space("then", [Choice("then", ("vote", "fuse"))], architecture)
    study, _ = run(tmp_path, space)
    assert study.spent["generated"] == (3 + 1) * len(DATA)


def test_what_is_foreseen_to_be_too_dear_is_left_out_before_a_token_is_spent(tmp_path: Path) -> None:
    study, outcomes = run(tmp_path, most={"generated": 512 * 2})
    states = {outcome.point["samples"]: outcome.state for outcome in outcomes}
    assert states == {1: "done", 2: "done", 3: "excluded", 4: "excluded", 5: "excluded", 6: "excluded"}
    assert study.spent["generated"] == 2 * len(DATA)
    assert "foreseen to use generated=1536" in next(one.note for one in outcomes if one.point["samples"] == 3)


def test_halving_leaves_the_worse_after_a_part_of_the_items(tmp_path: Path) -> None:
    def says(point: Any) -> list[dict[str, Any]]:
        return [{"component": "generate", "prompt": f"Answer {point['word']}."}]

    space = Space("words", [Choice("word", ("even", *(f"odd {n}" for n in range(7))))], says)
    answers = ScriptedEngine(lambda prompt, count: "even" if "Answer even" in prompt else "odd")
    _, outcomes = run(tmp_path, space, engine=answers, keep=3, rungs=2)
    by_word = {outcome.point["word"]: outcome for outcome in outcomes}
    assert by_word["even"].state == "done"
    dropped = [outcome for outcome in outcomes if outcome.state == "dropped"]
    assert all(outcome.items == 2 for outcome in dropped)
    assert not [outcome for outcome in dropped if outcome.point["word"] == "even"]


def test_a_candidate_that_fails_is_recorded_and_the_search_goes_on(tmp_path: Path) -> None:
    def architecture(point: Any) -> list[dict[str, Any]]:
        return [{"component": point["component"]}] if point["component"] != "raise" else [{"component": "generate"}, 7]

    space = Space("broken", [Choice("component", ("generate", "raise", "no such thing"))], architecture)
    _, outcomes = run(tmp_path, space)
    notes = {outcome.point["component"]: (outcome.state, outcome.note.partition(":")[0]) for outcome in outcomes}
    assert notes == {
        "generate": ("done", ""),
        "raise": ("failed", "InputError"),
        "no such thing": ("failed", "UnknownNameError"),
    }


def test_an_engine_that_fails_for_some_items_and_a_scorer_that_raises_lose_no_study(tmp_path: Path) -> None:
    def fussy(item: Item, answer: str) -> bool:
        if item.id == "1":
            raise ZeroDivisionError("no")
        return answer == item.answer

    def reply(prompt: str, count: int) -> Reply:
        return Reply("", error=TransientEngineError("busy")) if "Number 3." in prompt else Reply("even")

    _, outcomes = run(tmp_path, engine=ScriptedEngine(reply), scorer=fussy)
    assert {outcome.state for outcome in outcomes} == {"done"}
    assert all(outcome.values["quality"] == pytest.approx(0.6) for outcome in outcomes)
    assert {outcome.note for outcome in outcomes} == {"2 items failed"}


def test_a_candidate_of_which_all_items_fail_is_a_failure(tmp_path: Path) -> None:
    broken = ScriptedEngine(lambda prompt, count: Reply("", error=TransientEngineError("busy")))
    study, outcomes = run(tmp_path, engine=broken, candidates=2)
    assert [outcome.state for outcome in outcomes] == ["failed", "failed"]
    assert "all items failed" in outcomes[0].note
    assert study.best() is None


def test_a_budget_below_one_evaluation_is_named_and_the_candidate_is_not_lost(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match=r"the budget of the search ended within .* use fewer items"):
        run(tmp_path, budget=Budget(tokens=12))
    assert [outcome.state for outcome in read_outcomes(tmp_path / "study.db")] == ["claimed"]
    _, outcomes = run(tmp_path)  # with more it goes on from there
    assert {outcome.state for outcome in outcomes} == {"done"}


def test_a_budget_ends_a_search_with_what_it_has(tmp_path: Path) -> None:
    study, outcomes = run(tmp_path, budget=Budget(tokens=120), at_once=1)
    assert 1 <= len(study.done()) < 6
    assert study.spent["generated"] + study.spent["prompt"] <= 120
    assert outcomes


def test_rungs_that_can_not_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="keep=1"):
        run(tmp_path, keep=1)


def test_the_winner_is_a_file_that_makes_its_graph_and_is_tried_on_held_out_items(tmp_path: Path) -> None:
    from plait.recipes.architecture import read_architecture

    study, _ = run(tmp_path)
    winner = study.best()
    assert winner is not None
    write_winner(tmp_path / "winner.json", SAMPLES, winner)
    assert read_architecture(tmp_path / "winner.json").find("vote") is not None

    async def main() -> Any:
        return await hold_out(
            SAMPLES, [winner], replace(DATA, name="others"), find_scorer("exact"), engine=engine(), folder=tmp_path
        )

    (found,) = anyio.run(main)
    assert found.quality.low <= found.quality.mean <= found.quality.high
    files = draw_front(study.outcomes(), study.front(), tmp_path)
    assert [file.name for file in files] == ["pareto.png", "pareto.html"]
    assert files[0].read_bytes().startswith(b"\x89PNG")
    assert "plotly" in files[1].read_text().lower()


def test_spaces_are_found_by_name_and_in_files(tmp_path: Path) -> None:
    data = embedded_dataset("countdown:5")
    assert find_space("archon", data).name == "archon"
    for point in find_space("techniques", data).points():
        find_space("techniques", data).graph(point)
    with pytest.raises(UnknownNameError, match="did you mean 'archon'"):
        find_space("archn", data)
    file = tmp_path / "own_space.py"
    file.write_text(
        "from plait.recipes.search import Space, Whole\n"
        "mine = Space('mine', [Whole('samples', 1, 3)], lambda p: [{'component': 'generate', **p}])\n"
    )
    assert find_space(str(file), data).name == "mine"
    with pytest.raises(InputError, match="has no space 'other'"):
        find_space(f"{file}:other", data)


def test_a_role_that_no_engine_plays_is_a_recorded_failure(tmp_path: Path) -> None:
    def architecture(point: Any) -> list[dict[str, Any]]:
        return [{"component": "generate", "models": [point["writer"]]}]

    space = Space("writers", [Choice("writer", ("small", "nobody"))], architecture)
    _, outcomes = run(tmp_path, space, engine=Roles({"small": engine()}))
    found = {outcome.point["writer"]: outcome for outcome in outcomes}
    assert found["small"].state == "done"
    assert found["nobody"].state == "failed"
    assert "no engine plays 'nobody'" in found["nobody"].note


def test_a_search_is_one_call(tmp_path: Path) -> None:
    (tmp_path / "script.json").write_text(json.dumps({"Number": "even"}))
    options = {"data": DATA, "metric": "exact", "engine": f"scripted:{tmp_path / 'script.json'}", "folder": tmp_path}
    found = plait.search(SAMPLES, candidates=2, **options)
    assert found.best is not None
    assert found.best.values["quality"] == 1
    assert [one.quality.mean for one in found.held_out] == [1] * len(found.front)
    assert len(plait.search(SAMPLES, **options).study.done()) == 6


# ---- killed in the middle


def test_a_search_that_is_killed_goes_on_and_spends_nothing_twice(tmp_path: Path) -> None:
    drawn, killed = random.Random(7), 0
    command = [sys.executable, "-P", "-W", "ignore", str(PROGRAM), str(tmp_path)]
    for attempt in range(4):
        process = subprocess.Popen([*command, str(attempt)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(drawn.randint(1, 3)):  # killed while it is at the next one
            process.stdout.readline()
        killed += process.poll() is None
        process.kill()
        process.wait()
    assert killed
    subprocess.run([*command, "99"], check=True, timeout=300, stdout=subprocess.PIPE)

    outcomes = read_outcomes(tmp_path / "study.db")
    assert len(outcomes) == 16
    assert {outcome.state for outcome in outcomes} == {"done"}
    with sqlite3.connect(tmp_path / "journal.db") as journal:
        asked = Counter(
            key for (key,) in journal.execute("SELECT reuse FROM records WHERE sample >= 0 AND reuse != ''")
        )
    assert asked
    assert max(asked.values()) == 1
    assert len(asked) == 6 * 4 * 2  # items, samples and temperatures, whatever was killed
    for outcome in outcomes:
        lines = next((tmp_path / "items").glob("dev-*.jsonl")).read_text().splitlines()
        assert len([line for line in lines if json.loads(line).get("id")]) == 6, outcome


# ---- the command line


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    plait = str(Path(sys.executable).with_name("plait"))
    return subprocess.run([plait, *arguments], capture_output=True, text=True, timeout=300)


def test_the_command_searches_with_workers_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "space.py").write_text(
        "from plait.recipes.search import Space, Whole\n"
        "mine = Space('mine', [Whole('samples', 1, 5)],\n"
        "    lambda p: [{'component': 'generate', **p}, {'component': 'vote'}])\n"
    )
    (tmp_path / "script.json").write_text(json.dumps({"Number": "even"}))
    items = [json.dumps({"task": f"Number {n}.", "answer": "even" if n % 2 else "odd"}) for n in range(20)]
    (tmp_path / "data.jsonl").write_text("\n".join(items))
    arguments = [
        "search", str(tmp_path / "space.py"), str(tmp_path / "data.jsonl"), "--engine",
        f"scripted:{tmp_path / 'script.json'}", "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    done = command(*arguments, "--workers", "2", "--candidates", "3")
    assert done.returncode == 0, done.stderr
    assert "held-out score" in done.stdout
    assert (tmp_path / "out" / "winner.json").is_file()

    again = command(*arguments, "--json", "--quiet")
    assert again.returncode == 0, again.stderr
    found = json.loads(again.stdout)
    assert sorted(outcome["point"]["samples"] for outcome in found["outcomes"]) == [1, 2, 3, 4, 5]
    ran = command("run", str(tmp_path / "out" / "winner.json"), "Number 3.", "--engine", arguments[4], "--no-journal")
    assert ran.stdout.strip() == "even", ran.stderr

    refused = command(*arguments, "--budget", "pounds=3")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("plait: a budget has no 'pounds'")


def test_the_command_says_what_a_space_holds() -> None:
    done = command("space", "archon", "--json")
    found = json.loads(done.stdout)
    assert found["candidates"] == 3648
    assert found["readings"][-1]["count"] == 9576

"""The commands on Archon's configurations."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

COMMON = {"model": "m", "model_type": "Together_API", "temperature": 0.7, "max_tokens": 8}
LAYERS = [[{"type": "generator", "samples": 2, "top_k": 1, **COMMON}], [{"type": "ranker", "top_k": 1, **COMMON}]]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "two.json"
    file.write_text(json.dumps({"name": "two", "layers": LAYERS}))
    (tmp_path / "script.json").write_text(json.dumps({"the task": ["first", "second"], "the ranking": "[2] > [1]"}))
    (tmp_path / "table.json").write_text(json.dumps({"m": f"scripted:{tmp_path / 'script.json'}"}))
    return file


def plait(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("plait")), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def answer_of(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("engine", ["scripted:{}/script.json", "roles:{}/table.json"])
def test_an_architecture_is_run_from_its_file(config: Path, engine: str) -> None:
    options = ["--engine", engine.format(config.parent), "--journal", config.parent / "runs.db", "-q", "--json"]
    said = answer_of(plait("run", "archon", config, "the task", *options))
    assert said["answer"] == "second"
    assert plait("run", config, "the task", *options).returncode == 0


def test_a_plan_counts_calls_before_a_token_is_spent(config: Path) -> None:
    engine = f"scripted:{config.parent / 'script.json'}"
    said = answer_of(plait("explain", "archon", config, "--engine", engine, "--json"))
    assert said["calls"]["think"] == 3
    assert said["forecast"]["usage"]["generated"] == 24
    assert said["forecast"]["unforeseen"] == []


def test_a_plan_tells_the_cost_at_each_models_price(config: Path) -> None:
    prices = config.parent / "prices.json"
    prices.write_text('{"m": {"generated": 1000000.0}}')
    engine = f"scripted:{config.parent / 'script.json'}"
    said = answer_of(plait("explain", "archon", config, "--engine", engine, "--prices", prices, "--json"))
    assert said["forecast"]["usage"]["cost"] == 24.0
    assert answer_of(plait("archon", "check", config, "--prices", prices, "--json"))["cost"] == 24.0
    prices.write_text('{"m": 3}')
    assert "can't be read" in plait("archon", "check", config, "--prices", prices).stderr


def test_a_check_prints_one_object_a_file(config: Path) -> None:
    wrong = config.parent / "wrong.json"
    wrong.write_text('{"layers": [\n{"type": "generator"}]}')
    done = plait("archon", "check", config, wrong, "--json")
    good, bad = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 1
    assert (good["ok"], good["calls"], good["candidates"], good["violations"]) == (True, 3, 1, [])
    assert good["warnings"] == ["fields of a generator that say nothing here: top_k"]
    assert (bad["ok"], bad["line"], bad["column"]) == (False, 2, 1)
    assert "flat" in bad["error"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "archon", "why"], "plait run archon FILE.json TASK"),
        (["run", "tim", "why", "me"], "quote the task"),
        (["run", "archon", "missing.json", "why"], "missing.json can't be read"),
    ],
)
def test_bad_usage_is_one_line(arguments: list[str], words: str) -> None:
    done = plait(*arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert words in done.stderr


def test_a_table_without_the_model_is_refused(config: Path) -> None:
    (config.parent / "table.json").write_text('{"other": "local"}')
    done = plait("run", "archon", config, "x", "--engine", f"roles:{config.parent / 'table.json'}", "--no-journal")
    assert done.returncode == 2
    assert "no engine plays model 'm'; the table has other" in done.stderr

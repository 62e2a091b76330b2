"""The commands on trajectories, as a user meets them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = str(Path(sys.executable).with_name("plait"))
LINES = [
    {
        "task": "2+3?",
        "steps": [
            {"thought": "one", "name": "look", "arguments": {"at": "a"}, "result": "2"},
            {"thought": "other", "name": "look", "arguments": {"at": "b"}, "result": "3"},
        ],
        "answer": "5",
    }
]


def plait(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=120, env=environment)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "serial.jsonl"
    path.write_text("\n".join(map(json.dumps, LINES)))
    return path


def script(path: Path, *replies: str) -> str:
    path.write_text(json.dumps(replies))
    return f"scripted:{path}"


def test_parallel_and_serial_are_each_others_inverse(file: Path, tmp_path: Path) -> None:
    made = plait("data", "parallel", str(file), "--edges", "values")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["order"] == [[1, 2]]
    (tmp_path / "parallel.jsonl").write_text(made.stdout)
    back = plait("data", "serial", str(tmp_path / "parallel.jsonl"))
    assert json.loads(back.stdout)["steps"] == LINES[0]["steps"]
    asked = plait(
        "data", "parallel", str(file), "--edges", "model", "--engine", script(tmp_path / "s.json", "1->2,2->3")
    )
    assert json.loads(asked.stdout)["order"] == [[1], [2]]


def test_judgements_are_printed_as_rates(file: Path, tmp_path: Path) -> None:
    passed = plait("data", "judge", str(file), "--engine", script(tmp_path / "s.json", "solved", "solved", "unsure"))
    assert passed.stdout == "SoPR 0.833 ± 0.000 of 1\n", passed.stderr
    engine = script(tmp_path / "s.json", "first", "first")
    won = plait("data", "judge", str(file), "--against", str(file), "--passes", "1", "--engine", engine, "--json")
    assert json.loads(won.stdout) == {"measure": "SoWR", "mean": 0.5, "error": 0.0, "judgements": [0.5]}


@pytest.mark.parametrize(
    ("text", "words"),
    [("{}", "line 1: task: Field required"), ("x", "line 1 is no JSON"), (json.dumps(LINES[0]), "has no edges")],
)
def test_a_file_that_can_not_be_used_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "bad.jsonl").write_text(text)
    refused = plait("data", "parallel", str(tmp_path / "bad.jsonl"))
    assert refused.returncode == 2
    assert words in refused.stderr
    assert "Traceback" not in refused.stderr

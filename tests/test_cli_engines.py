"""`plait engines` as a user meets it: what is there, whether a server does what it should, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conforming import conforming
from stub_server import StubServer

from plait.engines.kinds import KINDS, capability_table

COMMAND = str(Path(sys.executable).with_name("plait"))
QUIET = {**os.environ, "OMP_NUM_THREADS": "1", "OPENAI_BASE_URL": "", "PLAIT_VLLM_URL": "", "PLAIT_SGLANG_URL": ""}


def plait(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "engines", *arguments], capture_output=True, text=True, timeout=120, env={**QUIET, **environment}
    )


@pytest.fixture
def server() -> Iterator[StubServer]:
    def answer(body: dict[str, Any]) -> str:
        return conforming(body["prompt"] if "prompt" in body else str(body["messages"]), 0)

    with StubServer(answer) as stub:
        yield stub


def test_engines_are_listed_with_what_answers(server: StubServer) -> None:
    done = plait("--json", OPENAI_BASE_URL=server.url)
    assert done.returncode == 0, done.stderr
    found = {one["name"]: one for one in json.loads(done.stdout)["engines"]}
    assert list(found) == list(KINDS)
    assert (found["openai"]["reachable"], found["openai"]["models"]) == (True, ["stub"])
    text = plait(OPENAI_BASE_URL=server.url).stdout
    assert f"OPENAI_BASE_URL: {server.url} answers (openai; stub)" in text
    assert "local:MODEL_DIR" in text


def test_a_server_is_checked_by_its_address_alone(server: StubServer) -> None:
    done = plait("check", server.url, "--json", "--only", "stream", "--only", "score", "--only", "close")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["engine"], report["ok"]) == (f"openai:stub@{server.url}", True)
    assert [(row["check"], row["outcome"]) for row in report["checks"]] == [
        ("stream", "passed"),
        ("score", "refused"),
        ("close", "passed"),
    ]


def test_an_engine_that_fails_a_check_is_an_exit_status_and_says_what_was_seen(tmp_path: Path) -> None:
    replies = tmp_path / "script.json"
    replies.write_text(json.dumps([f"reply number {number}" for number in range(9)]))
    done = plait("check", f"scripted:{replies}", "--only", "start", "--only", "fork")
    assert done.returncode == 1
    passed, failed, total = done.stdout.splitlines()
    assert passed.startswith("passed   start")
    assert failed.startswith("failed   fork   two forks of one context say: ")
    assert total == "scripted: 1 passed, 0 refused, 1 failed"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("target", "options", "status", "message"),
    [
        ("http://127.0.0.1:9", [], 1, "nothing answers at http://127.0.0.1:9"),
        ("http://", [], 2, "no server's address"),
        ("nope:x", [], 2, "unknown engine 'nope:x'"),
        ("local", ["--only", "fly"], 2, "no check is called 'fly'"),
    ],
)
def test_what_cannot_be_checked_is_one_message(target: str, options: list[str], status: int, message: str) -> None:
    done = plait("check", target, *options)
    assert (done.returncode, done.stdout) == (status, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("plait: ")
    assert message in line


def test_the_table_is_printed() -> None:
    assert plait("table").stdout == capability_table() + "\n"


def test_what_was_measured_of_an_engine_gives_plans_their_seconds(tmp_path: Path) -> None:
    file, script, graph = tmp_path / "speeds.json", tmp_path / "script.json", tmp_path / "graph.py"
    script.write_text(json.dumps([{"text": "one two three four five", "latency": 0.01}] * 99))
    graph.write_text('import plait\n\n@plait.graph\ndef asks(g):\n    return g.think("Why?", max_tokens=50)\n')
    environment, name = {"PLAIT_SPEEDS": str(file)}, f"scripted:{script}"
    done = plait("measure", name, "--threads", "2", "--tokens", "4", "--json", **environment)
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert (measured["engine"], measured["threads"]) == (name, 2)
    explain = [COMMAND, "explain", str(graph), "--engine", name]
    told = subprocess.run(explain, capture_output=True, text=True, timeout=120, env={**QUIET, **environment})
    assert told.returncode == 0, told.stderr
    assert "seconds foreseen: at least" in told.stdout
    assert measured["measured"] in told.stdout

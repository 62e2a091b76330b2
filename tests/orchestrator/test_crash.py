"""A run killed −9 at random moments and resumed: nothing is lost, nothing is done twice (DESIGN.md §6, Journal)."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from plait.orchestrator import Journal
from plait.orchestrator.records import NODE, Record

PROGRAM = [sys.executable, str(Path(__file__).with_name("crashing.py"))]
LONGEST = 0.3
"""Seconds after which a run is killed at the latest: about what it takes as a whole."""


def start(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([*PROGRAM, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def ended(process: subprocess.Popen[str]) -> Any:
    """The value of a run that came to its end; None of one that was killed before."""
    out, _ = process.communicate(timeout=120)
    return json.loads(out) if process.returncode == 0 else None


def lines(folder: Path, kind: str) -> Counter[str]:
    path = folder / f"{kind}.txt"
    return Counter(path.read_text().split()) if path.exists() else Counter()


def argument(record: Record) -> str:
    return record.title.partition("=")[2].rstrip(")")


def finished(folder: Path) -> list[Record]:
    with Journal(folder / "journal.db") as journal:
        runs = journal.runs()
        return [record for record in journal.records(runs[0].run) if record.state == "done"] if runs else []


def check_nothing_finished_ran_again(folder: Path, before: list[dict[str, int]]) -> None:
    looked = lines(folder, "look")
    for snapshot in before:
        for number, count in snapshot.items():
            assert looked[number] == count, f"look({number}) had finished and ran again"


def crash(folder: Path, rng: random.Random, kills: int) -> tuple[Any, int]:
    """Run to the end with at most so many kills; the value and how many kills there were."""
    before: list[dict[str, int]] = []
    for killed in range(kills):
        process = start(folder)
        time.sleep(rng.uniform(0.0, LONGEST))
        process.kill()
        value = ended(process)
        if value is not None:
            return value, killed
        looked = lines(folder, "look")
        calls = [record for record in finished(folder) if record.kind == "call" and record.title.startswith("look")]
        before.append({argument(record): looked[argument(record)] for record in calls})
    value = ended(start(folder))
    check_nothing_finished_ran_again(folder, before)
    return value, kills


def check_crashes(tmp_path: Path, seed: int, kills: int) -> None:
    expected = ended(start(tmp_path / "whole"))
    assert len({record.path for record in finished(tmp_path / "whole")}) >= 300
    rng, done, number = random.Random(seed), 0, 0
    while done < kills:
        folder, number = tmp_path / str(number), number + 1
        folder.mkdir()
        value, killed = crash(folder, rng, min(kills - done, rng.randint(2, 8)))
        done += killed
        assert value == expected
        assert set(lines(folder, "pay").values()) == {1}, "a call that must not be repeated was repeated, or lost"
        assert lines(folder, "pay").keys() == lines(tmp_path / "whole", "pay").keys()
        records = finished(folder)
        assert {record.path for record in records} == {record.path for record in finished(tmp_path / "whole")}
        assert len([record for record in records if record.sample == NODE]) > 0
        with Journal(folder / "journal.db") as journal:
            assert journal.uncertain(journal.runs()[0].run) == []


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    (tmp_path / "whole").mkdir()
    return tmp_path


def test_twenty_kills_lose_nothing_and_repeat_nothing(folders: Path) -> None:
    check_crashes(folders, seed=1, kills=20)


@pytest.mark.long
def test_two_hundred_kills_lose_nothing_and_repeat_nothing(folders: Path) -> None:
    check_crashes(folders, seed=2, kills=200)

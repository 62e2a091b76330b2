"""Searchers over a folder: their scores and costs, by any engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plait.benchmarks.searchers import measure, read_questions
from plait.errors import DataError

ASK = "<|begin_search_queries|>{}<|end_search_queries|>"


@pytest.mark.anyio
async def test_formats_are_scored_on_the_same_questions(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("Lima is the capital of Peru.")
    (tmp_path / "script.json").write_text(
        json.dumps(
            {
                "Format: parallel queries": ASK.format("Lima;\nPeru"),
                "Format: sequential queries": ASK.format("Peru"),
                "Lima is the capital": "\\boxed{Lima}",
            }
        )
    )
    (tmp_path / "questions.jsonl").write_text(
        '{"question": "q1", "answer": "Lima"}\n{"question": "q2", "answer": "Oslo"}\n'
    )
    questions = read_questions(tmp_path / "questions.jsonl")
    table = await measure(tmp_path, questions, f"scripted:{tmp_path / 'script.json'}")
    parallel, serial = table.as_dict()["rows"]
    assert (parallel["em"], parallel["f1"], parallel["turns"], parallel["calls"]) == (0.5, 0.5, 2, 2)
    assert (serial["em"], serial["turns"], serial["calls"]) == (0.5, 2, 1)
    assert parallel["auc calls"] == 0.0
    assert serial["auc calls"] == 0.25


def test_what_holds_no_questions_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"question": "q1"}')
    with pytest.raises(DataError, match="holds no questions with answers: KeyError 'answer'"):
        read_questions(tmp_path / "bad.jsonl")

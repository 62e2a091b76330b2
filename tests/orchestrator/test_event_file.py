"""Event files: every event is a line, and reading goes on after the last one that was read."""

from __future__ import annotations

from pathlib import Path

import pytest

import plait
from plait.engines.scripted import ScriptedEngine
from plait.errors import DataError
from plait.orchestrator import Event, Scope
from plait.orchestrator.event_file import EventFile, read_events

pytestmark = pytest.mark.anyio


async def note(scope: Scope, word: str) -> str:
    scope.emit("odd", {"thing": object(), "word": word})
    return (await scope.generate(await scope.start(word))).text


@plait.graph
def noting(g: plait.Builder, word: str) -> str:
    return g.drive(note, word=word)


async def test_events_are_written_as_they_come_and_read_on_from_any(tmp_path: Path) -> None:
    seen: list[Event] = []
    with EventFile(tmp_path / "events.jsonl") as file:
        await noting.run("é", engine=ScriptedEngine(["a b"]), listeners=[seen.append, file])
        read = list(read_events(tmp_path / "events.jsonl"))  # before it is closed
    assert [(event["event"], event["sequence"]) for event in read] == [
        (type(event).__name__, event.sequence) for event in seen
    ]
    assert read[-1]["usage"]["generated"] == 2
    assert list(read_events(tmp_path / "events.jsonl", after=2)) == read[3:]


async def test_what_utf8_cannot_hold_is_kept_too(tmp_path: Path) -> None:
    with EventFile(tmp_path / "events.jsonl") as file:
        await noting.run("q", engine=ScriptedEngine(["half \ud800"]), listeners=[file])
    assert [event["text"] for event in read_events(tmp_path / "events.jsonl") if event["event"] == "NodeText"] == [
        "half",
        " \ud800",
    ]


async def test_a_line_that_is_not_whole_is_left_for_later(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"event": "NodeText", "sequence": 0}\n{"event": "Node')
    assert [event["sequence"] for event in read_events(path)] == [0]


@pytest.mark.parametrize("line", ["", "[]", "7", '{"sequence": 1}', '{"event": "Else", "sequence": 1}', "{"])
async def test_what_is_no_event_is_named_with_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"event": "NodeText", "sequence": 0}\n' + line + "\n")
    with pytest.raises(DataError, match=r"events\.jsonl:2"):
        list(read_events(path))

"""Event files that were cut, mixed up or written by others: all that is read is an event, and what is none is named."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import plait
from plait.engines.scripted import ScriptedEngine
from plait.errors import DataError
from plait.orchestrator import EventFile, Scope, read_events

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The events of a real run, as they lie in a file."""

    async def drive(scope: Scope, word: str) -> str:
        scope.emit("odd", {"word": word, "thing": object()})
        return (await scope.generate(await scope.start(word), title="é\n\u2028")).text

    path = tmp_path_factory.mktemp("events") / "events.jsonl"
    with EventFile(path) as file:
        graph = plait.graph(lambda g: g.drive(drive, word="ü"))
        graph.run_sync(engine=ScriptedEngine(["a b c"]), listeners=[file])
    return path.read_bytes()


@st.composite
def changes(draw: st.DrawFn) -> list[tuple[str, float, bytes]]:
    """Ways to spoil a file: cut it, put bytes in, take bytes out, turn lines, replace a line by any JSON."""
    kinds = st.sampled_from(["cut", "insert", "overwrite", "drop", "swap", "line"])
    junk = st.binary(max_size=6) | values.map(lambda value: json.dumps(value).encode())
    return draw(st.lists(st.tuples(kinds, st.floats(0, 1), junk), min_size=1, max_size=4))


def spoil(data: bytes, changed: list[tuple[str, float, bytes]]) -> bytes:
    for kind, place, junk in changed:
        at = int(place * len(data))
        lines = data.split(b"\n")
        line = int(place * (len(lines) - 1))
        match kind:
            case "cut":
                data = data[:at]
            case "insert":
                data = data[:at] + junk + data[at:]
            case "overwrite":
                data = data[:at] + junk + data[at + len(junk) :]
            case "drop":
                data = data[:at] + data[at + 1 + len(junk) :]
            case "swap":
                data = b"\n".join(lines[line:] + lines[:line])
            case _:
                data = b"\n".join([*lines[:line], junk, *lines[line + 1 :]])
    return data


def check_read(recorded: bytes, changed: list[tuple[str, float, bytes]], after: int) -> None:
    """Every line that is read is an event after `after`; the rest is left for later, or named with its line."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.jsonl"
        data = spoil(recorded, changed)
        path.write_bytes(data)
        read, complaint = [], ""
        events = read_events(path, after=after)
        try:
            while (event := next(events, None)) is not None:
                read.append(event)
        except DataError as error:
            complaint = str(error)
        whole = data.count(b"\n")
        assert all(isinstance(event["event"], str) and event["sequence"] > after for event in read)
        assert len(read) <= whole
        if complaint:
            number = int(complaint.removeprefix(f"{path}:").partition(":")[0])
            assert len(read) < number <= whole


@settings(max_examples=300)
@given(changed=changes(), after=st.integers(-2, 9))
def test_a_spoilt_file_is_read_as_far_as_it_is_whole(
    recorded: bytes, changed: list[tuple[str, float, bytes]], after: int
) -> None:
    check_read(recorded, changed, after)


@pytest.mark.long
@settings(max_examples=10_000)
@given(changed=changes(), after=st.integers(-2, 9))
def test_ten_thousand_spoilt_files_are_read_as_far_as_they_are_whole(
    recorded: bytes, changed: list[tuple[str, float, bytes]], after: int
) -> None:
    check_read(recorded, changed, after)


@pytest.mark.parametrize("cut", range(0, 40, 3))
def test_a_file_that_is_cut_anywhere_is_read_up_to_its_last_whole_line(
    recorded: bytes, cut: int, tmp_path: Path
) -> None:
    data = recorded[: len(recorded) * cut // 40]
    (tmp_path / "events.jsonl").write_bytes(data)
    assert len(list(read_events(tmp_path / "events.jsonl"))) == data.count(b"\n")


def test_a_line_that_nests_without_end_is_named(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text("[" * 200_000 + "\n")
    with pytest.raises(DataError, match=r"events.jsonl:1: no event"):
        list(read_events(tmp_path / "events.jsonl"))

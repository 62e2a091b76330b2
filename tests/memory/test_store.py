"""The store: a function of the set of what was added, durable, shared, and undone change by change."""

import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.errors import MemoryStoreError, UnknownNameError
from plait.memory import Concept, Entry, Lesson, Memory, Parameter, Solution, TypeName

HOLE = Concept(name="hole", kind="structure", description="an empty space in an object", used_in=("a",))
FILL = Concept(
    name="fill", kind="routine", parameters=(Parameter(name="hole", typing="hole := object"),), used_in=("b",)
)


def test_entries_of_one_name_are_merged() -> None:
    with Memory(":memory:") as memory:
        first = Concept(
            name="x",
            kind="routine",
            description="first",
            parameters=(Parameter(name="p", typing="int"), Parameter(name="q")),
            cues=("c", "d"),
            used_in=("1",),
        )
        second = Concept(
            name="x",
            description="second",
            output_typing="grid",
            parameters=(Parameter(name="p", typing="str"),),
            cues=("d", "e"),
            used_in=("2",),
        )
        added = memory.add([second, first], what="both")
        assert (added.imported, added.merged) == (1, 1)
        assert memory.concept("x") == Concept(
            name="x",
            kind="routine",
            description="first",
            output_typing="grid",
            parameters=(Parameter(name="p", typing="str"), Parameter(name="q")),
            cues=("c", "d", "e"),
            used_in=("1", "2"),
        )


def test_a_mention_counts_as_soon_as_an_entry_gives_the_kind() -> None:
    with Memory(":memory:") as memory:
        assert memory.add([Concept(name="hole", cues=("gaps",))], what="mention").undefined == ("hole",)
        assert memory.concepts == []
        assert memory.add([HOLE], what="definition").imported == 1
        assert memory.concept("hole").cues == ("gaps",)
        memory.check_integrity()


def test_types_are_those_added_and_those_that_concepts_define() -> None:
    with Memory(":memory:") as memory:
        memory.add([FILL, TypeName(name="grid", definition="array")], what="types")
        assert memory.types == [TypeName(name="grid", definition="array"), TypeName(name="hole", definition="object")]


def test_the_latest_change_is_undone_and_no_earlier_one() -> None:
    with Memory(":memory:") as memory:
        memory.add([HOLE], what="one")
        before = memory.entries
        memory.add([HOLE, FILL, Concept(name="hole", cues=("gaps",))], what="two")
        assert memory.concept("hole").cues == ("gaps",)
        undone = memory.undo()
        assert (undone.what, undone.undone) == ("two", True)
        assert memory.entries == before
        memory.check_integrity()
        memory.undo()
        assert memory.entries == []
        assert [change.what for change in memory.history() if change.undone] == ["two", "one"]
        with pytest.raises(MemoryStoreError, match="no change to undo"):
            memory.undo()


def test_the_history_of_a_name_is_the_changes_that_said_something_of_it() -> None:
    with Memory(":memory:") as memory:
        memory.add([HOLE], what="one")
        memory.add([FILL], what="two")
        memory.add([HOLE, Concept(name="hole", cues=("gaps",))], what="three")
        assert [change.what for change in memory.history("hole")] == ["three", "one"]


def test_search_finds_by_words_best_first_and_takes_any_text() -> None:
    with Memory(":memory:") as memory:
        lesson = Lesson(situation="an empty space in the middle", suggestion="flood it")
        memory.add([HOLE, FILL, lesson, Solution(problem="empty", summary="empty space")], what="all")
        assert [entry.name for entry in memory.search("empty spaces in objects", 5)] == ["hole", lesson.name]
        assert len(memory.search("empty space", 1)) == 1
        assert memory.search('" OR NEAR( * -', 5) == []
        assert memory.search("", 5) == []


def test_names_and_files_that_are_wrong_are_named(tmp_path: Path) -> None:
    with Memory(tmp_path / "m.db") as memory:
        memory.add([HOLE], what="one")
        with pytest.raises(UnknownNameError, match="no concept 'holes'; near to it: hole"):
            memory.concept("holes")
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE runs (run)")
    database.close()
    with pytest.raises(MemoryStoreError, match="is a database, but no memory"):
        Memory(other)
    text = tmp_path / "text.db"
    text.write_text("no database at all, but long enough to look like one" * 20)
    with pytest.raises(MemoryStoreError, match="can't be"):
        Memory(text)


concepts = st.builds(
    Concept,
    name=st.sampled_from(["a", "b", "c"]),
    kind=st.sampled_from(["", "structure", "routine"]),
    description=st.sampled_from(["", "one", "two"]),
    parameters=st.lists(st.builds(Parameter, name=st.sampled_from("pq"), typing=st.sampled_from(["", "s", "t"]))).map(
        tuple
    ),
    cues=st.lists(st.sampled_from("xyz")).map(tuple),
    used_in=st.lists(st.sampled_from("123"), max_size=2).map(tuple),
)
lessons = st.builds(
    Lesson, situation=st.sampled_from("st"), suggestion=st.sampled_from("uv"), source=st.sampled_from("12")
)
solutions = st.builds(
    Solution, problem=st.sampled_from("12"), summary=st.sampled_from("no"), pseudocode=st.sampled_from(["", "p"])
)
entries = st.lists(st.one_of(concepts, lessons, solutions), max_size=8)


@given(entries, st.randoms(use_true_random=False), st.integers(1, 4))
def test_the_order_of_entries_and_changes_does_not_matter(
    given_: list[Entry], chance: random.Random, parts: int
) -> None:
    shuffled = chance.sample(given_, len(given_))
    with Memory(":memory:") as one, Memory(":memory:") as other:
        one.add(given_, what="at once")
        for part in range(parts):
            other.add(shuffled[part::parts], what="in parts")
        assert one.entries == other.entries
        one.check_integrity()
        other.check_integrity()
        other.add(given_, what="again")
        assert one.entries == other.entries
        for _ in range(parts + 1):
            other.undo()
        assert other.entries == []
        other.check_integrity()


# ---- processes

WRITER = """
import sys
from plait.memory import Concept, Memory
path, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
with Memory(path) as memory:
    for number in range(count):
        entry = Concept(name=f"shared {number}", kind="routine", used_in=(name,))
        own = Concept(name=f"{name} {number}", kind="routine", used_in=(name,))
        memory.add([entry, own], what=f"{name} {number}")
        print(number, flush=True)
"""


def start(path: Path, name: str, count: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-P", "-c", WRITER, str(path), name, str(count)], stdout=subprocess.PIPE, text=True
    )


def test_two_processes_that_write_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    writers = [start(path, name, 40) for name in ("left", "right")]
    for writer in writers:
        writer.communicate(timeout=120)
        assert writer.returncode == 0
    with Memory(path) as memory:
        memory.check_integrity()
        assert len(memory.concepts) == 120
        assert all(set(memory.concept(f"shared {number}").used_in) == {"left", "right"} for number in range(40))


def test_a_killed_process_loses_at_most_the_change_that_it_was_making(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    writer = start(path, "killed", 100_000)
    assert writer.stdout is not None
    done = [int(writer.stdout.readline()) for _ in range(5)][-1]
    time.sleep(0.01)  # so that it is killed somewhere within a change
    writer.kill()
    done = max([done, *(int(line) for line in writer.stdout.read().split("\n") if line.strip())])
    writer.wait()
    writer.stdout.close()
    with Memory(path) as memory:
        memory.check_integrity()
        changes = len(memory.history())
        assert done + 1 <= changes <= done + 2
        assert len(memory.concepts) == 2 * changes

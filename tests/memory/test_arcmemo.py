"""ArcMemo's files are read in all their forms, and written so that they read as they were."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.errors import InputError
from plait.memory import (
    Concept,
    Entry,
    Lesson,
    Memory,
    Parameter,
    Reading,
    Solution,
    TypeName,
    read_files,
    read_text,
    write_json,
    write_yaml,
)

ANNOTATIONS = """
a1:
  summary: recolour by a rule
  pseudocode: |
    for object in objects:
      recolor(object)
  concepts:
    - concept: recolor object
      kind: routine
      routine_subtype: grid manipulation
      output_typing: "scheme := color | Callable[[object], color]"
      parameters:
        - {name: object, typing: object, description: the one to recolour}
        - scheme
      description: recolour an object
      cues:
        - shapes stay
        - watch out: colours do not
b2:
  concepts:
    - concept: recolor object
      cues: [shapes stay, sizes stay]
    - concept: hole
      kind: structure
"""
TITLED = """
c3:
  hole counting:
    Kind: intermediate operation
    Routine Subtype: N/A
    Output Typing: int
    Parameters: N/A
    Description: count
      the holes
    Implementation:
    - flood fill
    Cues: N/A
  hole:
"""


def read(text: str, file: str = "f") -> Reading:
    reading = Reading()
    read_text(text, file, reading)
    return reading


def entries(text: str) -> list[Entry]:
    reading = read(text)
    assert reading.rejections == []
    return [found.entry for found in reading.found]


def test_annotations_with_lower_case_keys() -> None:
    solution, recolor, again, hole = entries(ANNOTATIONS)
    assert solution == Solution(
        problem="a1", summary="recolour by a rule", pseudocode="for object in objects:\n  recolor(object)"
    )
    assert recolor == Concept(
        name="recolor object",
        kind="routine",
        subtype="grid manipulation",
        output_typing="scheme := color | Callable[[object], color]",
        parameters=(
            Parameter(name="object", typing="object", description="the one to recolour"),
            Parameter(name="scheme"),
        ),
        description="recolour an object",
        cues=("shapes stay", "watch out: colours do not"),
        used_in=("a1",),
    )
    assert again == Concept(name="recolor object", cues=("shapes stay", "sizes stay"), used_in=("b2",))
    assert hole == Concept(name="hole", kind="structure", used_in=("b2",))


def test_annotations_with_titled_keys() -> None:
    counting, hole = entries(TITLED)
    assert counting == Concept(
        name="hole counting",
        kind="routine",
        subtype="intermediate operation",
        output_typing="int",
        description="count the holes",
        implementation=("flood fill",),
        used_in=("c3",),
    )
    assert hole == Concept(name="hole", used_in=("c3",))


def test_lessons_by_problem_and_in_a_list() -> None:
    lesson = Lesson(situation="rows repeat", suggestion="look at columns", source="a1")
    assert entries('{"a1": [{"situation": "rows repeat", "suggestion": "look at columns"}]}') == [lesson]
    assert entries('[{"situation": "rows repeat", "suggestion": "look at columns", "source": "a1"}]') == [lesson]


X = "a:\n- {concept: x, kind: routine}\n"


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ('{"concepts": {"x": {"kind": "routine"},\n"y": 7}}', 2, "no mapping"),
        ('{"a": [{"concept": "x", "kind": "routine"},\n1]}', 2, "no mapping"),
        ('{"a": [{"concept": "x", "kind": "routine"},\n{"situation": "s"}]}', 2, "no 'suggestion'"),
        (X + "- kind: routine", 3, "neither 'concept' nor 'name'"),
        (X + "- {concept: y, kind: song}", 3, "kind 'song'"),
        (X + "- {concept: y, kind: routine, cues: {a: b, c: d}}", 3, "list of lines"),
        (X + "- {concept: y, kind: routine, description: [a]}", 3, "no text"),
        (X + "- {concept: y, kind: routine, parameters: [{typing: a}]}", 3, "no 'name'"),
        (X + "b: [\nc: {}", 4, "not YAML"),
        (X + "b: some text", 3, "has a text"),
        ("a:\n  x:\n    kind: routine\n    y:\n      kind: routine", 5, "set in too far"),
    ],
)
def test_what_is_malformed_is_reported_by_line_and_the_rest_kept(text: str, line: int, reason: str) -> None:
    reading = read(text, "notes.yaml")
    [rejection] = reading.rejections
    assert (rejection.file, rejection.line) == ("notes.yaml", line)
    assert reason in rejection.reason
    assert [found.entry.name for found in reading.found] == ["x"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": [1,]}', "not JSON"),
        ('{"a": 1} and', "not JSON: more text"),
        ("[" * 1000, "nested"),
        ("a: &x [*x]", "alias"),
        ("", "neither concepts nor lessons"),
        ("just words", "neither concepts nor lessons"),
    ],
)
def test_a_broken_file_is_one_rejection(text: str, reason: str) -> None:
    [rejection] = read(text).rejections
    assert reason in rejection.reason


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.json can't be read"):
        read_files([tmp_path / "gone.json"])
    binary = tmp_path / "binary.json"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="can't be read"):
        read_files([binary])


@given(st.one_of(st.text(), st.text(alphabet="{}[]\":,-abc \n\t&*?|>'#%@!")))
def test_no_text_is_an_unnamed_error(text: str) -> None:
    reading = read(text)
    assert all(rejection.line >= 1 and rejection.reason for rejection in reading.rejections)


# ---- there and back

words = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1).map(str.strip)
texts = words.filter(lambda text: text not in ("", "N/A"))
lines = st.lists(texts, max_size=3, unique=True).map(tuple)
maybe = st.one_of(st.just(""), texts)
parameters = st.lists(
    st.builds(Parameter, name=texts, typing=maybe, description=maybe), max_size=3, unique_by=lambda one: one.name
).map(tuple)
concepts = st.builds(
    Concept,
    name=texts,
    kind=st.sampled_from(["structure", "routine"]),
    subtype=maybe,
    output_typing=maybe,
    parameters=parameters,
    description=maybe,
    cues=lines,
    implementation=lines,
    used_in=lines,
)
solutions = st.builds(Solution, problem=texts, solution=maybe, summary=texts, pseudocode=maybe)
lessons = st.builds(Lesson, situation=texts, suggestion=texts, source=maybe)
memories = st.lists(
    st.one_of(concepts, solutions, lessons, st.builds(TypeName, name=texts, definition=texts)), max_size=6
)


@given(memories)
def test_a_memory_reads_as_it_was_written(given_: list[Entry]) -> None:
    with Memory(":memory:") as memory, Memory(":memory:") as json_, Memory(":memory:") as yaml:
        memory.add(given_, what="given")
        for other, write in ((json_, write_json), (yaml, write_yaml)):
            reading = read(write(memory.entries))
            assert [rejection for rejection in reading.rejections if given_] == []
            other.add([found.entry for found in reading.found], what="read")
            assert other.entries == memory.entries

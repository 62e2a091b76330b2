"""Datasets: what is read, how it is split, and what is said of a file that can't be read."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.errors import DataError, InputError, MissingExtraError, UnknownNameError
from plait.recipes.evaluation import Dataset, Item, embedded_dataset, read_dataset, right_path


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_jsonl_file_is_read_by_the_usual_names(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "a.jsonl",
        '{"question": "1+1?", "label": 2, "id": "x"}\n\n{"question": "Pick", "answer": "B", "options": ["a", "b"]}\n',
    )
    first, second = read_dataset(path).items
    assert (first.id, first.task, first.answer) == ("x", "1+1?", "2")
    assert (second.id, second.choices, second.answer) == ("2", ("a", "b"), "B")


def test_a_csv_file_is_read_and_its_fields_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'ask;right\n"one; two";3\nmore;4\n')
    items = read_dataset(path, fields={"task": "ask", "answer": "right"}).items
    assert [(item.task, item.answer) for item in items] == [("one; two", "3"), ("more", "4")]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.jsonl", "", "no items"),
        ("a.csv", "task,answer\n", "no items"),
        ("a.jsonl", '{"task": "x"}\n{"task"\n', "line 2: is not JSON"),
        ("a.jsonl", "[1]\n", "line 1: is not a JSON object"),
        ("a.jsonl", '{"a": 1}\n', "line 1: no task; it has a"),
        ("a.csv", "task,answer\nonly\n", "line 2: 1 cells where the header has 2"),
        ("a.jsonl", '{"task": "x", "id": 1}\n{"task": "y", "id": 1}\n', "two items of id '1'"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_dataset(write(tmp_path, name, text))


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.jsonl can't be read"):
        read_dataset(tmp_path / "nowhere.jsonl")
    with pytest.raises(UnknownNameError, match="did you mean 'countdown'"):
        read_dataset("embedded:countdwn")
    with pytest.raises(InputError, match="use 1 to 10000"):
        read_dataset("embedded:countdown:0")
    with pytest.raises(InputError, match="write hf:NAME:SPLIT"):
        read_dataset("hf:name")


@pytest.mark.skipif(find_spec("datasets") is not None, reason="the package 'datasets' is installed")
def test_a_hugging_face_dataset_needs_its_extra() -> None:
    with pytest.raises(MissingExtraError, match=r"plait\[datasets\]"):
        read_dataset("hf:name:test")


@given(st.integers(2, 60), st.integers(0, 5))
def test_a_split_loses_no_item_and_takes_none_twice(count: int, seed: int) -> None:
    items = tuple(Item(id=str(index), task="x") for index in range(count))
    dev, held_out = Dataset(name="d", items=items).split(share=0.5, seed=seed)
    assert sorted(item.id for item in (*dev, *held_out)) == sorted(item.id for item in items)
    again, _ = Dataset(name="d", items=items[::-1]).split(share=0.5, seed=seed)
    assert {item.id for item in dev} == {item.id for item in again}


def test_a_split_that_leaves_a_side_empty_is_refused() -> None:
    with pytest.raises(InputError, match="leaves one side"):
        Dataset(name="d", items=(Item(id="1", task="x"),)).split()


@pytest.mark.parametrize("name", ["countdown", "queries", "questions"])
def test_embedded_tasks_are_the_same_each_time_and_have_distinct_tasks(name: str) -> None:
    first, second = embedded_dataset(f"{name}:30"), embedded_dataset(f"{name}:30")
    assert first.fingerprint == second.fingerprint
    assert len(first) == len({item.task for item in first}) == 30


def test_a_countdown_path_is_checked_by_arithmetic() -> None:
    assert right_path("24: 8 3 1", "8*3=24,24*1=24")
    assert not right_path("24: 8 3 1", "8*3=24")
    assert not right_path("24: 8 3 1", "none")

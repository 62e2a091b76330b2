"""Which types fit where."""

# ruff: noqa: UP007, UP045
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, NewType, Optional, TypedDict, TypeVar, Union

import pytest
from pydantic import BaseModel

from plait.orchestrator.types import element, field_type, fits, name_of, of_value

T = TypeVar("T")
Id = NewType("Id", int)


class Animal(BaseModel):
    name: str


class Dog(Animal):
    age: int = 0


class Box(BaseModel, Generic[T]):
    content: T


class Row(TypedDict):
    a: int


@dataclass
class Point:
    x: int
    y: list[float]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (int, int),
        (bool, int),
        (int, float),
        (int, object),
        (Any, int),
        (int, Any),
        (Dog, Animal),
        (Dog, BaseModel),
        (int, int | str),
        (int, Optional[int]),
        (type(None), Optional[int]),
        (None, Optional[int]),
        (int | str, Union[str, int, None]),
        (list[int], list[float]),
        (list[Dog], list[Animal]),
        (list[int], Sequence[int]),
        (list[int], Iterable[int]),
        (list, list[int]),
        (list[int], list),
        (tuple[int, int], Sequence[int]),
        (tuple[int, str], tuple[int, str]),
        (tuple[int, int], tuple[int, ...]),
        (dict[str, int], Mapping[str, float]),
        (Row, dict),
        (Literal["a"], str),
        (Literal["a"], Literal["a", "b"]),
        (Annotated[int, "metres"], int),
        (Id, int),
        (int, T),
        (Box[int], Box[int]),
        (Box[int], Box),
        (type(len), Callable),
        (str, str | list[str]),
    ],
)
def test_fits(given: Any, wanted: Any) -> None:
    assert fits(given, wanted)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (int, str),
        (str, int),
        (float, int),
        (Animal, Dog),
        (int | None, int),
        (int | str, int),
        (str, list[str]),
        (str, Sequence[str]),
        (list[str], list[int]),
        (list[int | None], list[int]),
        (list[int], str),
        (list[int], dict[str, int]),
        (dict[str, str], dict[str, int]),
        (tuple[int, str], Sequence[int]),
        (tuple[int, str], tuple[int, int]),
        (tuple[int, ...], tuple[int, int]),
        (str, Literal["a"]),
        (Literal["a", "c"], Literal["a", "b"]),
        (Literal[1], Literal[True]),
        (Literal["a"], int),
        (type(None), int),
        (Box[int], Box[str]),
        (Animal, Box[str]),
        (dict[str, int], Row),
        (int, list[int]),
    ],
)
def test_does_not_fit(given: Any, wanted: Any) -> None:
    assert not fits(given, wanted)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (list[int], int),
        (list, Any),
        (Any, Any),
        (tuple[int, str], int | str),
        (tuple[int, ...], int),
        (set[str], str),
        (list[int] | list[str], int | str),
        (str, None),
        (int, None),
        (dict[str, int], None),
        (list[int] | None, None),
        (Dog, None),
    ],
)
def test_elements(kind: Any, expected: Any) -> None:
    assert element(kind) == expected


def test_fields() -> None:
    assert field_type(Dog, "name") is str
    assert field_type(Point, "y") == list[float]
    assert field_type(Point, "z") is None
    assert field_type(int, "real") is None
    assert field_type(Any, "anything") is Any


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, int),
        (None, type(None)),
        ([1, "a"], list[int | str]),
        ([], list),
        ({"a": 1}, dict[str, int]),
        ((1, "a"), tuple[int, str]),
        (Dog(name="a"), Dog),
    ],
)
def test_types_of_values(value: object, expected: Any) -> None:
    assert of_value(value) == expected


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (int, "int"),
        (None, "None"),
        (int | None, "int | None"),
        (list[Dog], "list[Dog]"),
        (dict[str, Any], "dict[str, Any]"),
        (tuple[int, ...], "tuple[int, ...]"),
        (Literal["a", 1], "Literal['a', 1]"),
        (Annotated[int, "metres"], "int"),
        (Any, "Any"),
    ],
)
def test_names(kind: Any, expected: str) -> None:
    assert name_of(kind) == expected

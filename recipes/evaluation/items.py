"""The dataset: tasks with what is known of their answers, and how they are split into dev and held-out ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Literal, TypeAlias

from ...errors import DataError, InputError
from ...orchestrator.fingerprint import fingerprint
from ...tools import Tool

Split: TypeAlias = Literal["all", "dev", "held-out"]

DEV_SHARE = 0.2
"""The share of the items that a search sees (Archon, 2024)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One task. `answer` is the right one, `choices` what may be chosen from, `tests` Python code that an answer's code
    has to pass; what a scorer does not need may be left out."""

    id: str
    task: str
    answer: str = ""
    choices: tuple[str, ...] = ()
    tests: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Items, and what goes with all of them.

    `scorer` names how answers are judged unless the caller says otherwise. `instructions` is a system message for
    techniques that bring none of their own, `answer` a pattern of where the answer stands in a text (its first group),
    `stop` texts after which nothing is needed, `tools` are those that a recipe needs here.
    """

    name: str
    items: tuple[Item, ...]
    scorer: str = "exact"
    instructions: str = ""
    answer: str = ""
    stop: tuple[str, ...] = ()
    tools: Sequence[Tool] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not self.items:
            raise DataError(f"dataset {self.name} has no items; it needs at least one")
        seen = set[str]()
        for item in self.items:
            if item.id in seen:
                raise DataError(f"dataset {self.name} has two items of id '{item.id}'; ids tell items apart")
            seen.add(item.id)

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)

    @property
    def fingerprint(self) -> str:
        """Equal for equal items, whatever their order."""
        return fingerprint(sorted(fingerprint(item) for item in self.items))

    def take(self, split: Split, *, share: float = DEV_SHARE, seed: int = 0) -> Dataset:
        """The items of one side of a split that the seed draws. Raises InputError for one that leaves a side empty."""
        if split == "all":
            return self
        dev, held_out = self.split(share=share, seed=seed)
        return dev if split == "dev" else held_out

    def split(self, *, share: float = DEV_SHARE, seed: int = 0) -> tuple[Dataset, Dataset]:
        """Dev and held-out items: an item's side depends on the seed and on the ids alone."""
        ids = sorted(item.id for item in self.items)
        count = round(len(ids) * share)
        if not 0 < count < len(ids):
            raise InputError(
                f"dataset {self.name} can't be split: a share of {share:g} of its {len(ids)} items leaves one side "
                "empty; use more items or another share"
            )
        chosen = set(Random(f"split {seed}").sample(ids, count))
        return (
            self.only([item for item in self.items if item.id in chosen], f"{self.name}, dev"),
            self.only([item for item in self.items if item.id not in chosen], f"{self.name}, held out"),
        )

    def first(self, count: int) -> Dataset:
        """The first items; all of them for 0."""
        return self.only(self.items[:count]) if count else self

    def only(self, items: Sequence[Item], name: str = "") -> Dataset:
        """The same with these items."""
        return replace(self, items=tuple(items), name=name or self.name)


def item_of(values: Mapping[str, Any], number: int, where: str, fields: Mapping[str, str]) -> Item:
    """An item from a record's values; `fields` says which of them holds what, else the usual names are tried.

    Raises DataError for a record without a task.
    """
    for part, name in fields.items():
        if part not in NAMES:
            raise InputError(f"an item has no part '{part}'; its parts are {', '.join(NAMES)}")
        if name not in values:
            raise DataError(f"{where}: no field '{name}' for the {part}; it has {', '.join(map(str, values))}")
    found = {part: _part(values, [fields[part]] if part in fields else names) for part, names in NAMES.items()}
    if not found["task"]:
        known = ", ".join(map(str, values)) or "nothing"
        raise DataError(f"{where}: no task; it has {known}: name the field that holds it, such as task=question")
    choices = found["choices"]
    return Item(
        id=_text(found["id"]) or str(number),
        task=_text(found["task"]),
        answer=_text(found["answer"]),
        choices=tuple(_text(choice) for choice in choices) if isinstance(choices, list | tuple) else (),
        tests="\n".join(map(_text, found["tests"])) if isinstance(found["tests"], list) else _text(found["tests"]),
    )


NAMES: Mapping[str, Sequence[str]] = {
    "id": ("id", "task_id", "question_id"),
    "task": ("task", "question", "input", "prompt", "problem", "text"),
    "answer": ("answer", "expected", "target", "label", "solution", "output"),
    "choices": ("choices", "options"),
    "tests": ("tests", "test", "test_list"),
}
"""Parts of an item, and the names under which published datasets have them."""


def _part(values: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((values[name] for name in names if values.get(name) not in (None, "")), "")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value.strip() if isinstance(value, str) else str(value)

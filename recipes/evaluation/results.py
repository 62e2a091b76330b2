"""Results of an evaluation: one line an item, in a file that an evaluation is resumed from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...errors import DataError, InputError
from ...usage import Usage
from .statistics import Difference, Interval, interval, paired

COUNTED = ("prompt", "generated", "critical_path", "calls", "seconds", "cost")
"""What of a usage stands in tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemResult:
    """What came of one item: the recipe's text, the answer in it, its score. With an `error` the score is 0."""

    id: str
    text: str = ""
    answer: str = ""
    score: float = 0.0
    error: str = ""
    run: str = ""
    usage: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Heading:
    """What an evaluation was of; results of equal headings may stand in one file."""

    recipe: str
    definition: str
    engine: str
    seed: int
    dataset: str
    items: str
    scorer: str
    version: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The results of a recipe on a dataset, in the dataset's order."""

    heading: Heading
    results: tuple[ItemResult, ...]

    @property
    def scores(self) -> list[float]:
        return [result.score for result in self.results]

    @property
    def accuracy(self) -> Interval:
        """The mean score with its interval; a failed item counts as 0."""
        return interval(self.scores)

    @property
    def failed(self) -> list[ItemResult]:
        return [result for result in self.results if result.error]

    def mean(self, name: str) -> float:
        """The mean of a usage's field over the items."""
        return sum(result.usage.get(name, 0.0) for result in self.results) / len(self.results)

    @property
    def usage(self) -> Usage:
        """What all items used, side by side."""
        total = Usage()
        for result in self.results:
            total |= Usage(**result.usage)  # type: ignore[arg-type]
        return total

    def against(self, other: Evaluation) -> Difference:
        """How much better this one is than another on the items that both have. Raises InputError where none are."""
        theirs = {result.id: result.score for result in other.results}
        pairs = [(theirs[result.id], result.score) for result in self.results if result.id in theirs]
        if not pairs:
            raise InputError(
                f"the evaluations of {self.heading.recipe} and {other.heading.recipe} have no items in common; "
                "evaluate both on one dataset"
            )
        return paired([one for one, _ in pairs], [two for _, two in pairs])

    def as_dict(self) -> dict[str, Any]:
        found = self.accuracy
        return {
            **asdict(self.heading),
            "count": len(self.results),
            "accuracy": asdict(found),
            "failed": len(self.failed),
            "mean": {name: self.mean(name) for name in COUNTED},
        }


class ResultFile:
    """The file of an evaluation: a heading, then a line an item as soon as it is known.

    The last line of an item counts. A file of another evaluation is refused, a line that a crash cut off left out.
    """

    def __init__(self, path: str | Path, heading: Heading) -> None:
        self.path = Path(path)
        self.known: dict[str, ItemResult] = {}
        if self.path.exists() and self.path.stat().st_size:
            found, results = read_results(self.path)
            _check_same(self.path, found, heading)
            self.known = {result.id: result for result in results}
            self._file = self.path.open("a", encoding="utf-8")
            if not self.path.read_bytes().endswith(b"\n"):
                self._file.write("\n")
        else:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("w", encoding="utf-8")
            self._write({"evaluation": asdict(heading)})

    def add(self, result: ItemResult) -> None:
        """Write a result; it is kept even if the process is killed now."""
        self.known[result.id] = result
        self._write(asdict(result))

    def close(self) -> None:
        self._file.close()

    def _write(self, data: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(data, ensure_ascii=False) + "\n")
        self._file.flush()


def read_results(path: str | Path) -> tuple[Heading, list[ItemResult]]:
    """The heading and the latest result of each item of a file. Raises DataError."""
    try:
        lines = Path(path).read_bytes().decode("utf-8", "replace").split("\n")
    except OSError as error:
        raise DataError(f"results {path} can't be read: {error.strerror}") from error
    found = [json_line(line) for line in lines if line.strip()]
    try:
        heading = Heading(**found[0]["evaluation"])  # type: ignore[index]
        results = [ItemResult(**line) for line in found[1:] if line is not None]
    except (IndexError, KeyError, TypeError) as error:
        raise DataError(f"{path} holds no results of `plait eval`; name another file") from error
    return heading, list({result.id: result for result in results}.values())


def read_evaluation(path: str | Path) -> Evaluation:
    """An evaluation from its file. Raises DataError."""
    heading, results = read_results(path)
    if not results:
        raise DataError(f"{path} holds no item's result; the evaluation was cut off before the first")
    return Evaluation(heading, tuple(results))


def json_line(line: str) -> dict[str, Any] | None:
    """The object of a line; None for one that was cut off."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def table(evaluations: Sequence[Evaluation]) -> str:
    """Evaluations below each other as a Markdown table: score with its interval, and means an item."""
    rows = [
        [
            one.heading.recipe, str(one.accuracy), f"{len(one.results)}", f"{len(one.failed)}",
            f"{one.mean('prompt'):.0f}", f"{one.mean('generated'):.0f}", f"{one.mean('critical_path'):.0f}",
            f"{one.mean('calls'):.1f}", f"{one.mean('seconds'):.2f}", f"{one.mean('cost'):.6g}",
        ]
        for one in evaluations
    ]  # fmt: skip
    head = ["recipe", "score", "items", "failed", "prompt", "generated", "critical path", "calls", "seconds", "cost"]
    return markdown(head, rows)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its columns as wide as they need to be."""
    cells = [list(head), *map(list, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _check_same(path: Path, found: Heading, wanted: Heading) -> None:
    for name, value in asdict(wanted).items():
        theirs = getattr(found, name)
        if theirs != value:
            raise InputError(
                f"{path} holds results of another evaluation: {name} is {theirs!r} there and {value!r} here; name "
                "another file"
            )

"""A table of measurements: what one benchmark prints, and the same as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, TypeAlias

Cell: TypeAlias = str | int | float


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under named columns. `question` says what is measured and how; floats are shown with three digits."""

    name: str
    question: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def text(self) -> str:
        shown = [self.columns, *(tuple(map(show, row)) for row in self.rows)]
        widths = [max(len(row[index]) for row in shown) for index in range(len(self.columns))]
        lines = ["  ".join(_padded(cell, width) for cell, width in zip(row, widths, strict=True)) for row in shown]
        return "\n".join([f"{self.name}: {self.question}", *(line.rstrip() for line in lines)])

    def as_dict(self) -> dict[str, Any]:
        rows = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return {"name": self.name, "question": self.question, "rows": rows}


def show(cell: Cell) -> str:
    """A cell as text: whole numbers with separators, floats with three digits that count."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int) or abs(cell) >= 1000:
        return f"{round(cell):,}"
    return f"{cell:#.3g}".rstrip(".") if cell else "0"


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Median, and greatest less least."""
    return median(values), max(values) - min(values)


def _padded(cell: str, width: int) -> str:
    return cell.rjust(width) if cell[:1].isdigit() or cell[:1] == "-" else cell.ljust(width)

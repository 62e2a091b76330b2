"""How a step is cut into few dense reads: which rows read which slots together (DESIGN.md §4, Kernels).

Everything here is host-side arithmetic on integers. Three shapes of read come out:

- a *causal square*: a chunk of new tokens against its own keys;
- a *grid*: one or more ranges of slots at equal distances, each read whole by equally many rows. A range that many
  threads share is a grid of one (segment-major); the private tails of many threads, side by side in the pool, are one grid
  without a copy;
- a *banded* read: a grid of one in which each row sees its own slice, where a sliding window cuts into a chunk.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from .plan import KeyRun, QueryBlock

WASTE = 512
"""Keys that a grid may read for nothing to save one call, beyond as many as it reads for something."""


@dataclass(frozen=True, slots=True)
class Rows:
    """`count` consecutive rows: `query` is the first in the table of rotated queries, `row` the first in the output."""

    query: int
    row: int
    count: int

    def part(self, start: int, stop: int) -> Rows:
        return Rows(self.query + start, self.row + start, stop - start)


@dataclass(frozen=True, slots=True)
class Causal:
    """Row j of `rows` sees the first j + 1 slots from `slot`."""

    rows: Rows
    slot: int


@dataclass(frozen=True, slots=True)
class Cell:
    """One range of slots and the rows that read it; `limits[i]` slots of it are seen by all of `rows[i]`."""

    slot: int
    rows: tuple[Rows, ...]
    limits: tuple[int, ...]

    @property
    def height(self) -> int:
        return sum(rows.count for rows in self.rows)

    @property
    def width(self) -> int:
        return max(self.limits)


@dataclass(frozen=True, slots=True)
class Grid:
    """Cells of equal height, `stride` slots apart, all read `width` slots wide."""

    cells: tuple[Cell, ...]
    stride: int
    width: int

    @property
    def height(self) -> int:
        return self.cells[0].height


@dataclass(frozen=True, slots=True)
class Band:
    """Row j of `rows` sees slots [starts[j], stops[j]), counted from `slot`; `width` slots are read."""

    rows: Rows
    slot: int
    width: int
    starts: tuple[int, ...]
    stops: tuple[int, ...]


@dataclass(slots=True)
class Layout:
    """The reads of one step, and the rotated queries that they need.

    Rotated query r < `rows` is row r rotated in its own frame (`angles[r]`, which its key shares); the rest are
    `extra_rows[i]` rotated at `extra_angles[i]`, once per distinct frame offset.
    """

    slots: list[int] = field(default_factory=list)
    angles: list[int] = field(default_factory=list)
    extra_rows: list[int] = field(default_factory=list)
    extra_angles: list[int] = field(default_factory=list)
    reads: list[Causal | Grid | Band] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return len(self.slots)


def lay_out(blocks: Sequence[QueryBlock], *, slots: int, window: int) -> Layout:
    """Cut one step into reads, over a pool of `slots` slots. A row that a read would give nothing is not in the read."""
    layout = Layout()
    ranges: dict[int, list[tuple[Rows, int]]] = {}
    for block in blocks:
        row = layout.rows
        layout.slots += block.slots
        layout.angles += range(block.rotation, block.rotation + block.count)
        queries: dict[int, int] = {block.position - block.rotation: row}
        for run in block.keys:
            if run.offset not in queries:
                queries[run.offset] = -1 - len(layout.extra_rows)
                layout.extra_rows += range(row, row + block.count)
                layout.extra_angles += range(block.position - run.offset, block.position - run.offset + block.count)
            _cut(block, run, Rows(queries[run.offset], row, block.count), window, layout.reads, ranges)
    grids = _grids(_cells(ranges), slots)
    layout.reads += grids
    return layout

"""How a step is cut into few dense reads: which rows read which slots together (DESIGN.md §4, Kernels).

Everything here is host-side arithmetic on integers. Three shapes of read come out:

- a *causal square*: a chunk of new tokens against its own keys;
- a *grid*: one or more ranges of slots at equal distances, each read whole by equally many rows. A range that many
  threads share is a grid of one (segment-major); many threads' private tails, side by side in the pool, are one grid,
  without a copy. Short ranges that lie anywhere are copied together into one;
- a *banded* read: a grid of one in which each row sees its own slice, where a sliding window cuts into a chunk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from .plan import KeyRun, QueryBlock

WASTE = 512
"""Pairs of row and key that may be computed for nothing to save one call."""


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
    """Cells of equal height, read `width` slots wide, that stand `stride` slots apart (None: anywhere)."""

    cells: tuple[Cell, ...]
    stride: int | None
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


def lay_out(blocks: Sequence[QueryBlock], *, slots: int, window: int = 0, short: int = 0) -> Layout:
    """Cut one step into reads, over a pool of `slots` slots. A row to which a read would give nothing is not in it.

    Ranges of up to `short` slots are cheaper to copy than to read in a call of their own.
    """
    layout = Layout()
    whole: dict[int, list[_Whole]] = {}
    extra = sum(block.count for block in blocks)
    for block in blocks:
        row = layout.rows
        queries = {block.position - block.rotation: row}
        layout.slots += block.slots
        layout.angles += range(block.rotation, block.rotation + block.count)
        for run in block.keys:
            if run.offset not in queries:
                first = block.position - run.offset
                queries[run.offset] = extra + len(layout.extra_rows)
                layout.extra_rows += range(row, row + block.count)
                layout.extra_angles += range(first, first + block.count)
            for read in _cut(block, run, Rows(queries[run.offset], row, block.count), window):
                if isinstance(read, _Whole):
                    whole.setdefault(read.slot, []).append(read)
                else:
                    layout.reads.append(read)
    cells = [cell for slot, reads in whole.items() for cell in _cells(slot, reads)]
    layout.reads += _grids(cells, slots, short)
    return layout


@dataclass(frozen=True, slots=True)
class _Whole:
    """A range of slots that all of `rows` see whole."""

    rows: Rows
    slot: int
    width: int


def _cut(block: QueryBlock, run: KeyRun, rows: Rows, window: int) -> Iterator[Causal | Band | _Whole]:
    """What one block reads of one run, in parts that are whole, square or banded."""
    if window and block.position + block.count - window > run.position:
        yield from _banded(block, run, rows, window)
        return
    if run.first is None or rows.count == 1:
        seen = run.count if run.first is None else min(1 - run.first, run.count)
        if seen > 0:
            yield _Whole(rows, run.slot, seen)
        return
    old = min(max(-run.first, 0), run.count)  # keys from before this step: all rows see them
    if old:
        yield _Whole(rows, run.slot, old)
    start = max(run.first, 0)
    size = min(run.count - old, rows.count - start)
    if size <= 0:
        return
    new = run.slot + old
    yield Causal(rows.part(start, start + size), new) if size > 1 else _Whole(rows.part(start, start + 1), new, 1)
    if start + size < rows.count:
        yield _Whole(rows.part(start + size, rows.count), new, size)


def _banded(block: QueryBlock, run: KeyRun, rows: Rows, window: int) -> Iterator[Band | _Whole]:
    """The same where the window hides some of the run from some of the rows."""
    oldest = block.position - window + 1 - run.position  # the first key within the window of row 0
    starts = [max(oldest + j, 0) for j in range(rows.count)]
    stops = [run.count if run.first is None else min(j - run.first + 1, run.count) for j in range(rows.count)]
    seeing = [j for j in range(rows.count) if starts[j] < stops[j]]
    if not seeing:
        return
    top, bottom = seeing[0], seeing[-1] + 1  # no gap: starts and stops both grow with j
    starts, stops, seen = starts[top:bottom], stops[top:bottom], rows.part(top, bottom)
    slot, width = run.slot + starts[0], stops[-1] - starts[0]
    if starts[0] == starts[-1] and stops[0] == stops[-1]:
        yield _Whole(seen, slot, width)
    else:
        yield Band(seen, slot, width, tuple(s - starts[0] for s in starts), tuple(s - starts[0] for s in stops))


def _cells(slot: int, reads: Sequence[_Whole]) -> Iterator[Cell]:
    """Reads that begin at one slot, together; cut where those that see less end, if going on would waste too much."""
    if len(reads) == 1:
        yield Cell(slot, (reads[0].rows,), (reads[0].width,))
        return
    rest = sorted(reads, key=lambda read: read.width)
    start = 0
    while rest:
        longest = rest[-1].width
        waste = sum((longest - read.width) * read.rows.count for read in rest)
        stop = longest if waste <= WASTE else rest[0].width
        limits = (min(read.width, stop) - start for read in rest)
        yield Cell(slot + start, tuple(read.rows for read in rest), tuple(limits))
        rest = [read for read in rest if read.width > stop]
        start = stop


def _grids(cells: Iterable[Cell], slots: int, short: int) -> Iterator[Grid]:
    """Join cells of equal height: in place where they stand at equal distances, by copying where they are short."""
    by_height: dict[int, list[Cell]] = {}
    for cell in cells:
        by_height.setdefault(cell.height, []).append(cell)
    for row in by_height.values():
        in_place = list(_in_place(sorted(row, key=lambda cell: cell.slot), slots))
        odd = [grid for grid in in_place if len(grid.cells) <= 2 and grid.width <= short]  # any two are a grid
        if len(odd) < 2:
            yield from in_place
            continue
        yield from (grid for grid in in_place if grid not in odd)
        yield from _copied([cell for grid in odd for cell in grid.cells])


def _in_place(cells: Sequence[Cell], slots: int) -> Iterator[Grid]:
    """No grid reads beyond the pool's end."""
    while cells:
        grid = _longest_grid(cells, slots)
        yield grid
        cells = cells[len(grid.cells) :]


def _longest_grid(cells: Sequence[Cell], slots: int) -> Grid:
    """The longest grid that begins with the first cell."""
    stride = cells[1].slot - cells[0].slot if len(cells) > 1 else 0
    count, width, useful = 1, cells[0].width, cells[0].width
    for before, cell in pairwise(cells):
        wider = max(width, cell.width)
        wasteful = (wider * (count + 1) - useful - cell.width) * cell.height > WASTE * count
        if cell.slot - before.slot != stride or not stride or cell.slot + wider > slots or wasteful:
            break
        count, width, useful = count + 1, wider, useful + cell.width
    return Grid(tuple(cells[:count]), stride if count > 1 else 0, width)


def _copied(cells: Sequence[Cell]) -> Iterator[Grid]:
    rest = sorted(cells, key=lambda cell: cell.width, reverse=True)  # the widest comes first, so it bounds the waste
    while rest:
        width = rest[0].width
        stop = next((i for i, cell in enumerate(rest) if (width - cell.width) * cell.height > WASTE), len(rest))
        yield Grid(tuple(rest[:stop]), None if stop > 1 else 0, width)
        rest = rest[stop:]

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.kernels import KeyRun, QueryBlock
from plait.kernels.layout import WASTE, Band, Causal, Grid, Layout, lay_out

Scenes = Callable[..., Any]


def of_scene(scene: Any, short: int = 0) -> Layout:
    return lay_out(scene.blocks(), slots=scene.slots, short=short)


def chunk(start: int, count: int, *, slot: int = 0) -> QueryBlock:
    """A chunk of a sequence that lies in one piece from `slot` on."""
    slots = tuple(range(slot + start, slot + start + count))
    return QueryBlock(start, start, slots, (KeyRun(slot, start + count, 0, 0, first=-start),))


def test_many_threads_read_a_shared_span_once_and_their_tails_in_one_grid(decoding_scene: Scenes) -> None:
    layout = of_scene(decoding_scene(members=6, ragged=False, mutual=False))
    shared, tails = layout.reads
    assert isinstance(shared, Grid)
    assert isinstance(tails, Grid)
    assert (len(shared.cells), shared.height, shared.width) == (1, 6, 40)
    assert (len(tails.cells), tails.height, tails.width, tails.stride) == (6, 1, 4, 16)
    assert layout.extra_rows == []


def test_a_team_of_four_takes_two_reads_and_rotates_once_per_offset(decoding_scene: Scenes) -> None:
    layout = of_scene(decoding_scene(members=4, ragged=False, mutual=True))
    grids = [read for read in layout.reads if isinstance(read, Grid)]
    assert [grid.height for grid in grids] == [4, 4]
    assert sum(len(grid.cells) for grid in grids) == 5
    # each member needs its query at its own tail's offset, the prefix's, and those of two of the three others
    assert Counter(layout.extra_rows) == {0: 3, 1: 3, 2: 3, 3: 3}


def test_a_first_chunk_is_one_causal_square_and_a_later_one_also_reads_what_came_before() -> None:
    assert lay_out([chunk(0, 8)], slots=32).reads == [Causal(rows := of_rows(8), 0)]
    square, old = lay_out([chunk(8, 8)], slots=32).reads
    assert square == Causal(rows, 8)
    assert isinstance(old, Grid)
    assert (old.cells[0].slot, old.width, old.height) == (0, 8, 8)


def of_rows(count: int) -> Any:
    read = lay_out([chunk(0, count)], slots=count).reads[0]
    assert isinstance(read, Causal)
    return read.rows


def test_decoding_reads_its_tail_whole() -> None:
    (read,) = lay_out([chunk(8, 1)], slots=32).reads
    assert isinstance(read, Grid)
    assert read.width == 9


def test_a_window_bounds_what_is_read() -> None:
    (read,) = lay_out([chunk(20, 1)], slots=32, window=5).reads
    assert isinstance(read, Grid)
    assert (read.cells[0].slot, read.width) == (16, 5)
    (band,) = lay_out([chunk(20, 3)], slots=32, window=5).reads
    assert band == Band(of_rows(3), 16, 7, (0, 1, 2), (5, 6, 7))
    assert lay_out([chunk(0, 5)], slots=32, window=5).reads == [Causal(of_rows(5), 0)]


def test_no_grid_reads_beyond_the_pool() -> None:
    blocks = [chunk(19, 1), chunk(3, 1, slot=32)]
    assert [len(read.cells) for read in lay_out(blocks, slots=64).reads if isinstance(read, Grid)] == [2]
    short = lay_out(blocks, slots=40).reads
    assert [len(read.cells) for read in short if isinstance(read, Grid)] == [1, 1]


def test_short_ranges_anywhere_are_copied_into_one_read() -> None:
    starts = (0, 50, 70, 200, 310)
    runs = [KeyRun(slot, 10 + i, slot, slot - 3 * i) for i, slot in enumerate(starts)]
    block = QueryBlock(400, 385, (400,), (*runs, KeyRun(400, 1, 400, 385, 0)))
    assert len(lay_out([block], slots=500).reads) == 3
    (read,) = lay_out([block], slots=500, short=64).reads
    assert isinstance(read, Grid)
    assert (read.stride, read.width, len(read.cells)) == (None, 14, 6)
    assert len(lay_out([block], slots=500, short=11).reads) == 3


def test_long_and_short_readers_of_one_span_waste_little() -> None:
    blocks = [
        QueryBlock(0, 9000, tuple(range(9000 + 64 * i, 9064 + 64 * i)), (KeyRun(0, count, 0, 0),))
        for i, count in enumerate((10, 8000))
    ]
    reads = lay_out(blocks, slots=10_000).reads
    spent = sum(len(read.cells) * read.width * read.height for read in reads if isinstance(read, Grid))
    assert spent == 64 * (10 + 8000)


@settings(max_examples=60, deadline=None)
@given(random=st.randoms(use_true_random=False), short=st.sampled_from([0, 8, 1000]))
def test_every_row_reads_each_key_that_it_sees_once_and_waste_is_bounded(
    random_scene: Scenes, random: Random, short: int
) -> None:
    scene = random_scene(random, torch.float64)
    layout = of_scene(scene, short)
    read, wanted = Counter[tuple[int, int]](), Counter[tuple[int, int]]()
    for part in layout.reads:
        read.update(pairs(part))
    row = 0
    for block in scene.blocks():
        for j in range(block.count):
            for run in block.keys:
                stop = run.count if run.first is None else min(max(j - run.first + 1, 0), run.count)
                wanted.update((row + j, run.slot + i) for i in range(stop))
        row += block.count
    assert read == wanted
    for grid in (part for part in layout.reads if isinstance(part, Grid)):
        waste = sum(grid.width - cell.width for cell in grid.cells) * grid.height
        assert waste <= WASTE * (len(grid.cells) - 1)
        assert grid.stride is None or grid.cells[-1].slot + grid.width <= scene.slots


def pairs(read: Causal | Grid | Band) -> list[tuple[int, int]]:
    """(row, slot) of all that is seen."""
    if isinstance(read, Causal):
        return [(read.rows.row + j, read.slot + i) for j in range(read.rows.count) for i in range(j + 1)]
    if isinstance(read, Band):
        limits = zip(read.starts, read.stops, strict=True)
        return [(read.rows.row + j, read.slot + i) for j, (a, b) in enumerate(limits) for i in range(a, b)]
    return [
        (row, cell.slot + i)
        for cell in read.cells
        for rows, limit in zip(cell.rows, cell.limits, strict=True)
        for row in range(rows.row, rows.row + rows.count)
        for i in range(limit)
    ]

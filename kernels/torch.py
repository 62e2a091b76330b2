"""The portable kernel: planned reads of the pool by torch operations, merged (DESIGN.md §4, Kernels).

Slots that a grid covers but no row sees are multiplied by zero, so they must be finite: zero the pool when it is made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .base import AttentionShape
from .layout import Band, Causal, Cell, Grid, Layout, Rows, lay_out
from .merge import MergeTable
from .partial import Partial, best_partial
from .plan import QueryBlock
from .rope import rotate

COPIED = 16_384
"""Elements of a range's keys that are about as cheap to copy as to read in a call of their own."""


@dataclass(frozen=True, slots=True)
class Read:
    """One call: `batch` ranges of `width` slots from `slot` on, `stride` apart, each read by `height` queries.

    Where the ranges lie anywhere, `gathered` lists their slots, [batch * width].
    `queries` picks them from the table of rotated queries (None: all, in order).
    mask: [batch, 1, height * group, width].
    """

    slot: int
    stride: int
    batch: int
    width: int
    height: int
    queries: Tensor | None
    mask: Tensor | None = None
    gathered: Tensor | None = None
    causal: bool = False


@dataclass(frozen=True, slots=True)
class TorchPlan:
    """The step's reads as tensors. `turns` rotate each row in its own frame, `extra` (rows, turns) some rows again."""

    slots: Tensor
    turns: Tensor
    extra: tuple[Tensor, Tensor] | None
    reads: tuple[Read, ...]
    table: MergeTable

    @property
    def rows(self) -> int:
        return len(self.slots)

    @property
    def keys_read(self) -> int:
        return sum(read.batch * read.width for read in self.reads)


class TorchAttention:
    """Runs on any device that torch knows. `partial` forces how a range is attended to."""

    name = "torch"

    def __init__(self, shape: AttentionShape, *, partial: Partial | None = None) -> None:
        self.shape = shape
        self._partial = partial or best_partial(shape.device, shape.softcap)

    # ---- planning

    def plan(self, blocks: Sequence[QueryBlock], slots: int) -> TorchPlan:
        shape = self.shape
        short = COPIED // (shape.kv_heads * shape.head_dim)
        layout = lay_out(blocks, slots=slots, window=shape.window, short=short)
        rows = [
            row for read in layout.reads for part in _rows_of(read) for row in range(part.row, part.row + part.count)
        ]
        return TorchPlan(
            slots=self._indices(layout.slots),
            turns=shape.rope.turns(layout.angles, shape.dtype, shape.device),
            extra=self._extra(layout) if layout.extra_rows else None,
            reads=tuple(self._read(read, layout.rows + len(layout.extra_rows)) for read in layout.reads),
            table=MergeTable(rows, layout.rows, shape.device),
        )

    def _read(self, read: Causal | Grid | Band, table_size: int) -> Read:
        queries = [query for part in _rows_of(read) for query in range(part.query, part.query + part.count)]
        picked = None if queries == list(range(table_size)) else self._indices(queries)
        match read:
            case Causal(rows, slot):
                return Read(slot, 0, 1, rows.count, rows.count, picked, causal=True)
            case Band(rows, slot, width, starts, stops):
                return Read(slot, 0, 1, width, rows.count, picked, self._mask([[*starts]], [[*stops]], width))
            case Grid(cells, stride, width):
                limits = [
                    [limit for rows, limit in zip(cell.rows, cell.limits, strict=True) for _ in range(rows.count)]
                    for cell in cells
                ]
                full = all(limit == width for of_cell in limits for limit in of_cell)
                mask = None if full else self._mask(None, limits, width)
                gathered = self._gather(cells, width) if stride is None else None
                return Read(cells[0].slot, stride or 0, len(cells), width, read.height, picked, mask, gathered)

    def _mask(self, starts: list[list[int]] | None, stops: list[list[int]], width: int) -> Tensor:
        """Hides the keys outside [start, stop) of each row; rows are packed with their group's heads."""
        keys = torch.arange(width)
        hidden = keys >= torch.tensor(stops)[..., None]
        if starts is not None:
            hidden |= keys < torch.tensor(starts)[..., None]
        mask = torch.zeros(hidden.shape, dtype=torch.promote_types(self.shape.dtype, torch.float32))
        mask = mask.masked_fill_(hidden, -math.inf).repeat_interleave(self.shape.group, 1)
        return mask[:, None].to(self.shape.device)

    def _gather(self, cells: Sequence[Cell], width: int) -> Tensor:
        """All cells' slots; a cell that is too short repeats its last one, which the mask hides."""
        slots, widths = np.array([(cell.slot, cell.width) for cell in cells]).T[..., None]
        return self._indices((slots + np.minimum(np.arange(width), widths - 1)).ravel())

    def _extra(self, layout: Layout) -> tuple[Tensor, Tensor]:
        turns = self.shape.rope.turns(layout.extra_angles, self.shape.dtype, self.shape.device)
        return self._indices(layout.extra_rows), turns

    def _indices(self, values: Sequence[int] | np.ndarray[Any, Any]) -> Tensor:
        return torch.from_numpy(np.array(values, dtype=np.int64)).to(self.shape.device)

    # ---- attending

    def attend(self, plan: TorchPlan, qk: Tensor, v: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        heads = self.shape.heads
        rotated = rotate(qk, plan.turns)
        keys.index_copy_(1, plan.slots, rotated[:, heads:].transpose(0, 1))
        values.index_copy_(1, plan.slots, v.transpose(0, 1))
        queries = rotated[:, :heads]
        if plan.extra is not None:
            rows, turns = plan.extra
            queries = torch.cat((queries, rotate(qk[rows, :heads], turns)))
        states = [self._attend_to(read, queries, keys, values) for read in plan.reads]
        if not states:
            return qk.new_zeros(plan.rows, heads * self.shape.head_dim)
        merged = plan.table.merge([output for output, _ in states], [lse for _, lse in states])
        return merged.reshape(plan.rows, -1).to(qk.dtype)

    def _attend_to(self, read: Read, queries: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Returns output [states, heads, head_dim] and lse [states, heads]."""
        picked = queries if read.queries is None else queries[read.queries]
        if read.causal:
            return self._attend_causally(read, picked, keys, values)
        kv_heads, group, head_dim = self.shape.kv_heads, self.shape.group, self.shape.head_dim
        k, v = _grid_of(keys, read), _grid_of(values, read)
        if read.height == 1:
            output, lse = self._partial(
                picked.reshape(read.batch, kv_heads, group, head_dim), k, v, read.mask, False, self.shape.scale
            )
            return output.reshape(read.batch, -1, head_dim), lse.reshape(read.batch, -1)
        packed = picked.reshape(read.batch, read.height, kv_heads, group, head_dim).transpose(1, 2)
        output, lse = self._partial(packed.flatten(2, 3), k, v, read.mask, False, self.shape.scale)
        output = output.unflatten(2, (read.height, group)).transpose(1, 2)
        lse = lse.unflatten(2, (read.height, group)).transpose(1, 2)
        return output.reshape(read.batch * read.height, -1, head_dim), lse.reshape(read.batch * read.height, -1)

    def _attend_causally(self, read: Read, picked: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Heads of a group become the batch, so that `causal` counts rows alone."""
        stored = slice(read.slot, read.slot + read.width)
        shape = (self.shape.group, self.shape.kv_heads, read.width, self.shape.head_dim)
        q = picked.unflatten(1, (self.shape.kv_heads, self.shape.group)).permute(2, 1, 0, 3)
        k, v = keys[:, stored].expand(shape), values[:, stored].expand(shape)
        output, lse = self._partial(q, k, v, None, True, self.shape.scale)
        return output.permute(2, 1, 0, 3).flatten(1, 2), lse.permute(2, 1, 0).flatten(1, 2)


def _rows_of(read: Causal | Grid | Band) -> list[Rows]:
    return [rows for cell in read.cells for rows in cell.rows] if isinstance(read, Grid) else [read.rows]


def _grid_of(pool: Tensor, read: Read) -> Tensor:
    """[batch, kv_heads, width, head_dim]: a view of the pool, or a copy where the ranges lie anywhere."""
    if read.gathered is not None:
        copied: Tensor = pool.index_select(1, read.gathered).unflatten(1, (read.batch, read.width))
        return copied.transpose(0, 1)
    heads, slots, features = pool.stride()
    size = (read.batch, pool.shape[0], read.width, pool.shape[2])
    return pool.as_strided(
        size, (read.stride * slots, heads, slots, features), pool.storage_offset() + read.slot * slots
    )

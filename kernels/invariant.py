"""The batch-invariant kernel: each row on its own, over its keys in view order (DESIGN.md §4, law 6).

A row's result is a function of its query and of the keys and values that it sees: of no other row, nor of where they
are stored. All that is computed for several rows at once is exactly rounded element by element (a product, a sum), so
that it does not matter which vector instruction takes it. The price is a copy of the keys for each block, and a call
for each row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .base import AttentionShape
from .merge import merge
from .partial import best_partial
from .plan import KeyRun, QueryBlock

_TURNS_KEPT = 1 << 15


@dataclass(frozen=True, slots=True)
class Gather:
    """Keys of one frame offset that rows of one block see, in view order.

    `queries[j]` is the place of row j's rotated query. Row j sees `seen[j]`: the first so many, or those listed.
    """

    slots: Tensor
    row: int
    queries: range
    seen: tuple[int | Tensor, ...]


@dataclass(frozen=True, slots=True)
class InvariantPlan:
    """`turns` rotate the rows in their own frames, then some again (`extra_rows`) for keys of other offsets."""

    slots: Tensor
    extra_rows: Tensor
    turns: Tensor
    gathers: tuple[Gather, ...]

    @property
    def rows(self) -> int:
        return len(self.slots)

    @property
    def keys_read(self) -> int:
        return sum(len(gather.slots) for gather in self.gathers)


class InvariantAttention:
    """Bitwise the same for a row whatever else is in the step, in whatever chunks and pages."""

    name = "invariant"

    def __init__(self, shape: AttentionShape) -> None:
        self.shape = shape
        self._partial = best_partial(shape.device, shape.softcap)
        self._turn = lru_cache(_TURNS_KEPT)(self._turn_to)

    def plan(self, blocks: Sequence[QueryBlock], slots: int) -> InvariantPlan:
        rows = sum(block.count for block in blocks)
        angles = [block.rotation + row for block in blocks for row in range(block.count)]
        extra_rows: list[int] = []
        gathers: list[Gather] = []
        row = 0
        for block in blocks:
            for offset, runs in _by_offset(block.keys).items():
                first = row
                if offset != block.position - block.rotation:
                    first = rows + len(extra_rows)
                    extra_rows += range(row, row + block.count)
                    angles += range(block.position - offset, block.position - offset + block.count)
                gathers.append(self._gather(block, runs, row, range(first, first + block.count)))
            row += block.count
        return InvariantPlan(
            slots=self._indices([slot for block in blocks for slot in block.slots]),
            extra_rows=self._indices(extra_rows),
            turns=torch.cat([self._turn(angle) for angle in angles]) if angles else self._turn(0)[:0],
            gathers=tuple(gathers),
        )

    def attend(self, plan: InvariantPlan, qk: Tensor, v: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        heads, kv_heads = self.shape.heads, self.shape.kv_heads
        rotated = _rotate(qk, plan.turns[: plan.rows])
        keys.index_copy_(1, plan.slots, rotated[:, heads:].transpose(0, 1))
        values.index_copy_(1, plan.slots, v.transpose(0, 1))
        again = _rotate(qk[plan.extra_rows, :heads], plan.turns[plan.rows :])
        queries = torch.cat((rotated[:, :heads], again)).unflatten(1, (kv_heads, self.shape.group))
        states: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(plan.rows)]
        for gather in plan.gathers:
            k = keys.index_select(1, gather.slots).transpose(0, 1).contiguous()
            v_seen = values.index_select(1, gather.slots).transpose(0, 1).contiguous()
            for row, (query, seen) in enumerate(zip(gather.queries, gather.seen, strict=True), gather.row):
                if isinstance(seen, Tensor) or seen:
                    states[row].append(self._attend(queries[query], _part(k, seen), _part(v_seen, seen)))
        nothing = qk.new_zeros(0, heads * self.shape.head_dim)
        return torch.cat([nothing, *(self._merged(of_row, qk) for of_row in states)])

    def _attend(self, query: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """query: [kv_heads, group, head_dim]; k, v: [keys, kv_heads, head_dim], always laid out alike."""
        output, lse = self._partial(
            query[None].clone(), k.transpose(0, 1)[None], v.transpose(0, 1)[None], None, False, self.shape.scale
        )
        return output[0], lse[0]

    def _merged(self, states: Sequence[tuple[Tensor, Tensor]], qk: Tensor) -> Tensor:
        if not states:
            return qk.new_zeros(1, self.shape.heads * self.shape.head_dim)
        output = states[0][0]
        if len(states) > 1:
            output = merge(torch.stack([output for output, _ in states]), torch.stack([lse for _, lse in states]))
        return output.flatten()[None].to(qk.dtype)

    def _gather(self, block: QueryBlock, runs: Sequence[KeyRun], row: int, queries: range) -> Gather:
        slots = np.concatenate([np.arange(run.slot, run.slot + run.count) for run in runs])
        visible = np.stack([self._visible(block, runs, index) for index in range(block.count)])
        read = visible.any(0)
        seen = tuple(self._seen(of_row) for of_row in visible[:, read])
        return Gather(self._indices(slots[read]), row, queries, seen)

    def _visible(self, block: QueryBlock, runs: Sequence[KeyRun], row: int) -> NDArray[np.bool_]:
        """Which of the runs' keys a row of the block sees."""
        parts = []
        for run in runs:
            seen = np.ones(run.count, np.bool_) if run.first is None else run.first + np.arange(run.count) <= row
            if self.shape.window:
                seen &= block.position + row - run.position - np.arange(run.count) < self.shape.window
            parts.append(seen)
        return np.concatenate(parts)

    def _seen(self, visible: NDArray[np.bool_]) -> int | Tensor:
        count = int(visible.sum())
        return count if visible[:count].all() else self._indices(np.flatnonzero(visible).tolist())

    def _turn_to(self, angle: int) -> Tensor:
        """Computed one at a time, as numpy's cosine of many may depend on where in the array one stands."""
        return self.shape.rope.turns([angle], self.shape.dtype, self.shape.device)

    def _indices(self, values: Sequence[int] | NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(np.array(values, dtype=np.int64)).to(self.shape.device)


def _by_offset(runs: Sequence[KeyRun]) -> dict[int, list[KeyRun]]:
    found: dict[int, list[KeyRun]] = {}
    for run in runs:
        found.setdefault(run.offset, []).append(run)
    return found


def _part(stored: Tensor, seen: int | Tensor) -> Tensor:
    """[keys, kv_heads, head_dim], one after the other in memory."""
    return stored[:seen] if isinstance(seen, int) else stored.index_select(0, seen)


def _rotate(x: Tensor, turns: Tensor) -> Tensor:
    """As `rope.rotate`, but with each product and sum rounded on its own."""
    exact = x.float() if x.itemsize < 4 else x
    pairs = exact.unflatten(-1, (-1, 2))
    a, b, cosine, sine = pairs[..., 0], pairs[..., 1], turns.real, turns.imag
    return torch.stack((a * cosine - b * sine, a * sine + b * cosine), -1).flatten(-2).to(x.dtype)

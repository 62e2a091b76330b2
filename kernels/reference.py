"""The oracle kernel: dense attention in float64, block by block, with no grouping and no merging. Slow and plain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .base import AttentionShape
from .plan import KeyRun, QueryBlock
from .rope import rotate


@dataclass(frozen=True, slots=True)
class ReferencePlan:
    """The blocks as they came."""

    blocks: tuple[QueryBlock, ...]

    @property
    def rows(self) -> int:
        return sum(block.count for block in self.blocks)

    @property
    def keys_read(self) -> int:
        return sum(run.count for block in self.blocks for run in block.keys)


class ReferenceAttention:
    """Reads only what some row may see, so any other slot may hold anything, NaN included."""

    name = "reference"

    def __init__(self, shape: AttentionShape) -> None:
        self.shape = shape

    def plan(self, blocks: Sequence[QueryBlock], slots: int) -> ReferencePlan:
        return ReferencePlan(tuple(blocks))

    def attend(self, plan: ReferencePlan, qk: Tensor, v: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        q, k = qk.double().split((self.shape.heads, self.shape.kv_heads), 1)
        per_block = [block.count for block in plan.blocks]
        for block, new_k, new_v in zip(plan.blocks, k.split(per_block), v.split(per_block), strict=True):
            slots = torch.tensor(block.slots, dtype=torch.long, device=keys.device)
            keys[:, slots] = self._turned(new_k, block.rotation).transpose(0, 1).to(keys.dtype)
            values[:, slots] = new_v.transpose(0, 1)
        pairs = zip(plan.blocks, q.split(per_block), strict=True)
        seen = [self._attend_block(block, block_q, keys, values) for block, block_q in pairs]
        return torch.cat([qk.new_zeros(0, self.shape.heads * self.shape.head_dim), *(o.to(qk.dtype) for o in seen)])

    def _attend_block(self, block: QueryBlock, q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """q: [rows, heads, head_dim], not rotated."""
        scores, seen_values = [], []
        for run in block.keys:
            stored = slice(run.slot, run.slot + run.count)
            visible = self._visible(block, run)
            turned = self._turned(q, block.position - run.offset)
            score = torch.einsum("rhd,htd->hrt", turned, self._per_head(keys[:, stored].double())) * self.shape.scale
            if self.shape.softcap:
                score = self.shape.softcap * torch.tanh(score / self.shape.softcap)
            scores.append(score.masked_fill(~visible.to(score.device), -math.inf))
            seen_by_any = visible.any(0)[None, :, None].to(values.device)
            seen_values.append(self._per_head(values[:, stored].double().where(seen_by_any, 0.0)))
        if not scores:
            return q.new_zeros(len(q), q.shape[1] * q.shape[2])
        weights = torch.cat(scores, -1).softmax(-1).nan_to_num(0.0)  # a row that sees nothing: softmax gives NaN
        return torch.einsum("hrt,htd->rhd", weights, torch.cat(seen_values, 1)).flatten(1)

    def _visible(self, block: QueryBlock, run: KeyRun) -> Tensor:
        """[rows, keys]: whether row j sees key i."""
        j, i = torch.arange(block.count)[:, None], torch.arange(run.count)[None]
        visible = torch.ones(block.count, run.count, dtype=torch.bool) if run.first is None else run.first + i <= j
        if self.shape.window:
            visible = visible & (block.position + j - (run.position + i) < self.shape.window)
        return visible

    def _turned(self, x: Tensor, position: int) -> Tensor:
        positions = range(position, position + len(x))
        return rotate(x, self.shape.rope.turns(positions, torch.float64, x.device))

    def _per_head(self, x: Tensor) -> Tensor:
        """[kv_heads, keys, head_dim] to [heads, keys, head_dim]."""
        return x.repeat_interleave(self.shape.group, 0)

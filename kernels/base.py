"""Attention over views: what a kernel is told of a model, and what every kernel must do (DESIGN.md §4, Kernels).

A kernel is made once for a model. Each step it makes one plan on the host, which all layers then use. All kernels keep
the pool alike: one key and one value tensor a layer, each [kv_heads, slots, head_dim], keys rotated in their segment's
frame (`rope.rotate`), values as the model made them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from .plan import QueryBlock
from .rope import Rope


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionShape:
    """What a kernel must know of a model.

    `window` is the sliding window in view positions, 0 for none. `softcap` c makes a score s into c·tanh(s / c), 0 for
    none (Gemma 2, arXiv:2408.00118).
    """

    heads: int
    kv_heads: int
    head_dim: int
    rope: Rope
    dtype: torch.dtype
    device: torch.device
    window: int = 0
    softcap: float = 0.0

    @property
    def group(self) -> int:
        """Query heads that share one key head."""
        return self.heads // self.kv_heads

    @property
    def scale(self) -> float:
        """What scores are multiplied by."""
        return float(self.head_dim**-0.5)


class StepPlan(Protocol):
    """One step's plan, as its kernel made it; only that kernel reads more of it than this."""

    @property
    def rows(self) -> int:
        """Query rows: the new tokens of all blocks, in order."""
        ...

    @property
    def keys_read(self) -> int:
        """Slots whose keys a layer reads; one read twice counts twice."""
        ...


Plan = TypeVar("Plan", bound=StepPlan)


class Attention(Protocol[Plan]):
    """Attention of one model's shape. Row r of all tensors is the r-th new token, counted over the blocks in order."""

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> AttentionShape: ...

    def plan(self, blocks: Sequence[QueryBlock], slots: int) -> Plan:
        """Plan one step over a pool of `slots` slots."""
        ...

    def attend(self, plan: Plan, qk: Tensor, v: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Write one layer's new keys and values to the pool, then attend. All writes come before all reads.

        qk: [rows, heads + kv_heads, head_dim], queries first, not yet rotated; v: [rows, kv_heads, head_dim];
        keys, values: [kv_heads, slots, head_dim]. Returns [rows, heads * head_dim]; a row that sees nothing gets zeros.
        """
        ...

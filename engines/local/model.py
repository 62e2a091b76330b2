"""Models: what the step loop asks of one, whoever computes it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from ...kernels import Attention, AttentionShape, QueryBlock, StepPlan, attention
from .adapter import Adapted, Adapter


class ModelSizes(Protocol):
    """What is known of a model beside its weights."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def max_positions(self) -> int: ...
    @property
    def eos_tokens(self) -> tuple[int, ...]: ...
    @property
    def parameters(self) -> int:
        """Weights, about."""
        ...

    def kv_bytes_per_token(self, element_bytes: int = 4) -> int:
        """Pool bytes that one token takes, over all layers."""
        ...


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """One step of a whole model: the plan of each kind of attention, and which rows go through which adapter."""

    kinds: tuple[StepPlan, ...]
    adapted: Adapted

    @property
    def rows(self) -> int:
        return self.kinds[0].rows

    @property
    def keys_read(self) -> int:
        """Of the layer that reads most."""
        return max(kind.keys_read for kind in self.kinds)


class Model(Protocol):
    """Encodes new tokens against a pool of keys and values. It knows no threads: the plan says who sees what."""

    @property
    def config(self) -> ModelSizes: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def device(self) -> torch.device: ...

    def new_pool(self, slots: int) -> tuple[list[Tensor], list[Tensor]]:
        """Zeroed keys and values of every layer, each [kv_heads, slots, head_dim]."""
        ...

    def plan(self, blocks: Sequence[QueryBlock], slots: int, adapters: Sequence[Adapter | None] = ()) -> ModelPlan:
        """Plan one step over a pool of `slots` slots; `adapters`, if there are any, are those of the blocks."""
        ...

    def forward(
        self, ids: Tensor, plan: ModelPlan, keys: Sequence[Tensor], values: Sequence[Tensor], rows: Tensor | None = None
    ) -> Tensor:
        """Logits, float32 [rows, vocab], of the chosen rows (None: all). Writes the new tokens' K/V to the pool."""
        ...

    def adapter(self, directory: Path) -> Adapter:
        """Load a LoRA adapter for this model from a PEFT folder. Raises CheckpointError."""
        ...


@runtime_checkable
class StatefulModel(Model, Protocol):
    """A model that shows its hidden states, from which embeddings are made."""

    def hidden(self, ids: Tensor, plan: ModelPlan, keys: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
        """As `forward`, but gives the last hidden states, before the final norm: [rows, hidden_size]."""
        ...

    def normed(self, hidden: Tensor) -> Tensor:
        """Hidden states after the final norm."""
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits of hidden states before the final norm."""
        ...


class LayerAttention:
    """The attention of all layers of a model: one kernel for each kind of layer."""

    def __init__(self, shapes: Sequence[AttentionShape], kernel: str) -> None:
        """`shapes` has one for each layer. Raises UnknownNameError for an unknown kernel."""
        kinds = list(dict.fromkeys(shapes))
        self.shapes = tuple(shapes)
        self._kinds: list[Attention[Any]] = [attention(shape, kernel) for shape in kinds]
        self._kind_of = [kinds.index(shape) for shape in shapes]

    @property
    def dtype(self) -> torch.dtype:
        return self.shapes[0].dtype

    @property
    def device(self) -> torch.device:
        return self.shapes[0].device

    def new_pool(self, slots: int) -> tuple[list[Tensor], list[Tensor]]:
        """Zeroed keys and values of every layer, each [kv_heads, slots, head_dim]."""
        sizes = [(shape.kv_heads, slots, shape.head_dim) for shape in self.shapes]
        keys = [_zeros(size, self.dtype, self.device) for size in sizes]
        return keys, [_zeros(size, self.dtype, self.device) for size in sizes]

    def plan(self, blocks: Sequence[QueryBlock], slots: int, adapters: Sequence[Adapter | None]) -> ModelPlan:
        """Plan one step for all layers."""
        counts = [block.count for block in blocks]
        adapted = Adapted.of(adapters, counts, self.device) if any(adapters) else Adapted()
        return ModelPlan(tuple(kind.plan(blocks, slots) for kind in self._kinds), adapted)

    def attend(self, layer: int, plan: ModelPlan, qk: Tensor, v: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """As kernels.Attention.attend, for that layer."""
        kind = self._kind_of[layer]
        return self._kinds[kind].attend(plan.kinds[kind], qk, v, keys, values)


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros; on a CPU numpy's, for which the system finds memory only where it is written (torch writes all of it)."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    return torch.from_numpy(np.zeros(math.prod(shape) * dtype.itemsize, np.uint8)).view(dtype).view(shape)

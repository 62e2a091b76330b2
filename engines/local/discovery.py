"""Discovery: what a `transformers` model's layers ask of attention, found by watching two forward passes.

Rotary embedding is applied before attention is called, and it is the identity at position 0 (FACTS.md §11). So one pass
runs with positions and one with zeros, each layer of the second fed with what it got in the first; whatever pairing of
elements and frequencies turns the queries of the second into those of the first is the layer's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ...errors import CheckpointError
from ...kernels import AttentionShape, Rope
from ...kernels.rope import rotate
from .interface import Call, MaskFunction, handled_by

FAR = 1 << 24
"""Positions at which masks are looked at; far from where they begin, and not at a multiple of anything."""
PROBES = (FAR + 1, FAR + 12_347)
ROWS = 24
TOLERANCE = 1e-3
"""By which queries and keys may differ, relative to their size."""


@dataclass(frozen=True, slots=True)
class LayerKind:
    """One layer's attention. `order` puts the elements that turn together side by side; `factor` is for queries."""

    shape: AttentionShape
    order: Tensor
    factor: float

    def on(self, dtype: torch.dtype, device: torch.device) -> LayerKind:
        """The same computed in that type, on that device."""
        shape = replace(self.shape, dtype=dtype, device=device)
        return replace(self, shape=shape, order=self.order.to(device))


def discover(model: Any, run: Callable[[Tensor, Tensor], object], ids: Tensor, window: int) -> list[LayerKind]:
    """The kind of each layer; `run` does a forward pass of ids at positions. `window` is the model's in tokens.

    Raises CheckpointError, saying what a layer does that we can't.
    """
    positions = torch.linspace(0, min(window, 4096) - 1, len(ids), device=ids.device).long()
    watched = Watcher(window)
    with handled_by(watched):
        run(ids, positions)
    if not watched.calls:
        raise CheckpointError("its attention does not go through transformers' attention interface")
    still = Replayer(watched.outputs)
    with handled_by(still):
        run(ids, torch.zeros_like(positions))
    frequencies = _frequencies(model)
    pairs = zip(watched.calls, still.calls, strict=True)
    return [_kind(moved, unmoved, positions, frequencies, str(index)) for index, (moved, unmoved) in enumerate(pairs)]


@dataclass(slots=True)
class Watcher:
    """Attends densely, and keeps the calls and its answers."""

    window: int
    calls: list[Call] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)

    def mask(self, function: MaskFunction) -> Tensor:
        """The sliding window that a mask means, 0 for none."""
        found = {_window(function, place, self.window) for place in PROBES}
        if len(found) > 1:
            raise CheckpointError("its attention mask is neither causal nor a sliding window")
        return torch.tensor(found.pop())

    def attend(self, call: Call) -> Tensor:
        _refuse(call)
        self.calls.append(call)
        self.outputs.append(_dense(call))
        return self.outputs[-1]


@dataclass(slots=True)
class Replayer:
    """Gives the answers of an earlier pass, so that each layer gets what it got there, and keeps the calls."""

    outputs: Sequence[Tensor]
    calls: list[Call] = field(default_factory=list)

    def mask(self, function: MaskFunction) -> None:
        return None

    def attend(self, call: Call) -> Tensor:
        self.calls.append(call)
        return self.outputs[len(self.calls) - 1]


def _window(function: MaskFunction, place: int, most: int) -> int:
    """How many keys a query at this place sees, itself included; 0 if as many as the model can have."""
    keys = torch.arange(place - most, place + 2)
    nothing = torch.zeros_like(keys)
    seen = function(nothing, nothing, torch.full_like(keys, place), keys)
    seen = torch.as_tensor(seen).expand(len(keys))
    count = int(seen.sum())
    if seen[-1] or not seen[-1 - count : -1].all():
        raise CheckpointError("its attention mask is neither causal nor a sliding window")
    return count if count < most else 0


def _refuse(call: Call) -> None:
    if call.extras.get("s_aux") is not None:
        raise CheckpointError("its attention has sinks")
    if call.v.shape != call.k.shape:
        raise CheckpointError(
            f"its keys have {call.k.shape[-1]} elements and its values {call.v.shape[-1]} (latent attention)"
        )
    if call.q.shape[1] != call.k.shape[1] or call.k.shape[-1] % 2:
        raise CheckpointError(f"its attention has queries {list(call.q.shape)} and keys {list(call.k.shape)}")


def _dense(call: Call) -> Tensor:
    """Plain causal attention, [rows, heads, head_dim]."""
    group, rows = len(call.q) // len(call.k), call.q.shape[1]
    exact = torch.promote_types(call.q.dtype, torch.float32)
    k, v = (x.to(exact).repeat_interleave(group, 0) for x in (call.k, call.v))
    scores = call.q.to(exact) @ k.transpose(1, 2) * call.scaling
    if call.softcap:
        scores = call.softcap * torch.tanh(scores / call.softcap)
    behind = torch.arange(rows)[:, None] - torch.arange(rows)
    hidden = (behind < 0) | (behind >= _window_of(call)) if _window_of(call) else behind < 0
    weights = scores.masked_fill(hidden.to(scores.device), -math.inf).softmax(-1)
    return (weights @ v).transpose(0, 1).to(call.q.dtype).contiguous()


def _window_of(call: Call) -> int:
    return 0 if call.mask is None else int(call.mask)


def _frequencies(model: Any) -> list[tuple[float, ...]]:
    """Those of every rotary embedding in the model, and none at all."""
    found: dict[tuple[float, ...], None] = {(): None}
    for name, buffer in model.named_buffers():
        if name.endswith("inv_freq") and not name.endswith("original_inv_freq"):
            found[tuple(buffer.double().flatten().tolist())] = None
    return list(found)


def _kind(
    moved: Call, unmoved: Call, positions: Tensor, candidates: Sequence[tuple[float, ...]], layer: str
) -> LayerKind:
    """The kind of a layer, from its call with positions and its call without."""
    head_dim = moved.q.shape[-1]
    for frequencies in candidates:
        still = (0.0,) * (head_dim // 2 - len(frequencies))
        rope = Rope((*frequencies, *still))
        for order in _orders(2 * len(frequencies), head_dim):
            if all(_turns(getattr(unmoved, x), getattr(moved, x), rope, order, positions) for x in "qk"):
                return LayerKind(_shape(moved, rope), order, moved.scaling * head_dim**0.5)
    raise CheckpointError(f"rotary embedding of its attention layer {layer} is of no kind that can be rotated by views")


def _orders(rotated: int, head_dim: int) -> list[Tensor]:
    """Ways to put the elements of a pair side by side: halves as in Llama, or side by side as they are. Elements that
    are not rotated come last."""
    if rotated > head_dim:
        return []
    rest = torch.arange(rotated, head_dim)
    halves = torch.arange(rotated).view(2, -1).t().flatten()
    return [torch.cat((halves, rest)), torch.arange(head_dim)]


def _turns(unmoved: Tensor, moved: Tensor, rope: Rope, order: Tensor, positions: Tensor) -> bool:
    """Whether rotating [heads, rows, head_dim] so gives what the model gave."""
    turns = rope.turns(positions.tolist(), torch.float64, unmoved.device)
    ours = rotate(unmoved.double().transpose(0, 1)[..., order].contiguous(), turns)
    theirs = moved.double().transpose(0, 1)[..., order]
    return bool((ours - theirs).norm() <= TOLERANCE * theirs.norm())


def _shape(call: Call, rope: Rope) -> AttentionShape:
    return AttentionShape(
        heads=len(call.q),
        kv_heads=len(call.k),
        head_dim=call.q.shape[-1],
        rope=rope,
        dtype=call.q.dtype,
        device=call.q.device,
        window=_window_of(call),
        softcap=call.softcap,
    )

"""Attention over one range of keys, with the log-sum-exp that merging needs: torch's flash operation or matmul."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

Partial: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor | None, bool, float], tuple[Tensor, Tensor]]
"""(q, k, v, mask, causal, scale) to (output, lse).

q: [batch, heads, rows, head_dim]; k, v: [batch, heads, keys, head_dim], any strides; mask is added to scores
(-inf hides), [batch or 1, 1, rows, keys], and None if `causal`, where row j sees keys 0 to j.
output: [batch, heads, rows, head_dim]; lse: [batch, heads, rows], float32 (float64 for float64).
Masked keys and values must be finite, and each row must see a key: flash answers 0, not -inf, to a row that sees none.
"""


def matmul_partial(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float, *, softcap: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Works on any device and with capped scores; scores and output are float32 (or float64)."""
    exact = torch.promote_types(q.dtype, torch.float32)
    scores = (q @ k.transpose(-1, -2)).to(exact) * scale
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    if causal:
        mask = scores.new_full(scores.shape[-2:], -math.inf).triu_(1)
    if mask is not None:
        scores = scores + mask
    lse = scores.logsumexp(-1)
    weights = (scores - lse.unsqueeze(-1)).exp()
    return (weights.to(v.dtype) @ v).to(exact), lse


def flash_partial(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """CPU only; the output has q's type."""
    output, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q, k, v, 0.0, causal, attn_mask=mask, scale=scale
    )
    return output, lse


def best_partial(device: torch.device, softcap: float = 0.0) -> Partial:
    """Flash on the CPU, if this torch still has its (private) operation and it answers as we rely on; else matmul, and
    for capped scores, which flash doesn't know."""
    if softcap:
        return partial(matmul_partial, softcap=softcap)
    return flash_partial if device.type == "cpu" and _flash_works() else matmul_partial


def _flash_works() -> bool:
    """One small question with a known answer, because the operation is private and may change or go."""
    q, v = torch.zeros(1, 1, 2, 4), torch.arange(8.0).view(1, 1, 2, 4)
    mask = torch.tensor([[0.0, -math.inf], [0.0, 0.0]])[None, None]
    try:
        output, lse = flash_partial(q, q, v, mask, False, 0.5)
    except (AttributeError, RuntimeError, TypeError):
        return False
    expected = torch.stack((v[0, 0, 0], v[0, 0].mean(0)))
    return torch.allclose(output[0, 0], expected) and torch.allclose(lse[0, 0], torch.tensor([0.0, math.log(2)]))

"""Sampling: how the next token is chosen from its logits (law 6: nothing else in the batch has a part in it)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..base import Sampling


def choose(logits: Tensor, samplings: Sequence[Sampling], draws: Sequence[float]) -> list[int]:
    """One token for each row of logits, float [rows, vocab]; `draws` are uniform in [0, 1), unused by greedy rows."""
    tokens = logits.argmax(-1).tolist()
    for rows, pick in ((_plain(samplings), _pick_any), (_filtered(samplings), _pick_likely)):
        if rows:
            chosen = pick(logits[rows].float(), [samplings[row] for row in rows], _column(logits, draws, rows))
            for row, token in zip(rows, chosen.tolist(), strict=True):
                tokens[row] = token
    return [int(token) for token in tokens]


def _plain(samplings: Sequence[Sampling]) -> list[int]:
    return [row for row, sampling in enumerate(samplings) if sampling.temperature > 0 and not _filters(sampling)]


def _filtered(samplings: Sequence[Sampling]) -> list[int]:
    return [row for row, sampling in enumerate(samplings) if sampling.temperature > 0 and _filters(sampling)]


def _filters(sampling: Sampling) -> bool:
    return sampling.top_k > 0 or sampling.top_p < 1 or sampling.min_p > 0


def _pick_any(logits: Tensor, samplings: Sequence[Sampling], draws: Tensor) -> Tensor:
    return _draw(_probabilities(logits, samplings), draws)


def _pick_likely(logits: Tensor, samplings: Sequence[Sampling], draws: Tensor) -> Tensor:
    """top-k, then top-p of what is left, then min-p, each on the most likely first."""
    probabilities, order = _probabilities(logits, samplings).sort(stable=True, dim=-1, descending=True)
    size = logits.shape[-1]
    top_k = _setting(logits, [min(sampling.top_k or size, size) for sampling in samplings])
    probabilities = probabilities.masked_fill(torch.arange(size, device=logits.device) >= top_k, 0)
    before = probabilities.cumsum(-1) - probabilities
    top_p = _setting(logits, [sampling.top_p for sampling in samplings]) * probabilities.sum(-1, keepdim=True)
    min_p = _setting(logits, [sampling.min_p for sampling in samplings]) * probabilities[:, :1]
    keep = (before < top_p) & (probabilities >= min_p)
    keep[:, 0] = True
    return order.gather(-1, _draw(probabilities * keep, draws)[:, None])[:, 0]


def _probabilities(logits: Tensor, samplings: Sequence[Sampling]) -> Tensor:
    temperature = _setting(logits, [sampling.temperature for sampling in samplings])
    return (logits / temperature).softmax(-1).double()


def _draw(weights: Tensor, draws: Tensor) -> Tensor:
    """The first place at which the running sum of the weights exceeds the drawn share of it."""
    total = weights.cumsum(-1)
    place = torch.searchsorted(total, draws * total[:, -1:], right=True)[:, 0]
    last = weights.shape[-1] - 1 - (weights.flip(-1) > 0).int().argmax(-1)
    return torch.minimum(place, last)


def _setting(logits: Tensor, values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=logits.device)[:, None]


def _column(logits: Tensor, draws: Sequence[float], rows: Sequence[int]) -> Tensor:
    return torch.tensor([draws[row] for row in rows], dtype=torch.float64, device=logits.device)[:, None]

"""Sampling: how the next token is chosen from its logits (law 6: nothing else in the batch has a part in it)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..base import Sampling
from .grammar import Mask, forbid


class Adjustment:
    """What one generation changes in its logits before a token is chosen: penalties for tokens seen, and biases."""

    def __init__(self, sampling: Sampling, before: Sequence[int], vocabulary: int) -> None:
        self.repetition = sampling.repetition_penalty
        self.seen = torch.zeros(vocabulary, dtype=torch.bool)
        """[vocab]: which tokens the repetition penalty is for."""
        self.added = torch.zeros(vocabulary)
        """[vocab]: what is added to the logits: biases, less the presence penalty of tokens that were sampled."""
        self._presence = sampling.presence_penalty
        self._bias = sampling.logit_bias
        self.seen[list(before)] = True
        for token, bias in self._bias.items():
            self.added[token] = bias

    @classmethod
    def of(cls, sampling: Sampling, before: Sequence[int], vocabulary: int) -> Adjustment | None:
        """For a generation that goes on from `before`; None where it leaves the logits as they are."""
        plain = sampling.repetition_penalty == 1 and not sampling.presence_penalty and not sampling.logit_bias
        return None if plain else cls(sampling, before, vocabulary)

    def note(self, token: int) -> None:
        """A token was sampled."""
        self.seen[token] = True
        self.added[token] = self._bias.get(token, 0.0) - self._presence

    def move(self, device: torch.device) -> None:
        self.seen, self.added = self.seen.to(device), self.added.to(device)


@dataclass(frozen=True, slots=True)
class Row:
    """All that has a part in choosing one token: `draw` is uniform in [0, 1), `allowed` what the grammar allows."""

    sampling: Sampling
    draw: float
    adjustment: Adjustment | None = None
    allowed: Mask | None = None


@dataclass(frozen=True, slots=True)
class Chance:
    """The model's log-probability of a chosen token, and the likeliest tokens with theirs."""

    logprob: float
    best: tuple[tuple[int, float], ...]


def sample(logits: Tensor, rows: Sequence[Row]) -> tuple[list[int], dict[int, Chance]]:
    """A token for each row of logits, float [rows, vocab], and the chances of those that ask for log-probabilities.

    Changes `logits`.
    """
    samplings = [row.sampling for row in rows]
    asking = [index for index, sampling in enumerate(samplings) if sampling.logprobs]
    logprobs = logits[asking].log_softmax(-1) if asking else logits
    adjust(logits, [row.adjustment for row in rows])
    forbid(logits, [row.allowed for row in rows])
    tokens = choose(logits, samplings, [row.draw for row in rows])
    if not asking:
        return tokens, {}
    return tokens, _chances(logprobs, asking, samplings, tokens)


def adjust(logits: Tensor, adjustments: Sequence[Adjustment | None]) -> None:
    """Apply to each row of logits [rows, vocab] its penalties and biases: repetition first, then what is added."""
    rows = [row for row, adjustment in enumerate(adjustments) if adjustment is not None]
    if not rows:
        return
    mine = [adjustment for adjustment in adjustments if adjustment is not None]
    for adjustment in mine:
        adjustment.move(logits.device)
    repetition = _setting(logits, [adjustment.repetition for adjustment in mine])
    part = logits[rows]
    penalised = torch.where(part > 0, part / repetition, part * repetition)
    part = torch.where(torch.stack([adjustment.seen for adjustment in mine]), penalised, part)
    logits[rows] = part + torch.stack([adjustment.added for adjustment in mine])


def choose(logits: Tensor, samplings: Sequence[Sampling], draws: Sequence[float]) -> list[int]:
    """One token for each row of logits, float [rows, vocab]; `draws` are uniform in [0, 1), unused by greedy rows."""
    tokens = logits.argmax(-1).tolist()
    for rows, pick in ((_plain(samplings), _pick_any), (_filtered(samplings), _pick_likely)):
        if rows:
            chosen = pick(logits[rows].float(), [samplings[row] for row in rows], _column(logits, draws, rows))
            for row, token in zip(rows, chosen.tolist(), strict=True):
                tokens[row] = token
    return [int(token) for token in tokens]


def _chances(
    logprobs: Tensor, asking: Sequence[int], samplings: Sequence[Sampling], tokens: Sequence[int]
) -> dict[int, Chance]:
    """`logprobs` [asking, vocab] hold the rows `asking` only."""
    counts = [samplings[row].logprobs for row in asking]
    values, best = logprobs.topk(min(max(counts), logprobs.shape[-1]), dim=-1)
    chosen = logprobs.gather(-1, torch.tensor([[tokens[row]] for row in asking], device=logprobs.device))
    found = zip(asking, chosen[:, 0].tolist(), best.tolist(), values.tolist(), counts, strict=True)
    return {
        row: Chance(logprob, tuple(zip(ids[:count], of_ids[:count], strict=True)))
        for row, logprob, ids, of_ids, count in found
    }


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

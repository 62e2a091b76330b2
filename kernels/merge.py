"""Merging partial attention: many (output, log-sum-exp) states of one row into one, exactly (FACTS.md §11).

A state with lse = -inf is empty: it saw no key and counts for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def merge(outputs: Tensor, lses: Tensor) -> Tensor:
    """Merge along the first dimension, in float32 or better: outputs [states, ..., head_dim], lses [states, ...].

    A row whose states are all empty gets zeros.
    """
    exact = torch.promote_types(lses.dtype, torch.float32)
    weights = lses.to(exact).softmax(0).nan_to_num(0.0)  # of nothing but -inf, softmax makes NaN
    return (outputs.to(exact) * weights.unsqueeze(-1)).sum(0)


class MergeTable:
    """Which states belong to which row, as planned on the host.

    `rows[i]` is the row to which state i belongs. Rows may have any number of states, in any order; a row without
    states gets zeros. States must not be empty here: a plan that would make one leaves it out.
    """

    def __init__(self, rows: Sequence[int], count: int, device: torch.device) -> None:
        states: list[list[int]] = [[] for _ in range(count)]
        for state, row in enumerate(rows):
            states[row].append(state)
        self.depth = max(map(len, states), default=0)
        self.ragged = any(len(of_row) < self.depth for of_row in states)
        self.in_order = list(rows) == list(range(count)) * self.depth
        if self.ragged or not self.in_order:
            nothing = len(rows)
            table = [of_row + [nothing] * (self.depth - len(of_row)) for of_row in states]
            self._table = torch.tensor(table, dtype=torch.long, device=device).t().contiguous()

    def merge(self, outputs: Sequence[Tensor], lses: Sequence[Tensor]) -> Tensor:
        """Of several [states, heads, head_dim] with their lses [states, heads] make [rows, heads, head_dim]."""
        if self.depth == 1 and self.in_order:
            return outputs[0] if len(outputs) == 1 else torch.cat(tuple(outputs))
        output, lse = torch.cat(tuple(outputs)), torch.cat(tuple(lses))
        if self.ragged:
            output = torch.cat((output, output.new_zeros(1, *output.shape[1:])))
            lse = torch.cat((lse, lse.new_full((1, *lse.shape[1:]), -math.inf)))
        if self.in_order:
            output, lse = output.unflatten(0, (self.depth, -1)), lse.unflatten(0, (self.depth, -1))
        else:
            output, lse = output[self._table], lse[self._table]
        return output[0] if self.depth == 1 and not self.ragged else merge(output, lse)

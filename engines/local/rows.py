"""Rows in blocks of one height: what makes a matrix product's result the same for a row in any batch (DESIGN.md §4,
law 6, batch-invariant mode).

A product of n rows is computed by another routine for another n, which sums in another order. One height for all
blocks leaves one routine. Whether a row's place in the block matters to it is tried out, once, on the machine itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import torch
from torch import Tensor

RowFunction: TypeAlias = Callable[..., Tensor]
"""Tensors [rows, ...] to one of as many rows; no row has a part in another's."""

HEIGHTS = (8, 4, 2, 1)
"""Heights to try. Higher blocks are cheaper for a row of many, and dearer for one alone; with 1 there is one place."""


def in_blocks(height: int, function: RowFunction, *tensors: Tensor) -> Tensor:
    """What a function of rows gives, computed in blocks of exactly `height` rows; the last is filled up with zeros.

    tensors: [rows, ...]. Every block is a copy, so that its place in memory is the same, too.
    """
    count = len(tensors[0])
    if count == height:
        return function(*(tensor.clone(memory_format=torch.contiguous_format) for tensor in tensors))
    results = []
    for start in range(0, max(count, 1), height):
        blocks = [tensor.new_zeros(height, *tensor.shape[1:]) for tensor in tensors]
        for block, tensor in zip(blocks, tensors, strict=True):
            part = tensor[start : start + height]
            block[: len(part)] = part
        results.append(function(*blocks))
    return torch.cat(results)[:count]


def steady_height(trials: Iterable[tuple[RowFunction, tuple[Tensor, ...]]]) -> int:
    """The first height at which each function gives the same bits wherever in a block its row stands.

    Each trial is a function of rows and one row of each of its arguments, [1, ...].
    """
    kept = list(trials)
    return next(height for height in HEIGHTS if height == 1 or all(_steady(height, *trial) for trial in kept))


def _steady(height: int, function: RowFunction, row: tuple[Tensor, ...]) -> bool:
    found = function(*(tensor.expand(height, *tensor.shape[1:]).contiguous() for tensor in row))
    return bool((found == found[:1]).all())

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.kernels.merge import MergeTable, merge

CPU = torch.device("cpu")


def states(scores: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax attention over one part of the keys. scores: [..., keys], values: [keys, features]."""
    return scores.softmax(-1).nan_to_num(0) @ values, scores.logsumexp(-1)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40))
@settings(max_examples=50, deadline=None)
def test_any_cutting_of_the_keys_merges_to_the_whole(sizes: list[int]) -> None:
    generator = torch.Generator().manual_seed(len(sizes))
    keys = sum(sizes)
    scores = torch.randn(3, 2, keys, generator=generator, dtype=torch.float64) * 20
    values = torch.randn(keys, 8, generator=generator, dtype=torch.float64)
    parts = [states(s, v) for s, v in zip(scores.split(sizes, -1), values.split(sizes), strict=True)]
    merged = merge(torch.stack([output for output, _ in parts]), torch.stack([lse for _, lse in parts]))
    assert torch.allclose(merged, states(scores, values)[0], atol=1e-12)


def test_rows_without_any_state_are_zero() -> None:
    assert torch.equal(merge(torch.zeros(3, 2, 4), torch.full((3, 2), -math.inf)), torch.zeros(2, 4))


def test_a_broken_state_is_not_hidden() -> None:
    outputs, lses = torch.full((2, 1, 4), math.nan), torch.tensor([[math.nan], [0.0]])
    assert merge(outputs, lses).isnan().all()


def test_half_precision_states_are_merged_in_float32() -> None:
    outputs = torch.tensor([[1.0], [1.0 / 3]], dtype=torch.bfloat16)
    merged = merge(outputs, torch.zeros(2))
    assert merged.dtype == torch.float32
    assert merged.item() == (outputs[0].float() / 2 + outputs[1].float() / 2).item()


def test_states_may_be_strided() -> None:
    outputs, lses = torch.randn(4, 6, 5).transpose(0, 1), torch.randn(5, 6).t()[:, :4]
    assert torch.allclose(merge(outputs, lses), merge(outputs.contiguous(), lses.contiguous()), atol=1e-6)


@pytest.mark.parametrize(
    ("rows", "count"),
    [([0, 1, 2], 3), ([2, 0, 1], 3), ([0, 1, 0, 1], 2), ([1, 1, 0, 1], 2), ([0, 2, 2], 4), ([1] * 30 + [0], 2)],
)
def test_a_table_gives_each_row_its_states(rows: list[int], count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(len(rows), 3, 4, generator=generator)
    lses = torch.randn(len(rows), 3, generator=generator)
    cut = len(rows) // 2
    merged = MergeTable(rows, count, CPU).merge([outputs[:cut], outputs[cut:]], [lses[:cut], lses[cut:]])
    for row in range(count):
        mine = [i for i, owner in enumerate(rows) if owner == row]
        expected = merge(outputs[mine], lses[mine]) if mine else torch.zeros(3, 4)
        assert torch.allclose(merged[row], expected, atol=1e-6)

from __future__ import annotations

import pytest
import torch

from plait.errors import UnknownNameError
from plait.kernels import KERNELS, AttentionShape, Rope, attention

SHAPE = AttentionShape(
    heads=2, kv_heads=1, head_dim=4, rope=Rope((1.0, 0.1)), dtype=torch.float32, device=torch.device("cpu")
)


def test_kernels_are_chosen_by_device_or_by_name() -> None:
    assert attention(SHAPE).name == "torch"
    assert {name: attention(SHAPE, name).name for name in KERNELS} == {name: name for name in KERNELS}


def test_an_unknown_kernel_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="unknown kernel 'tpu'; known: auto, reference, torch"):
        attention(SHAPE, "tpu")

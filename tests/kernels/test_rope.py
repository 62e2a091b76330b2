from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plait.errors import InputError
from plait.kernels.rope import Rope, problems, rotate

YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
VARIANTS: list[dict[str, Any]] = [
    {"rope_type": "default", "rope_theta": 1e6},
    {"rope_type": "linear", "rope_theta": 1e4, "factor": 3.0},
    LLAMA3,
    YARN,
    {**YARN, "beta_fast": 16.0, "beta_slow": 2.0, "truncate": False},
    {**YARN, "mscale": 1.0, "mscale_all_dim": 0.7},
    {**YARN, "attention_factor": 1.3},
    {**YARN, "factor": 1.0},
    {**YARN, "original_max_position_embeddings": 4096, "rope_theta": 1e6},
]


@pytest.mark.parametrize("parameters", VARIANTS)
@pytest.mark.parametrize("head_dim", [16, 64, 128])
def test_frequencies_and_scale_are_those_of_transformers(parameters: dict[str, Any], head_dim: int) -> None:
    transformers = pytest.importorskip("transformers")
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = transformers.LlamaConfig(
        hidden_size=4 * head_dim, num_attention_heads=4, max_position_embeddings=16384, rope_parameters=dict(parameters)
    )
    theirs = LlamaRotaryEmbedding(config)
    ours = Rope.from_parameters(parameters, head_dim)
    assert torch.tensor(ours.frequencies).allclose(theirs.inv_freq, rtol=1e-5, atol=0)
    assert ours.scale == pytest.approx(theirs.attention_scaling)


def test_angles_stay_exact_far_out() -> None:
    turns = Rope((1.0, 0.3), scale=2.0).turns([0, 1_000_003], torch.float32, torch.device("cpu"))
    assert turns.dtype == torch.complex64
    assert turns[1, 0, 1].real.item() == pytest.approx(2 * math.cos(1_000_003 * 0.3), abs=1e-6)
    assert turns[0, 0].tolist() == [2, 2]


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
def test_scores_depend_on_the_difference_of_positions_alone(query: int, key: int) -> None:
    rope = Rope.from_parameters(YARN, 16)
    q, k = torch.randn(2, 1, 1, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def turned(x: torch.Tensor, position: int) -> torch.Tensor:
        return rotate(x, rope.turns([position], torch.float64, x.device))

    near = (turned(q, query - key) * turned(k, 0)).sum()
    assert torch.allclose((turned(q, query) * turned(k, key)).sum(), near, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_rotated_in_float32(dtype: torch.dtype) -> None:
    rope = Rope.from_parameters(VARIANTS[0], 16)
    x = torch.randn(3, 2, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    turns = rope.turns([5, 600, 70_000], dtype, x.device)
    assert torch.equal(rotate(x, turns), rotate(x.float(), turns).to(dtype))


def test_what_is_wrong_is_named() -> None:
    assert problems({"rope_type": "longrope"}) == ["rope type 'longrope' (supported: default, linear, llama3, yarn)"]
    assert problems({**YARN, "mscale": "big"}) == ["rope parameter 'mscale' is 'big', not a positive number"]
    with pytest.raises(InputError, match="rope parameter 'factor' is missing for rope type 'linear'"):
        Rope.from_parameters({"rope_type": "linear", "rope_theta": 1e4}, 16)

"""Law 3: for any graph of visibility the kernels equal dense attention in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.kernels import KERNELS as PLAIT_KERNELS
from plait.kernels import (
    Attention,
    AttentionShape,
    InvariantAttention,
    KeyRun,
    QueryBlock,
    ReferenceAttention,
    Rope,
    TorchAttention,
)
from plait.kernels.partial import flash_partial, matmul_partial

KERNELS: dict[str, Callable[[AttentionShape], Attention[Any]]] = {
    "reference": ReferenceAttention,
    "flash": lambda shape: TorchAttention(shape, partial=flash_partial),
    "matmul": lambda shape: TorchAttention(shape, partial=matmul_partial),
    "invariant": InvariantAttention,
}
Scenes = Callable[..., Any]
TOLERANCE = {torch.float64: 1e-10, torch.float32: 3e-5, torch.bfloat16: 6e-2, torch.float16: 8e-3}
kernels = pytest.mark.parametrize("kernel", KERNELS)


def run(kernel: str, scene: Any, *, fill: float = 0.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Output, and the pool's keys and values afterwards."""
    attention = KERNELS[kernel](scene.shape)
    keys, values = scene.pool(fill)
    plan = attention.plan(scene.blocks(), scene.slots)
    assert plan.rows == sum(thread.count for thread in scene.threads)
    return attention.attend(plan, *scene.inputs(), keys, values), keys, values


@kernels
@pytest.mark.parametrize("dtype", TOLERANCE)
@settings(max_examples=40, deadline=None)
@given(random=st.randoms(use_true_random=False), window=st.sampled_from([0, 0, 1, 4, 30]))
def test_any_visibility_equals_dense_attention(
    random_scene: Scenes, kernel: str, dtype: torch.dtype, random: Random, window: int
) -> None:
    scene = random_scene(random, dtype, window=window)
    output, _, _ = run(kernel, scene)
    assert output.dtype == dtype
    assert torch.allclose(output.double(), scene.expected(), atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


@kernels
@settings(max_examples=15, deadline=None)
@given(random=st.randoms(use_true_random=False))
def test_new_keys_are_written_rotated_and_nothing_else_changes(
    random_scene: Scenes, kernel: str, random: Random
) -> None:
    scene = random_scene(random, torch.float64)
    before, _ = scene.pool(7.0)
    _, keys, values = run(kernel, scene, fill=7.0)
    new = torch.zeros(scene.slots, dtype=torch.bool)
    for thread in scene.threads:
        slots = thread.tail.slots[thread.old :]
        new[slots] = True
        assert torch.allclose(keys[:, slots].transpose(0, 1), scene.rotated(thread.tail)[thread.old :], atol=1e-10)
        assert torch.equal(values[:, slots].transpose(0, 1), thread.tail.v[thread.old :])
    assert torch.equal(keys[:, ~new], before[:, ~new])


@settings(max_examples=15, deadline=None)
@given(random=st.randoms(use_true_random=False), window=st.sampled_from([0, 4]))
def test_the_reference_never_reads_an_unused_slot(random_scene: Scenes, random: Random, window: int) -> None:
    scene = random_scene(random, torch.float64, window=window)
    output, _, _ = run("reference", scene, fill=math.nan)
    assert torch.allclose(output, scene.expected(), atol=1e-10)


@pytest.mark.parametrize("kernel", ["flash", "matmul"])
@settings(max_examples=15, deadline=None)
@given(random=st.randoms(use_true_random=False))
def test_old_contents_of_unused_slots_do_not_matter(random_scene: Scenes, kernel: str, random: Random) -> None:
    scene = random_scene(random, torch.float64)
    assert torch.equal(run(kernel, scene, fill=0.0)[0], run(kernel, scene, fill=1e6)[0])


@pytest.mark.parametrize("kernel", PLAIT_KERNELS)
@settings(max_examples=15, deadline=None)
@given(random=st.randoms(use_true_random=False), window=st.sampled_from([0, 4]))
def test_capped_scores_equal_dense_attention(random_scene: Scenes, kernel: str, random: Random, window: int) -> None:
    """Gemma 2's soft cap, in every kernel, partial results merged."""
    scene = random_scene(random, torch.float64, window=window)
    scene.shape = replace(scene.shape, softcap=0.7)
    made = PLAIT_KERNELS[kernel](scene.shape)
    output = made.attend(made.plan(scene.blocks(), scene.slots), *scene.inputs(), *scene.pool(0.0))
    assert torch.allclose(output, scene.expected(), atol=1e-10)


def test_a_cap_matters_where_a_row_sees_more_than_one_key(random_scene: Scenes) -> None:
    for seed in range(10):
        scene = random_scene(Random(seed), torch.float64)
        plain = scene.expected()
        scene.shape = replace(scene.shape, softcap=0.7)
        if not torch.allclose(scene.expected(), plain, atol=1e-3):
            return
    pytest.fail("no scene in ten shows the cap: the oracle ignores it")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("window", [0, 9])
def test_any_visibility_equals_dense_attention_on_a_gpu(random_scene: Scenes, dtype: torch.dtype, window: int) -> None:
    for seed in range(20):
        scene = random_scene(Random(seed), dtype, window=window)
        attention = TorchAttention(replace(scene.shape, device=torch.device("cuda")))
        plan = attention.plan(scene.blocks(), scene.slots)
        output = attention.attend(plan, *(tensor.cuda() for tensor in (*scene.inputs(), *scene.pool(0.0))))
        assert torch.allclose(output.cpu().double(), scene.expected(), atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


@kernels
def test_a_wrong_offset_is_seen(decoding_scene: Scenes, kernel: str) -> None:
    """The negative control: were offsets ignored, the laws would hold of anything."""
    scene = decoding_scene(members=3, ragged=False, mutual=True)
    output, _, _ = run(kernel, scene)
    scene.threads[0].spans[1].position += 1
    assert (output - scene.expected())[0].abs().max() > 1e-3


@kernels
def test_a_step_without_rows_or_without_keys_is_answered(kernel: str) -> None:
    shape = AttentionShape(
        heads=2, kv_heads=1, head_dim=4, rope=Rope((1.0, 0.1)), dtype=torch.float32, device=torch.device("cpu")
    )
    attention = KERNELS[kernel](shape)
    keys, values = torch.zeros(2, 1, 8, 4)
    nothing = attention.plan([], 8)
    assert attention.attend(nothing, torch.zeros(0, 3, 4), torch.zeros(0, 1, 4), keys, values).shape == (0, 8)
    unseen = attention.plan([QueryBlock(0, 0, (3,), ()), QueryBlock(0, 0, (4,), (KeyRun(0, 0, 0, 0),))], 8)
    assert torch.equal(
        attention.attend(unseen, torch.ones(2, 3, 4), torch.ones(2, 1, 4), keys, values), torch.zeros(2, 8)
    )
    assert keys[0, 3].abs().sum() > 0


@kernels
@pytest.mark.parametrize("ragged", [False, True])
def test_threads_side_by_side_after_a_shared_prefix(decoding_scene: Scenes, kernel: str, ragged: bool) -> None:
    """The layout that decoding many forks has, up to the pool's last slot: a shared span and a grid of tails."""
    scene = decoding_scene(members=6, ragged=ragged, mutual=False)
    assert torch.allclose(run(kernel, scene)[0], scene.expected(), atol=1e-10)


@kernels
def test_a_team_sees_all_tails(decoding_scene: Scenes, kernel: str) -> None:
    scene = decoding_scene(members=4, ragged=True, mutual=True)
    assert torch.allclose(run(kernel, scene)[0], scene.expected(), atol=1e-10)

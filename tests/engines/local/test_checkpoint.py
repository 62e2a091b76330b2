from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from plait.engines.local.checkpoint import Checkpoint, device_for, dtype_for
from plait.engines.local.decoder import Decoder
from plait.errors import CheckpointError, InputError

Tiny = Callable[..., Path]
WEIGHTS = "model.safetensors"
SHARD = "model-00002-of-00003.safetensors"
INDEX = "model.safetensors.index.json"


def change_weights(directory: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    weights = load_file(directory / WEIGHTS)
    change(weights)
    save_file(weights, directory / WEIGHTS)


def test_shards_hold_the_same_model_as_one_file(tiny_checkpoint: Tiny) -> None:
    one, three = Checkpoint(tiny_checkpoint()), Checkpoint(tiny_checkpoint(shards=3))
    assert one.names == three.names
    name = "model.layers.1.mlp.down_proj.weight"
    assert torch.equal(one.tensor(name, (48, 80)), three.tensor(name, (48, 80)))


def test_a_loaded_model_does_not_change_with_its_file(tiny_checkpoint: Tiny) -> None:
    path = tiny_checkpoint() / WEIGHTS
    tensor = Checkpoint(path.parent).tensor("lm_head.weight", (97, 48))
    before = tensor.clone()
    path.write_bytes(b"\x01" * path.stat().st_size)
    assert torch.equal(tensor, before)


def test_a_wrong_shape_names_both(tiny_checkpoint: Tiny) -> None:
    with pytest.raises(
        CheckpointError, match=r"'model.norm.weight' has shape \[48\], but config.json calls for \[49\]"
    ):
        Checkpoint(tiny_checkpoint()).tensor("model.norm.weight", (49,))


def test_a_config_of_another_size_is_refused(tiny_checkpoint: Tiny) -> None:
    directory = tiny_checkpoint()
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, "num_key_value_heads": 3}))
    with pytest.raises(CheckpointError, match="k_proj"):
        Decoder.load(directory)


def test_a_missing_tensor_is_named(tiny_checkpoint: Tiny) -> None:
    directory = tiny_checkpoint()
    change_weights(directory, lambda weights: weights.pop("model.layers.2.self_attn.q_norm.weight"))
    with pytest.raises(CheckpointError, match=r"lacks tensor 'model.layers.2.self_attn.q_norm.weight'"):
        Decoder.load(directory)


def test_a_tensor_without_a_place_is_refused(tiny_checkpoint: Tiny) -> None:
    directory = tiny_checkpoint()
    change_weights(directory, lambda weights: weights.update({"model.layers.0.self_attn.q_proj.bias": torch.ones(96)}))
    with pytest.raises(CheckpointError, match=r"q_proj.bias', for which its config.json has no place"):
        Decoder.load(directory)


def test_tensors_of_old_exports_are_passed_over(tiny_checkpoint: Tiny) -> None:
    directory = tiny_checkpoint("llama")
    change_weights(
        directory, lambda weights: weights.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)})
    )
    Decoder.load(directory)


def test_quantised_weights_are_refused(tiny_checkpoint: Tiny) -> None:
    directory = tiny_checkpoint()
    change_weights(directory, lambda weights: weights.update({"model.norm.weight": torch.ones(48, dtype=torch.int8)}))
    with pytest.raises(CheckpointError, match=r"holds torch.int8"):
        Decoder.load(directory)


@pytest.mark.parametrize("keep", [0, 4, 100, 5_000, -1])
def test_a_truncated_file_is_refused(tiny_checkpoint: Tiny, keep: int) -> None:
    path = tiny_checkpoint() / WEIGHTS
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"model\.safetensors can't be read"):
        Decoder.load(path.parent)


def test_garbage_is_refused(tiny_checkpoint: Tiny) -> None:
    path = tiny_checkpoint() / WEIGHTS
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n" * 10)
    with pytest.raises(CheckpointError, match="can't be read"):
        Decoder.load(path.parent)


def test_no_weights_at_all_and_pickles_are_refused(tiny_checkpoint: Tiny) -> None:
    path = tiny_checkpoint() / WEIGHTS
    path.unlink()
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors"):
        Decoder.load(path.parent)
    (path.parent / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"only pytorch_model\.bin.*convert it"):
        Decoder.load(path.parent)


def test_a_missing_or_broken_shard_is_named(tiny_checkpoint: Tiny) -> None:
    directory = tiny_checkpoint(shards=3)
    whole = (directory / SHARD).read_bytes()
    (directory / SHARD).write_bytes(whole[:200])
    with pytest.raises(CheckpointError, match=f"{SHARD} can't be read"):
        Decoder.load(directory)
    (directory / SHARD).unlink()
    with pytest.raises(CheckpointError, match=f"{SHARD} is missing"):
        Decoder.load(directory)


def test_an_index_that_lies_is_refused(tiny_checkpoint: Tiny) -> None:
    directory = tiny_checkpoint(shards=3)
    index = json.loads((directory / INDEX).read_text())
    index["weight_map"]["model.norm.weight"] = "model-00001-of-00003.safetensors"
    index["weight_map"]["lm_head.weight"] = "model-00001-of-00003.safetensors"
    (directory / INDEX).write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="lacks tensor"):
        Decoder.load(directory)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"weight_map": 3}', '{"weight_map": {"a": 3}}'])
def test_a_broken_index_is_refused(tiny_checkpoint: Tiny, content: str) -> None:
    directory = tiny_checkpoint(shards=3)
    (directory / INDEX).write_text(content)
    with pytest.raises(CheckpointError, match=r"index\.json can't be read"):
        Decoder.load(directory)


def test_auto_computes_in_float32_on_a_cpu_and_as_stored_on_a_gpu() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert dtype_for("auto", "bfloat16", cpu) == torch.float32
    assert dtype_for("auto", "bfloat16", gpu) == torch.bfloat16
    assert dtype_for("float16", "bfloat16", cpu) == torch.float16
    with pytest.raises(InputError, match="unknown dtype 'int8'; known: auto, float32"):
        dtype_for("int8", "float32", cpu)


def test_a_device_that_is_not_here_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="device 'cuda' is not here"):
        device_for("cuda")
    with pytest.raises(InputError, match="unknown device 'abacus'; use 'cpu' or 'cuda'"):
        device_for("abacus")

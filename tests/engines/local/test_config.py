from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plait.engines.local.config import ModelConfig, problems
from plait.errors import CheckpointError

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
}


def read(directory: Path, config: object) -> ModelConfig:
    (directory / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return ModelConfig.from_directory(directory)


def test_what_a_config_leaves_out_is_what_transformers_assumes(tmp_path: Path) -> None:
    config = read(tmp_path, LLAMA)
    assert (config.kv_heads, config.head_dim, config.norm_eps) == (4, 16, 1e-6)
    assert not config.tied_embeddings
    assert config.rope.frequencies[1] == pytest.approx(10_000 ** (-2 / 16))
    assert (config.bos_token, config.eos_tokens) == (None, ())
    assert read(tmp_path, {**LLAMA, "model_type": "qwen3", "architectures": None}).head_dim == 128
    assert read(tmp_path, {**LLAMA, "model_type": "mistral", "architectures": None}).sliding_windows == (4096, 4096)


def test_both_styles_of_rope_settings_mean_the_same(tmp_path: Path) -> None:
    old = {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}}
    new = {"rope_parameters": {"rope_type": "linear", "rope_theta": 5e5, "factor": 2.0}}
    plain = {"rope_theta": 5e5, "rope_scaling": None}
    assert read(tmp_path, LLAMA | old).rope == read(tmp_path, LLAMA | new).rope
    assert read(tmp_path, LLAMA | old).rope != read(tmp_path, LLAMA | plain).rope


def test_sliding_windows_follow_the_family(tmp_path: Path) -> None:
    def windows(family: str, **config: Any) -> tuple[int, ...]:
        return read(tmp_path, {**LLAMA, "model_type": family, "architectures": None, **config}).sliding_windows

    mixed = ["full_attention", "sliding_attention"]
    assert windows("llama", sliding_window=8) == (0, 0)
    assert windows("mistral", sliding_window=8) == (8, 8)
    assert windows("mistral", sliding_window=None) == (0, 0)
    assert windows("qwen2", sliding_window=8) == (0, 0)
    assert windows("qwen2", sliding_window=8, use_sliding_window=True, max_window_layers=0) == (8, 8)
    assert windows("qwen2", sliding_window=8, use_sliding_window=True, max_window_layers=1) == (0, 8)
    assert windows("qwen2", sliding_window=8, use_sliding_window=True, max_window_layers=2) == (0, 0)
    assert windows("qwen3", sliding_window=8, use_sliding_window=True, layer_types=mixed) == (0, 8)
    assert windows("qwen3", sliding_window=None, layer_types=["full_attention"] * 2) == (0, 0)


def test_kv_bytes_count_keys_and_values_of_all_layers(tmp_path: Path) -> None:
    config = read(tmp_path, {**LLAMA, "num_key_value_heads": 2})
    assert config.kv_bytes_per_token(element_bytes=2) == 2 * 2 * 2 * 16 * 2


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_type": "gemma3"}, "model type 'gemma3'"),
        ({"model_type": None}, "model type 'None'"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "LlamaForSequenceClassification"),
        ({"quantization_config": {"quant_method": "gptq"}}, "gptq"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"num_key_value_heads": 3}, "4 heads over 3"),
        ({"hidden_size": 66}, "head_dim"),
        ({"head_dim": 15}, "head_dim 15"),
        ({"vocab_size": None}, "'vocab_size' is missing"),
        ({"num_hidden_layers": 0}, "'num_hidden_layers' is 0"),
        ({"num_attention_heads": "four"}, "'num_attention_heads' is 'four'"),
        ({"rms_norm_eps": "tiny"}, "rms_norm_eps"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "rope type 'dynamic'"),
        ({"rope_scaling": {"rope_type": "longrope", "factor": 2.0}}, "rope type 'longrope'"),
        ({"rope_scaling": {"rope_type": "linear"}}, "'factor' is missing"),
        ({"rope_scaling": {"rope_type": "linear", "factor": "two"}}, "'factor' is 'two'"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 2.0}}, "low_freq_factor"),
        ({"rope_scaling": "linear"}, "rope"),
        ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "full_attention"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
        ({"model_type": "qwen2", "layer_types": ["full_attention"]}, "'layer_types' names 1 layers"),
        ({"model_type": "qwen2", "layer_types": ["chunked_attention"] * 2}, "chunked_attention"),
    ],
)
def test_what_is_unsupported_is_refused_by_name(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    config = {**LLAMA, "architectures": None, **change}
    assert any(named in problem for problem in problems(config))
    with pytest.raises(CheckpointError, match="can't be used") as refused:
        read(tmp_path, config)
    assert named in str(refused.value)
    assert "Use a checkpoint of one of the families llama, mistral, qwen2, qwen3" in str(refused.value)


def test_all_problems_are_listed_at_once() -> None:
    assert len(problems({**LLAMA, "hidden_act": "gelu", "rope_scaling": {"type": "dynamic"}, "head_dim": 3})) == 3
    assert problems(LLAMA) == []


@pytest.mark.parametrize("content", ["", "{", "[]", "\udcff"])
def test_a_broken_config_is_a_checkpoint_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match=r"config\.json"):
        ModelConfig.from_directory(tmp_path)


def test_a_missing_folder_or_config_is_a_checkpoint_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        ModelConfig.from_directory(tmp_path)
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        ModelConfig.from_directory(tmp_path / "nowhere")


def test_a_written_checkpoint_is_read_back(tiny_checkpoint: Callable[..., Path]) -> None:
    config = ModelConfig.from_directory(tiny_checkpoint("qwen3", eos_token_id=[2, 3], dtype_name="x"))
    assert (config.family, config.qk_norm, config.qkv_bias) == ("qwen3", True, False)
    assert config.eos_tokens == (2, 3)

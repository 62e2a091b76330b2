"""Tiny random checkpoints in Hugging Face layout, written without transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
SIZES = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "sliding_window": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`tiny_checkpoint(family, shards=…, dtype=…, **config)`: a folder with config.json and random weights."""

    def make(
        family: str = "qwen3", *, shards: int = 1, dtype: torch.dtype = torch.float32, seed: int = 0, **config: Any
    ) -> Path:
        directory = tmp_path_factory.mktemp(family)
        settings = {"model_type": family, "architectures": [ARCHITECTURES[family]], **SIZES, **config}
        (directory / "config.json").write_text(json.dumps(settings))
        write_weights(directory, random_weights(settings, dtype, seed), shards)
        return directory

    return make


def random_weights(config: dict[str, Any], dtype: torch.dtype, seed: int) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    spread = {"norm": (1.0, 0.3), "bias": (0.0, 0.3), "proj": (0.0, 0.2), "embed": (0.0, 1.0), "lm_head": (0.0, 0.2)}

    def draw(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        mean, deviation = next(value for key, value in spread.items() if key in name.replace("proj.bias", "bias"))
        return (torch.randn(shape, generator=random) * deviation + mean).to(dtype)

    return {name: draw(name, shape) for name, shape in shapes(config).items()}


def shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    family, size, inner = config["model_type"], config["hidden_size"], config["intermediate_size"]
    head = config["head_dim"]
    heads, kv_heads = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    qkv_bias = family == "qwen2" or config.get("attention_bias", False)
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config["vocab_size"], size)}
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        for name, rows in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
            found[f"{at}.self_attn.{name}_proj.weight"] = (rows, size)
            if qkv_bias:
                found[f"{at}.self_attn.{name}_proj.bias"] = (rows,)
        found[f"{at}.self_attn.o_proj.weight"] = (size, heads)
        if config.get("attention_bias", False):
            found[f"{at}.self_attn.o_proj.bias"] = (size,)
        if family == "qwen3":
            found[f"{at}.self_attn.q_norm.weight"] = found[f"{at}.self_attn.k_norm.weight"] = (head,)
        for name, shape in (("gate", (inner, size)), ("up", (inner, size)), ("down", (size, inner))):
            found[f"{at}.mlp.{name}_proj.weight"] = shape
            if config.get("mlp_bias", False):
                found[f"{at}.mlp.{name}_proj.bias"] = shape[:1]
        found[f"{at}.input_layernorm.weight"] = found[f"{at}.post_attention_layernorm.weight"] = (size,)
    found["model.norm.weight"] = (size,)
    if not config["tie_word_embeddings"]:
        found["lm_head.weight"] = (config["vocab_size"], size)
    return found


def write_weights(directory: Path, weights: dict[str, torch.Tensor], shards: int) -> None:
    if shards == 1:
        save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
        return
    placed = {name: f"model-{i % shards + 1:05}-of-{shards:05}.safetensors" for i, name in enumerate(weights)}
    for file in sorted(set(placed.values())):
        part = {name: weights[name] for name in weights if placed[name] == file}
        save_file(part, directory / file, metadata={"format": "pt"})
    (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": placed}))

"""The model families that the decoder knows, and in what they differ: a table, not a class each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Biases = Literal["always", "never", "attention_bias", "mlp_bias"]
"""Whether projections have biases: a fixed answer, or the switch in config.json that tells."""

Window = Literal["never", "sliding_window", "use_sliding_window"]
"""Whether attention slides: never, wherever `sliding_window` is set, or only if `use_sliding_window` is true too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One family. The last two are what `transformers` takes where config.json is silent."""

    architecture: str
    qkv_bias: Biases = "never"
    output_bias: Biases = "never"
    mlp_bias: Biases = "never"
    qk_norm: bool = False
    window: Window = "never"
    default_head_dim: int | None = None
    default_window: int | None = None


FAMILIES: Mapping[str, Family] = {
    "llama": Family(
        architecture="LlamaForCausalLM",
        qkv_bias="attention_bias",
        output_bias="attention_bias",
        mlp_bias="mlp_bias",
    ),
    "mistral": Family(
        architecture="MistralForCausalLM",
        window="sliding_window",
        default_window=4096,
    ),
    "qwen2": Family(
        architecture="Qwen2ForCausalLM",
        qkv_bias="always",
        window="use_sliding_window",
        default_window=4096,
    ),
    "qwen3": Family(
        architecture="Qwen3ForCausalLM",
        qkv_bias="attention_bias",
        output_bias="attention_bias",
        qk_norm=True,
        window="use_sliding_window",
        default_head_dim=128,
        default_window=4096,
    ),
}


def has(bias: Biases, config: Mapping[str, Any]) -> bool:
    """Whether these projections have biases in the model of this config."""
    return bias == "always" if bias in ("always", "never") else bool(config.get(bias, False))

"""The model families that the decoder knows, and in what they differ: a table, not a class each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Biases = Literal["always", "never", "attention_bias", "mlp_bias"]
"""Whether projections have biases: a fixed answer, or the switch in config.json that tells."""

Window = Literal["never", "sliding_window", "use_sliding_window"]
"""Whether attention slides: never, wherever `sliding_window` is set, or only if `use_sliding_window` is true too."""


@dataclass(frozen=True, slots=True)
class Family:
    """One family. The last two are what `transformers` takes where config.json is silent."""

    architecture: str
    qkv_bias: Biases
    output_bias: Biases
    mlp_bias: Biases
    qk_norm: bool
    window: Window
    default_head_dim: int | None = None
    default_window: int | None = None


FAMILIES: Mapping[str, Family] = {
    "llama": Family("LlamaForCausalLM", "attention_bias", "attention_bias", "mlp_bias", False, "never"),
    "mistral": Family("MistralForCausalLM", "never", "never", "never", False, "sliding_window", default_window=4096),
    "qwen2": Family("Qwen2ForCausalLM", "always", "never", "never", False, "use_sliding_window", default_window=4096),
    "qwen3": Family(
        "Qwen3ForCausalLM",
        "attention_bias",
        "attention_bias",
        "never",
        True,
        "use_sliding_window",
        default_head_dim=128,
        default_window=4096,
    ),
}


def has(bias: Biases, config: Mapping[str, Any]) -> bool:
    """Whether these projections have biases in the model of this config."""
    return bias == "always" or bool(config.get(bias, False))

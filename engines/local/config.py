"""What config.json says of a model: the sizes and switches that the decoder needs, and what it can't do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import CheckpointError
from ...kernels import rope
from .families import FAMILIES, Family, has

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """A decoder's sizes and switches. `sliding_windows` has each layer's, 0 where its attention sees everything."""

    family: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    max_positions: int
    norm_eps: float
    rope: rope.Rope
    sliding_windows: tuple[int, ...]
    qk_norm: bool
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    tied_embeddings: bool
    stored_dtype: str
    bos_token: int | None
    eos_tokens: tuple[int, ...]

    @classmethod
    def from_directory(cls, directory: str | Path) -> ModelConfig:
        """Read `directory`/config.json. Raises CheckpointError, naming all that is missing or unsupported."""
        config = read_config(directory)
        if found := problems(config):
            listed = "; ".join(found)
            raise CheckpointError(
                f"checkpoint at {directory} can't be used: {listed}. Use a checkpoint of one of the families "
                f"{', '.join(FAMILIES)}, or try --engine transformers:{directory}, which is slower; "
                f"`plait models check {directory}` says whether it can run it"
            )
        return cls._from_sound(config)

    @classmethod
    def _from_sound(cls, config: Json) -> ModelConfig:
        family = FAMILIES[config["model_type"]]
        head_dim = _head_dim(config, family)
        return cls(
            family=config["model_type"],
            vocab_size=config["vocab_size"],
            hidden_size=config["hidden_size"],
            intermediate_size=config["intermediate_size"],
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            kv_heads=_kv_heads(config),
            head_dim=head_dim,
            max_positions=config["max_position_embeddings"],
            norm_eps=config.get("rms_norm_eps", 1e-6),
            rope=rope.Rope.from_parameters(_rope_parameters(config), head_dim),
            sliding_windows=_sliding_windows(config, family),
            qk_norm=family.qk_norm,
            qkv_bias=has(family.qkv_bias, config),
            output_bias=has(family.output_bias, config),
            mlp_bias=has(family.mlp_bias, config),
            tied_embeddings=config.get("tie_word_embeddings", False),
            stored_dtype=config.get("dtype") or config.get("torch_dtype") or "float32",
            bos_token=config.get("bos_token_id"),
            eos_tokens=_tokens(config.get("eos_token_id")),
        )

    @property
    def parameters(self) -> int:
        """Weights, biases and norms left out."""
        attention = 2 * self.hidden_size * self.head_dim * (self.heads + self.kv_heads)
        tables = self.vocab_size * self.hidden_size * (1 if self.tied_embeddings else 2)
        return tables + self.layers * (attention + 3 * self.hidden_size * self.intermediate_size)

    def kv_bytes_per_token(self, element_bytes: int = 4) -> int:
        """Pool bytes that one token takes, over all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * element_bytes


def read_config(directory: str | Path) -> Json:
    """config.json as it stands. Raises CheckpointError if it is missing or no JSON object."""
    path = Path(directory) / "config.json"
    if not Path(directory).is_dir():
        raise CheckpointError(f"no checkpoint at {directory}: give a folder in Hugging Face layout")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"checkpoint at {directory} has no config.json: give a folder in Hugging Face layout"
        ) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} can't be read: {error}. Fetch the checkpoint again") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} is no JSON object. Fetch the checkpoint again")
    return config


def problems(config: Json) -> list[str]:
    """All that keeps a model from being used, each in one clause; empty if nothing does."""
    kind = str(config.get("model_type"))
    if kind not in FAMILIES:
        return [f"model type '{kind}' (supported: {', '.join(FAMILIES)})"]
    sizes = _size_problems(config)
    return sizes or _feature_problems(config, FAMILIES[kind])


# ---- what is wrong

_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
)
_OPTIONAL_SIZES = ("num_key_value_heads", "head_dim", "sliding_window")


def _size_problems(config: Json) -> list[str]:
    found = [f"'{name}' is missing from config.json" for name in _SIZES if config.get(name) is None]
    given = [(name, config[name]) for name in _SIZES + _OPTIONAL_SIZES if config.get(name) is not None]
    found += [f"'{name}' is {value!r}, not a positive integer" for name, value in given if not _is_size(value)]
    eps = config.get("rms_norm_eps", 1e-6)
    if not isinstance(eps, float | int) or eps < 0:
        found.append(f"'rms_norm_eps' is {eps!r}, not a small positive number")
    first_window = config.get("max_window_layers", 0)
    if not isinstance(first_window, int):
        found.append(f"'max_window_layers' is {first_window!r}, not an integer")
    return found


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _feature_problems(config: Json, family: Family) -> list[str]:
    found = []
    architectures = config.get("architectures") or [family.architecture]
    if family.architecture not in architectures:
        found.append(f"architecture '{architectures[0]}' (supported: {family.architecture})")
    if quantised := config.get("quantization_config"):
        method = quantised.get("quant_method") if isinstance(quantised, dict) else quantised
        found.append(f"quantised weights ('{method}'; supported: float32, bfloat16, float16)")
    if config.get("hidden_act", "silu") not in ("silu", "swish"):
        found.append(f"activation '{config['hidden_act']}' (supported: silu)")
    if config["num_attention_heads"] % _kv_heads(config):
        found.append(f"{config['num_attention_heads']} heads over {_kv_heads(config)} key-value heads, not a multiple")
    if not config.get("head_dim") and config["hidden_size"] % config["num_attention_heads"]:
        found.append("no 'head_dim', and 'hidden_size' is no multiple of 'num_attention_heads'")
    if _head_dim(config, family) % 2:
        found.append(f"head_dim {_head_dim(config, family)} is odd, so pairs can't be rotated")
    return found + _rope_problems(config) + _window_problems(config, family)


def _rope_problems(config: Json) -> list[str]:
    given = _rope_settings(config)
    if not isinstance(given, dict):
        return [f"rope settings are {given!r}, not an object"]
    if nested := [name for name, value in given.items() if isinstance(value, dict)]:
        return [f"rope settings per layer type ('{nested[0]}'; supported: one for all layers)"]
    return rope.problems(_rope_parameters(config))


def _window_problems(config: Json, family: Family) -> list[str]:
    kinds = _layer_kinds(config, family)
    if unknown := set(kinds) - {"full_attention", "sliding_attention"}:
        return [f"layer type '{min(unknown)}' (supported: full_attention, sliding_attention)"]
    if len(kinds) != config["num_hidden_layers"]:
        return [f"'layer_types' names {len(kinds)} layers, 'num_hidden_layers' {config['num_hidden_layers']}"]
    return []


# ---- reading one setting


def _kv_heads(config: Json) -> int:
    return int(config.get("num_key_value_heads") or config["num_attention_heads"])


def _head_dim(config: Json, family: Family) -> int:
    divided = config["hidden_size"] // config["num_attention_heads"]
    return int(config.get("head_dim") or family.default_head_dim or divided)


def _rope_settings(config: Json) -> Any:
    return config.get("rope_parameters") or config.get("rope_scaling") or {}


def _rope_parameters(config: Json) -> Json:
    """The rope parameters in the style of `transformers` 5, from either style."""
    given = dict(_rope_settings(config))
    given["rope_type"] = given.get("rope_type") or given.pop("type", None) or "default"
    for name, default in (("rope_theta", 10_000.0), ("partial_rotary_factor", 1.0)):
        if given.get(name) is None:
            given[name] = config.get(name) or default
    original = config.get("original_max_position_embeddings") or given.get("original_max_position_embeddings")
    given["original_max_position_embeddings"] = original or config["max_position_embeddings"]
    if given["rope_type"] == "yarn" and given.get("factor") is None:
        given["factor"] = config["max_position_embeddings"] / given["original_max_position_embeddings"]
    return given


def _sliding_windows(config: Json, family: Family) -> tuple[int, ...]:
    window = int(config.get("sliding_window", family.default_window) or 0)
    return tuple(window if kind == "sliding_attention" else 0 for kind in _layer_kinds(config, family))


def _layer_kinds(config: Json, family: Family) -> list[str]:
    """The kind of attention that each layer has."""
    layers = config["num_hidden_layers"]
    if family.window == "never" or config.get("sliding_window", family.default_window) is None:
        return ["full_attention"] * layers
    if family.window == "sliding_window":
        return ["sliding_attention"] * layers
    if config.get("layer_types"):
        return list(config["layer_types"])
    if not config.get("use_sliding_window", False):
        return ["full_attention"] * layers
    first = config.get("max_window_layers", 28)
    return ["sliding_attention" if index >= first else "full_attention" for index in range(layers)]


def _tokens(value: int | list[int] | None) -> tuple[int, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, int) else tuple(value)

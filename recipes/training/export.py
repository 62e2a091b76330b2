"""Writes a checkpoint as the folder that ships: a Qwen3 model in Hugging Face layout, weights in bfloat16."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from . import formats
from . import tokenizer as tokens
from .model import LanguageModel, Shape
from .trainer import TOKENIZER, load_model

TEMPLATE = Path(__file__).parents[2] / "engines" / "local" / "embedded" / "chat_template.jinja"


def export(checkpoint: Path, folder: Path) -> None:
    """Write config, weights, tokenizer and chat template; the model card is written by hand."""
    model = load_model(checkpoint)
    tokenizer = Tokenizer.from_file(str(checkpoint.parent / TOKENIZER))
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: weight.to(torch.bfloat16).contiguous() for name, weight in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # safetensors lets only the owner read
    tokenizer.save(str(folder / TOKENIZER))
    _write_json(folder / "config.json", model_config(model, tokenizer))
    _write_json(folder / "tokenizer_config.json", tokenizer_config(model.shape))
    (folder / TEMPLATE.name).write_text(TEMPLATE.read_text())


def model_config(model: LanguageModel, tokenizer: Tokenizer) -> dict[str, Any]:
    """What `Qwen3ForCausalLM` reads."""
    shape = model.shape
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.width,
        "intermediate_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": shape.positions,
        "rms_norm_eps": shape.norm_epsilon,
        "rope_theta": shape.rope_theta,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "use_sliding_window": False,
        "tie_word_embeddings": True,
        "initializer_range": 0.02,
        "pad_token_id": tokenizer.token_to_id(tokens.PADDING),
        "eos_token_id": tokenizer.token_to_id(formats.END),
        "torch_dtype": "bfloat16",
    }


def tokenizer_config(shape: Shape) -> dict[str, Any]:
    """What `AutoTokenizer` reads."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": shape.positions,
        "pad_token": tokens.PADDING,
        "eos_token": formats.END,
        "clean_up_tokenization_spaces": False,
        "add_prefix_space": False,
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")

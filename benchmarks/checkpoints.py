"""The checkpoints that benchmarks run on: the embedded model, and a random one of a laptop's size."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

from plait.engines.local import LocalEngine

FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def checkpoints(folder: Path) -> Iterator[tuple[str, Path]]:
    """Both by name, each made in `folder` when it is its turn."""
    yield "embedded 1.6M", embedded_checkpoint(folder / "embedded")
    yield "random 97M", random_checkpoint(folder / "random")


def embedded_checkpoint(folder: Path) -> Path:
    """The embedded model without an end-of-sequence token, so that all threads are as long as asked."""
    shutil.copytree(LocalEngine.EMBEDDED, folder)
    _without(folder / "config.json", "eos_token_id")
    _without(folder / "tokenizer_config.json", "eos_token")
    return folder


def random_checkpoint(folder: Path) -> Path:
    """A random Qwen3-style model of about 100 million parameters, with the embedded model's tokenizer."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(LocalEngine.EMBEDDED)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=768,
        intermediate_size=2304,
        num_hidden_layers=14,
        num_attention_heads=12,
        num_key_value_heads=4,
        head_dim=64,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    for file in FILES:
        shutil.copy(LocalEngine.EMBEDDED / file, folder / file)
    _without(folder / "tokenizer_config.json", "eos_token")
    return folder


def _without(path: Path, key: str) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), key: None}))

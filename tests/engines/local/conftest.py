"""Tiny random checkpoints with tokenizers: byte-level BPE, and sentencepiece's style."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from plait.engines.local import LocalEngine

SPECIAL = ["<eos>", "<|im_start|>", "<|im_end|>"]
ADDED = ['","result":"', '{"thought":"']
TEXT = "the cat sat on the mat and said hello world to people; system user assistant thought tool use"
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([TEXT] * 20, trainer)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in ADDED])
    return tokenizer


def sentencepiece() -> Tokenizer:
    """As in Llama 2's tokenizer.json: a blank in front of every text, bytes for what is unknown, bos."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *map(chr, range(33, 127))]
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he"), ("a", "t"), ("▁", "c"), ("▁c", "at")]
    pieces += ["".join(pair) for pair in merges]
    vocabulary = {piece: token for token, piece in enumerate(pieces)}
    model = models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny models are fastest so, and other processes can't slow them down tenfold."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint(tiny_checkpoint: Callable[..., Path]) -> Path:
    """A Qwen3-style model of two layers with a byte-level tokenizer and a chat template."""
    return dressed(tiny_checkpoint("qwen3", num_hidden_layers=2, vocab_size=352, eos_token_id=0), byte_level())


@pytest.fixture(scope="session")
def llama_checkpoint(tiny_checkpoint: Callable[..., Path]) -> Path:
    """A Llama-style model with a sentencepiece-style tokenizer."""
    return dressed(tiny_checkpoint("llama", num_hidden_layers=2, vocab_size=368, eos_token_id=2), sentencepiece())


@pytest.fixture(scope="session")
def smallest_checkpoint(tiny_checkpoint: Callable[..., Path]) -> Path:
    """One layer: quick enough to run thousands of steps."""
    sizes = {"num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    made = tiny_checkpoint("qwen3", vocab_size=352, eos_token_id=0, num_key_value_heads=1, head_dim=8, **sizes)
    return dressed(made, byte_level())


def dressed(directory: Path, tokenizer: Tokenizer) -> Path:
    """With a tokenizer and a chat template."""
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    return directory


@pytest.fixture(scope="session")
def open_local() -> Callable[..., LocalEngine]:
    """`open_local(checkpoint, **options)`: an engine in float64, so that outputs compare as equal, which takes what the
    prefix cache has from a page on."""

    def make(path: Path, **options: object) -> LocalEngine:
        defaults = {"dtype": "float64", "kv_tokens": 8192, "device": "cpu", "prefix_least": 0}
        return LocalEngine.open(path, **{**defaults, **options})

    return make


@dataclass
class Dense:
    """A Qwen3 model in float64, written for the tests alone: one forward pass of tokens at any positions, under any
    mask. `run` gives logits [tokens, vocab], and for each layer keys (before they are rotated) and values, both
    [tokens, kv_heads, head_dim]."""

    config: dict[str, Any]
    weights: dict[str, torch.Tensor]

    @classmethod
    def load(cls, path: Path) -> Dense:
        weights = {name: tensor.double() for name, tensor in load_file(path / "model.safetensors").items()}
        return cls(json.loads((path / "config.json").read_text()), weights)

    def run(
        self, tokens: Sequence[int], positions: Sequence[int], sees: torch.Tensor
    ) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]:
        """`sees`: [tokens, tokens], bool; whether the row's token attends to the column's."""
        config, size = self.config, self.config["head_dim"]
        group = config["num_attention_heads"] // config["num_key_value_heads"]
        x, found = self.weights["model.embed_tokens.weight"][list(tokens)], []
        for layer in range(config["num_hidden_layers"]):
            at = f"model.layers.{layer}."
            y = self._norm(x, at + "input_layernorm")
            q, k, v = (self._linear(y, at + f"self_attn.{name}_proj").unflatten(-1, (-1, size)) for name in "qkv")
            q, k = self._norm(q, at + "self_attn.q_norm"), self._norm(k, at + "self_attn.k_norm")
            found.append((k, v))
            q, k = self.rotated(q, positions), self.rotated(k, positions)
            scores = torch.einsum("qhd,khd->hqk", q, k.repeat_interleave(group, 1)) / size**0.5
            weights = scores.masked_fill(~sees, -torch.inf).softmax(-1)
            y = torch.einsum("hqk,khd->qhd", weights, v.repeat_interleave(group, 1)).flatten(1)
            x = x + self._linear(y, at + "self_attn.o_proj")
            y = self._norm(x, at + "post_attention_layernorm")
            gate, up = self._linear(y, at + "mlp.gate_proj"), self._linear(y, at + "mlp.up_proj")
            x = x + self._linear(F.silu(gate) * up, at + "mlp.down_proj")
        return self._linear(self._norm(x, "model.norm"), "lm_head"), found

    def rotated(self, x: torch.Tensor, positions: Sequence[int]) -> torch.Tensor:
        """`x`: [tokens, heads, head_dim], rotated as at these positions."""
        half = self.config["head_dim"] // 2
        frequencies = self.config.get("rope_theta", 10000.0) ** (-torch.arange(half, dtype=torch.float64) / half)
        angles = (torch.tensor(list(positions), dtype=torch.float64)[:, None] * frequencies)[:, None]
        low, high = x[..., :half], x[..., half:]
        cos, sin = angles.cos(), angles.sin()
        return torch.cat((low * cos - high * sin, high * cos + low * sin), -1)

    def _linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ self.weights[name + ".weight"].T

    def _norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        mean = x.square().mean(-1, keepdim=True)
        return x / (mean + self.config["rms_norm_eps"]).sqrt() * self.weights[name + ".weight"]


@pytest.fixture(scope="session")
def dense() -> Callable[[Path], Dense]:
    """`dense(checkpoint)`: the oracle."""
    return Dense.load

"""Tiny random checkpoints with tokenizers: byte-level BPE, and sentencepiece's style."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
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
    """`open_local(checkpoint, **options)`: an engine in float64, so that outputs compare as equal."""

    def make(path: Path, **options: object) -> LocalEngine:
        return LocalEngine.open(path, **{"dtype": "float64", "kv_tokens": 8192, "device": "cpu", **options})

    return make

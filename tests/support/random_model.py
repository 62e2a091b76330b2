"""A random checkpoint that every engine can load: a small Llama with the embedded model's tokenizer."""

from __future__ import annotations

import shutil
from pathlib import Path

from plait.engines.local import LocalEngine


def random_model(directory: Path, *, seed: int = 0) -> Path:
    """Write one, of two layers with heads of 32, into the directory."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=752,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=1024,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(LocalEngine.EMBEDDED / name, directory / name)
    return directory


def random_adapter(directory: Path, *, seed: int = 0) -> Path:
    """Write a LoRA adapter for the embedded model, of random weights, into the directory."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(LocalEngine.EMBEDDED, dtype=torch.float32)
    config = LoraConfig(r=8, lora_alpha=32, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(model, config).save_pretrained(directory)
    return directory

"""How fast is the local engine? Decode tokens/s at batch 1, 8 and 32 beside `transformers` generate, in one run.

Both sides decode greedily in float32 on the same number of threads, from the same prompts; the tokens are compared
first. Neither stops at an end-of-sequence token, so that all threads are as long. Prefill is in neither rate: ours
generates from contexts that exist, and of `transformers` the time of a one-token run is taken off. The sides take
turns; the median of the rounds is printed, and their spread.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import anyio
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

from plait.engines.local import LocalEngine

BATCHES = (1, 8, 32)
ROUNDS = 3
NEW_TOKENS = 64
PROMPT = "<|hybrid|>Which has more people, town {} or village {} plus village {}?<|a|>"


@dataclass(frozen=True, slots=True)
class Row:
    """Tokens/s of both sides at one batch size, median and spread (greatest - least); `equal` tokens as a share."""

    model: str
    parameters: int
    threads: int
    batch: int
    equal: float
    plait: float
    plait_spread: float
    transformers: float
    transformers_spread: float


def main(*, as_json: bool = False) -> None:
    """Print the table, or the same as data."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, make, threads in (("embedded", embedded_checkpoint, 1), ("random 100M", random_checkpoint, 2)):
            path = make(Path(folder) / name.replace(" ", "-"))
            rows += anyio.run(compare, name, path, threads)
    if as_json:
        print(json.dumps({"new_tokens": NEW_TOKENS, "rounds": ROUNDS, "rows": [asdict(row) for row in rows]}))
        return
    print("model        params   threads  batch  equal  plait tok/s  (spread)  transformers tok/s  (spread)  ratio")
    for row in rows:
        print(
            f"{row.model:12} {row.parameters / 1e6:5.1f}M  {row.threads:7}  {row.batch:5}  {row.equal:5.1%}"
            f"  {row.plait:11.1f}  {row.plait_spread:8.1f}  {row.transformers:18.1f}  {row.transformers_spread:8.1f}"
            f"  {row.plait / row.transformers:5.2f}"
        )


def embedded_checkpoint(folder: Path) -> Path:
    """The embedded model without an end-of-sequence token."""
    shutil.copytree(LocalEngine.EMBEDDED, folder)
    _without(folder / "config.json", "eos_token_id")
    _without(folder / "tokenizer_config.json", "eos_token")
    return folder


def _without(path: Path, key: str) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), key: None}))


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
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(LocalEngine.EMBEDDED / file, folder / file)
    _without(folder / "tokenizer_config.json", "eos_token")
    return folder


async def compare(name: str, path: Path, threads: int) -> list[Row]:
    """Both sides at every batch size, on one checkpoint."""
    torch.set_num_threads(threads)
    tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    rows = []
    async with LocalEngine.open(path, dtype="float32", threads=threads) as engine:
        for batch in BATCHES:
            prompts = [PROMPT.format(index, index + 1, index * 3) for index in range(batch)]
            ours, theirs = await decode_ours(engine, prompts), decode_theirs(model, tokenizer, prompts, NEW_TOKENS)
            equal = [a == b for mine, other in zip(ours, theirs, strict=True) for a, b in zip(mine, other, strict=True)]
            our_rates, their_rates = [], []
            for _ in range(ROUNDS):
                our_rates.append(await rate_ours(engine, prompts))
                their_rates.append(rate_theirs(model, tokenizer, prompts))
            rows.append(
                Row(
                    name,
                    parameters,
                    threads,
                    batch,
                    sum(equal) / len(equal),
                    median(our_rates),
                    max(our_rates) - min(our_rates),
                    median(their_rates),
                    max(their_rates) - min(their_rates),
                )
            )
    return rows


async def decode_ours(engine: LocalEngine, prompts: list[str]) -> list[list[int]]:
    """The tokens that plait generates after each prompt."""
    contexts = [await engine.start(prompt) for prompt in prompts]
    return await generate(contexts)


async def generate(contexts: list[Any]) -> list[list[int]]:
    """Continue all contexts at once."""
    found: list[list[int]] = [[] for _ in contexts]

    async def one(index: int) -> None:
        found[index] = list((await contexts[index].generate(max_tokens=NEW_TOKENS)).tokens)

    async with anyio.create_task_group() as group:
        for index in range(len(contexts)):
            group.start_soon(one, index)
    return found


async def rate_ours(engine: LocalEngine, prompts: list[str]) -> float:
    contexts = [await engine.start(prompt) for prompt in prompts]
    start = perf_counter()
    found = await generate(contexts)
    return sum(map(len, found)) / (perf_counter() - start)


def decode_theirs(model: Any, tokenizer: Any, prompts: list[str], tokens: int) -> list[list[int]]:
    """The tokens that `transformers` generates after each prompt."""
    inputs = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
    with torch.inference_mode():
        out = model.generate(**inputs, do_sample=False, max_new_tokens=tokens, eos_token_id=None, pad_token_id=0)
    found: list[list[int]] = out[:, inputs["input_ids"].shape[1] :].tolist()
    return found


def rate_theirs(model: Any, tokenizer: Any, prompts: list[str]) -> float:
    def seconds(tokens: int) -> float:
        start = perf_counter()
        decode_theirs(model, tokenizer, prompts, tokens)
        return perf_counter() - start

    return len(prompts) * (NEW_TOKENS - 1) / (seconds(NEW_TOKENS) - seconds(1))

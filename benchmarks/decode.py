"""How fast is the local engine? Decode tokens/s at batch 1, 8 and 32 beside `transformers` generate, in one run.

Both sides decode greedily in float32 on the same number of threads, from the same prompts; the tokens are compared
first. Neither stops at an end-of-sequence token, so that all threads are as long. Prefill is in neither rate: ours
generates from contexts that exist, and of `transformers` the time of a one-token run is taken off. The sides take
turns; the median of the rounds is printed, and their spread.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any

import anyio
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from plait.benchmarks.checkpoints import checkpoints
from plait.benchmarks.table import Cell, Table, spread
from plait.engines.local import LocalEngine

BATCHES = (1, 8, 32)
ROUNDS = 3
NEW_TOKENS = 64
PROMPT = "<|hybrid|>Which has more people, town {} or village {} plus village {}?<|a|>"


COLUMNS = (
    "model",
    "threads",
    "batch",
    "equal tokens",
    "plait tok/s",
    "± spread",
    "transformers tok/s",
    "± spread of it",
    "ratio",
)


def measure(folder: Path) -> Table:
    """Both sides on both checkpoints, which are made in `folder`."""
    rows: list[tuple[Cell, ...]] = []
    for (name, path), threads in zip(checkpoints(folder), (1, 2), strict=True):
        rows += anyio.run(compare, name, path, threads)
    question = f"tokens/s of greedy decoding in float32, {NEW_TOKENS} new tokens, median of {ROUNDS} rounds"
    return Table("decode", question, COLUMNS, tuple(rows))


async def compare(name: str, path: Path, threads: int) -> list[tuple[Cell, ...]]:
    """Both sides at every batch size, on one checkpoint."""
    torch.set_num_threads(threads)
    tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    rows: list[tuple[Cell, ...]] = []
    async with LocalEngine.open(path, dtype="float32", threads=threads) as engine:
        for batch in BATCHES:
            prompts = [PROMPT.format(index, index + 1, index * 3) for index in range(batch)]
            ours, theirs = await decode_ours(engine, prompts), decode_theirs(model, tokenizer, prompts, NEW_TOKENS)
            equal = [a == b for mine, other in zip(ours, theirs, strict=True) for a, b in zip(mine, other, strict=True)]
            our_rates, their_rates = [], []
            for _ in range(ROUNDS):
                our_rates.append(await rate_ours(engine, prompts))
                their_rates.append(rate_theirs(model, tokenizer, prompts))
            mine, other = spread(our_rates), spread(their_rates)
            rows.append((name, threads, batch, f"{sum(equal) / len(equal):.1%}", *mine, *other, mine[0] / other[0]))
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

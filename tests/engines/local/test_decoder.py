"""The decoder against transformers, and law 2: however a sequence is cut, its logits are those of the uncut one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.engines.local.decoder import Decoder
from plait.kernels import KeyRun, QueryBlock

Tiny = Callable[..., Path]
IDS = Random(0).choices(range(97), k=70)
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e4,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 16.0, "original_max_position_embeddings": 32}

CHECKPOINTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama, all heads own keys": ("llama", {"num_key_value_heads": 6}),
    "llama, one key head": ("llama", {"num_key_value_heads": 1}),
    "llama, biases, tied": ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "llama, linear rope": ("llama", {"rope_theta": 3e4, "rope_scaling": {"type": "linear", "factor": 3.0}}),
    "llama, llama3 rope": ("llama", {"rope_parameters": LLAMA3}),
    "llama, yarn": ("llama", {"rope_parameters": {**YARN, "mscale": 1.0, "mscale_all_dim": 0.5}}),
    "llama, head size not divided": ("llama", {"head_dim": 20}),
    "mistral": ("mistral", {}),
    "mistral, sliding window": ("mistral", {"sliding_window": 9}),
    "qwen2": ("qwen2", {}),
    "qwen2, sliding window, tied": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 0, "tie_word_embeddings": True},
    ),
    "qwen2, sliding window from the second layer on": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1},
    ),
    "qwen2, yarn": ("qwen2", {"rope_theta": 1e5, "rope_scaling": {k: YARN[k] for k in YARN if k != "rope_theta"}}),
    "qwen3": ("qwen3", {}),
    "qwen3, window in the middle layer only": (
        "qwen3",
        {
            "use_sliding_window": True,
            "sliding_window": 7,
            "layer_types": ["full_attention", "sliding_attention", "full_attention"],
        },
    ),
    "qwen3, linear rope": ("qwen3", {"rope_scaling": {"rope_type": "linear", "factor": 2.5}}),
    "mistral, llama3 rope, one key head": ("mistral", {"rope_parameters": LLAMA3, "num_key_value_heads": 1}),
    "qwen3, biases, tied, yarn": (
        "qwen3",
        {"attention_bias": True, "tie_word_embeddings": True, "rope_parameters": YARN},
    ),
}


def theirs(directory: Path, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=dtype).eval()
    with torch.inference_mode():
        logits: torch.Tensor = model(torch.tensor([IDS])).logits[0]
    return logits


@dataclass
class Sequence:
    """Encodes one token sequence into a pool, in pieces and frames of the test's choosing."""

    decoder: Decoder
    slots: int = 512
    done: int = 0
    runs: list[KeyRun] = field(default_factory=list)
    wrong: int = 0

    def __post_init__(self) -> None:
        self.keys, self.values = self.decoder.new_pool(self.slots)

    def encode(self, ids: list[int], slots: list[int], origin: int) -> torch.Tensor:
        """The next tokens, into these slots, rotated in a frame where token 0 stands at `origin`."""
        before = [KeyRun(r.slot, r.count, r.rotation, r.position + self.wrong) for r in self.runs]
        own = [KeyRun(slot, 1, origin + self.done + i, self.done + i, i) for i, slot in enumerate(slots)]
        block = QueryBlock(origin + self.done, self.done, tuple(slots), tuple(joined(before) + joined(own)))
        plan = self.decoder.plan([block], self.slots)
        tokens = torch.tensor(ids, device=self.decoder.device)
        logits = self.decoder.forward(tokens, plan, self.keys, self.values)
        self.runs += [KeyRun(run.slot, 1, run.rotation, run.position) for run in own]
        self.done += len(ids)
        return logits


def joined(runs: list[KeyRun]) -> list[KeyRun]:
    """One-token runs put together where slots, frames and positions go on."""
    found: list[KeyRun] = []
    for run in runs:
        last = found[-1] if found else None
        if last and last.slot + last.count == run.slot and last.offset == run.offset:
            found[-1] = KeyRun(last.slot, last.count + run.count, last.rotation, last.position, last.first)
        else:
            found.append(run)
    return found


def whole(decoder: Decoder) -> torch.Tensor:
    return Sequence(decoder).encode(IDS, list(range(len(IDS))), 0)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_logits_are_those_of_transformers(tiny_checkpoint: Tiny, name: str) -> None:
    family, config = CHECKPOINTS[name]
    directory = tiny_checkpoint(family, **config)
    reference = theirs(directory)
    assert reference.std() > 0.5
    for kernel in ("torch", "reference"):
        assert (whole(Decoder.load(directory, kernel=kernel)) - reference).abs().max() < 1e-4


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_half_precision_errs_no_more_than_transformers_does(tiny_checkpoint: Tiny, family: str, dtype: str) -> None:
    """Root mean square error against float32; both compute in half precision from the same stored weights."""
    stored = getattr(torch, dtype)
    directory = tiny_checkpoint(family, dtype=stored, hidden_size=96, intermediate_size=160, num_hidden_layers=4)
    exact = theirs(directory)
    allowed = (theirs(directory, stored).float() - exact).square().mean().sqrt()
    error = (whole(Decoder.load(directory, dtype=dtype)) - exact).square().mean().sqrt()
    assert error <= 1.05 * allowed


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_half_precision_chooses_the_tokens_that_float32_does(tiny_checkpoint: Tiny, family: str, dtype: str) -> None:
    """But where the best two are closer than rounding, which random weights make often."""
    directory = tiny_checkpoint(family, dtype=getattr(torch, dtype), sliding_window=24)
    exact, ours = theirs(directory), whole(Decoder.load(directory, dtype=dtype))
    best = exact.topk(2).values
    rounding = 3 * (ours - exact).square().mean().sqrt()
    clear = best[:, 0] - best[:, 1] > rounding
    assert clear.float().mean() > 0.5
    assert torch.equal(ours.argmax(-1)[clear], exact.argmax(-1)[clear])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_gpu_gives_the_logits_of_the_cpu(tiny_checkpoint: Tiny, dtype: str) -> None:
    directory = tiny_checkpoint()
    expected, limit = whole(Decoder.load(directory)), {"float32": 1e-3}.get(dtype, 0.5)
    assert (whole(Decoder.load(directory, dtype=dtype, device="cuda")).cpu() - expected).abs().max() < limit


def test_sharded_and_single_checkpoints_give_the_same_logits(tiny_checkpoint: Tiny) -> None:
    assert torch.equal(whole(Decoder.load(tiny_checkpoint())), whole(Decoder.load(tiny_checkpoint(shards=4))))


@pytest.mark.parametrize("kernel", ["torch", "reference"])
@pytest.mark.parametrize(
    "name",
    ["llama, yarn", "qwen3, biases, tied, yarn", "mistral, sliding window", "qwen3, window in the middle layer only"],
)
@settings(max_examples=8, deadline=None)
@given(random=st.randoms(use_true_random=False))
def test_any_cutting_gives_the_uncut_logits(tiny_checkpoint: Tiny, kernel: str, name: str, random: Random) -> None:
    decoder = loaded(tiny_checkpoint, name, kernel)
    assert (cut(decoder, random) - uncut(decoder, name)).abs().max() < 1e-9


@pytest.mark.parametrize("name", ["llama, yarn", "qwen3, biases, tied, yarn"])
def test_a_wrong_offset_is_seen(tiny_checkpoint: Tiny, name: str) -> None:
    decoder = loaded(tiny_checkpoint, name, "torch")
    assert (cut(decoder, Random(1), wrong=1) - uncut(decoder, name)).abs().max() > 1e-2


def test_cutting_in_float32_stays_within_rounding(tiny_checkpoint: Tiny) -> None:
    decoder = Decoder.load(tiny_checkpoint("qwen3"))
    reference = whole(decoder)
    for seed in range(10):
        assert (cut(decoder, Random(seed)) - reference).abs().max() < 1e-4


_LOADED: dict[tuple[str, str], Decoder] = {}
_UNCUT: dict[str, torch.Tensor] = {}


def loaded(tiny_checkpoint: Tiny, name: str, kernel: str) -> Decoder:
    if (name, kernel) not in _LOADED:
        family, config = CHECKPOINTS[name]
        _LOADED[name, kernel] = Decoder.load(tiny_checkpoint(family, **config), dtype="float64", kernel=kernel)
    return _LOADED[name, kernel]


def uncut(decoder: Decoder, name: str) -> torch.Tensor:
    if name not in _UNCUT:
        _UNCUT[name] = whole(decoder)
    return _UNCUT[name]


def cut(decoder: Decoder, random: Random, *, wrong: int = 0) -> torch.Tensor:
    """Random chunks, each in a new frame or the last one's, in runs of random length anywhere in the pool."""
    page = random.choice([1, 4, 16])
    pages = list(range(512 // page))
    Random(random.getrandbits(16)).shuffle(pages)
    sequence = Sequence(decoder, wrong=wrong)
    logits, origin, free = [], 0, list[int]()
    while sequence.done < len(IDS):
        ids = IDS[sequence.done :][: random.choice([1, 1, 2, 7, 30])]
        origin = random.choice([origin, 0, random.randint(-500, 3000)])
        while len(free) < len(ids):
            at = pages.pop()
            free += range(at * page, at * page + page)
        slots, free = free[: len(ids)], free[len(ids) :]
        logits.append(sequence.encode(ids, slots, origin))
    return torch.cat(logits)


def test_chosen_rows_are_those_of_all(tiny_checkpoint: Tiny) -> None:
    decoder = Decoder.load(tiny_checkpoint())
    keys, values = decoder.new_pool(8)
    plan = decoder.plan([QueryBlock(0, 0, (0, 1, 2), (KeyRun(0, 3, 0, 0, 0),))], 8)
    ids = torch.tensor([5, 6, 7])
    everything = decoder.forward(ids, plan, keys, values)
    assert everything.shape == (3, 97)
    assert everything.dtype == torch.float32
    chosen = decoder.forward(ids, plan, keys, values, torch.tensor([2, 0]))
    assert torch.allclose(chosen, everything[[2, 0]], atol=1e-6)
    hidden = decoder.hidden(ids, plan, keys, values)
    assert hidden.shape == (3, 48)
    assert torch.allclose(decoder.logits(hidden), everything, atol=1e-6)

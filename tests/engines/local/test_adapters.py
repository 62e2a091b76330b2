"""LoRA adapters: logits are peft's, merged and unmerged; a context keeps its adapter; what can't be used has a name."""

from __future__ import annotations

import gc
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
import torch
from safetensors.torch import load_file, save_file

from plait.engines import Member, Teamwork
from plait.engines.local import LocalEngine
from plait.engines.local.adapter import Adapter, AdapterCache
from plait.engines.local.context import LocalContext
from plait.engines.local.decoder import Decoder
from plait.errors import CheckpointError, ContextError
from plait.kernels import KeyRun, QueryBlock

peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.anyio
Make = Callable[..., Path]
Open = Callable[..., LocalEngine]
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
PROMPT = "the cat sat on the mat and said"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def make_adapter(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """`make_adapter(checkpoint, **LoraConfig)`: an adapter with random weights, written by peft."""

    def make(checkpoint: Path, *, seed: int = 0, **config: Any) -> Path:
        model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
        settings = {"r": 4, "lora_alpha": 16, "target_modules": ALL, "task_type": "CAUSAL_LM", **config}
        adapted = peft.get_peft_model(model, peft.LoraConfig(**settings))
        random = torch.Generator().manual_seed(seed)
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.data = torch.randn(parameter.shape, generator=random) * 0.2
        directory = tmp_path_factory.mktemp("adapter")
        adapted.save_pretrained(directory)
        return Path(directory)

    return make


@pytest.fixture(scope="module")
def adapters(checkpoint: Path, make_adapter: Make) -> list[Path]:
    return [make_adapter(checkpoint, seed=1), make_adapter(checkpoint, seed=2, target_modules=["v_proj", "down_proj"])]


def ours(decoder: Decoder, ids: list[int], adapter: Adapter | None) -> torch.Tensor:
    count = len(ids)
    block = QueryBlock(0, 0, tuple(range(count)), (KeyRun(0, count, 0, 0, 0),))
    return decoder.forward(torch.tensor(ids), decoder.plan([block], count, [adapter]), *decoder.new_pool(count))


def theirs(checkpoint: Path, adapter: Path, ids: list[int], *, merged: bool, dtype: torch.dtype) -> torch.Tensor:
    base = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=dtype)
    model = peft.PeftModel.from_pretrained(base, adapter).eval()
    if merged:
        model = model.merge_and_unload()
    with torch.inference_mode():
        logits: torch.Tensor = model(torch.tensor([ids])).logits[0]
    return logits


CONFIGS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "all linear layers": ("qwen3", {}, {"target_modules": "all-linear"}),
    "queries and values": ("llama", {}, {"target_modules": ["q_proj", "v_proj"], "r": 3, "lora_alpha": 7}),
    "keys alone": ("llama", {}, {"target_modules": ["k_proj"]}),
    "rank-stabilised": ("qwen2", {}, {"use_rslora": True}),
    "by expression": ("mistral", {"sliding_window": 9}, {"target_modules": r".*\.mlp\.(up|down)_proj"}),
    "one layer": ("qwen3", {}, {"layers_to_transform": [1]}),
    "ranks and scales by pattern": (
        "llama",
        {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
        {"rank_pattern": {"q_proj": 2, "layers.1.mlp.up_proj": 5}, "alpha_pattern": {"down_proj": 3}},
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_are_those_of_peft_merged_and_unmerged(tiny_checkpoint: Make, make_adapter: Make, name: str) -> None:
    family, config, lora = CONFIGS[name]
    checkpoint = tiny_checkpoint(family, **config)
    directory = make_adapter(checkpoint, **lora)
    decoder, ids = Decoder.load(checkpoint, dtype="float32"), list(range(3, 40))
    found = ours(decoder, ids, decoder.adapter(directory))
    assert (found - ours(decoder, ids, None)).abs().max() > 0.1
    for merged in (False, True):
        expected = theirs(checkpoint, directory, ids, merged=merged, dtype=torch.float32)
        assert (found - expected).abs().max() < 2e-4


def test_half_precision_errs_no_more_than_peft_does(tiny_checkpoint: Make, make_adapter: Make) -> None:
    checkpoint = tiny_checkpoint("qwen3", dtype=torch.bfloat16, hidden_size=96)
    directory, ids = make_adapter(checkpoint), list(range(3, 60))
    exact = theirs(checkpoint, directory, ids, merged=False, dtype=torch.float32)
    allowed = theirs(checkpoint, directory, ids, merged=True, dtype=torch.bfloat16).float() - exact
    decoder = Decoder.load(checkpoint, dtype="bfloat16")
    error = ours(decoder, ids, decoder.adapter(directory)) - exact
    assert error.square().mean() <= 1.1 * allowed.square().mean()


async def test_many_adapters_share_a_batch(checkpoint: Path, adapters: list[Path], open_local: Open) -> None:
    choices = ["", *map(str, adapters)] * 2
    async with open_local(checkpoint) as engine:

        async def generate(adapter: str, place: int) -> None:
            context = await engine.start(PROMPT, adapter=adapter)
            found[place] = (await context.generate(max_tokens=12)).tokens

        found: dict[int, tuple[int, ...]] = {}
        for place, adapter in enumerate(choices[:3]):
            await generate(adapter, place)
        async with anyio.create_task_group() as group:
            for place, adapter in enumerate(choices, 3):
                group.start_soon(generate, adapter, place)
        alone = [found[place] for place in range(3)]
        assert len(set(alone)) == 3
        assert [found[place] for place in range(3, 9)] == alone * 2
        engine.check_integrity()


async def test_a_context_keeps_its_adapter(checkpoint: Path, adapters: list[Path], open_local: Open) -> None:
    """Extended, forked, pruned, evicted: its tokens are what the model with merged weights samples."""
    base = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float64)
    model = peft.PeftModel.from_pretrained(base, adapters[0]).merge_and_unload().eval()

    def expected(context: LocalContext, size: int) -> list[int]:
        tokens = context.tokens
        for _ in range(6):
            tokens.append(int(model(torch.tensor([tokens])).logits[0, -1, :size].argmax()))
        return tokens[-6:]

    async with open_local(checkpoint, kv_tokens=28, page_size=4) as engine:
        size = engine.tokenizer.size
        start = await engine.start(PROMPT, adapter=str(adapters[0]))
        longer = await start.extend(" hello world")
        forks = [await longer.extend(" to"), await longer.extend(" people")]
        pruned = await forks[0].prune(2, 5, mode="exact")
        spliced = await start.splice([forks[0]], at="sequence", mode="exact")
        for context in (start, longer, *forks, pruned, spliced):
            assert list((await context.generate(max_tokens=6)).tokens) == expected(context, size)
        assert engine.stats().evicted > 0
        engine.check_integrity()


async def test_contexts_of_different_adapters_do_not_mix(
    checkpoint: Path, adapters: list[Path], open_local: Open
) -> None:
    async with open_local(checkpoint) as engine:
        plain = await engine.start(PROMPT)
        adapted = await engine.start(PROMPT, adapter=str(adapters[0]))
        assert adapted.holding.salt != plain.holding.salt == b""
        for one, other in ((plain, adapted), (adapted, plain)):
            with pytest.raises(ContextError, match=rf"different adapters .*'{adapters[0].name}'"):
                await one.splice([other], at="sequence", mode="shift")
            with pytest.raises(ContextError, match="different adapters"):
                await engine.team([Member(context=one), Member(context=other)], Teamwork(layout="contiguous"))
        engine.check_integrity()


async def test_a_team_runs_on_the_adapter_of_its_members(
    checkpoint: Path, adapters: list[Path], open_local: Open
) -> None:
    """Headers included: with the adapter merged into the weights, the team says the same."""
    base = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float64)
    merged = shutil.copytree(checkpoint, adapters[0].parent / "merged")
    peft.PeftModel.from_pretrained(base, adapters[0]).merge_and_unload().save_pretrained(merged)
    work = Teamwork(layout="combined", past_header="said:", own_header="; the cat", others_header="people:")

    async def said(engine: LocalEngine, adapter: str) -> list[tuple[int, ...]]:
        start = await engine.start(PROMPT, adapter=adapter)
        members = [Member(context=await start.extend(text), max_tokens=8) for text in (" hello", " world")]
        return [generation.tokens for generation in await engine.team(members, work)]

    async with open_local(checkpoint) as engine, open_local(merged) as other:
        found = await said(engine, str(adapters[0]))
        assert found == await said(other, "")
        assert found != await said(engine, "")
        engine.check_integrity()


async def test_the_prefix_cache_knows_adapters_apart(checkpoint: Path, adapters: list[Path], open_local: Open) -> None:
    async with open_local(checkpoint, page_size=4) as engine:
        for adapter, cached in (
            ("", False),
            ("", True),
            (adapters[0], False),
            (adapters[1], False),
            (adapters[0], True),
        ):
            context = await engine.start(PROMPT, adapter=adapter)
            usage = context.usage + (await context.generate(max_tokens=2)).usage
            assert (usage.cached > 0) == cached, adapter
            context.release()
        engine.check_integrity()


async def test_an_adapter_is_loaded_once_and_freed(checkpoint: Path, adapters: list[Path], open_local: Open) -> None:
    loaded = []

    async with open_local(checkpoint) as engine:

        def load(directory: Path) -> Adapter:
            loaded.append(directory)
            return engine.decoder.adapter(directory)

        cache = AdapterCache(load, kept=1)
        first = cache.get(adapters[0])
        assert cache.get(str(adapters[0])) is first
        cache.get(adapters[1])
        assert cache.get(adapters[0]) is first, "it is in use"
        assert len(loaded) == 2
        del first
        cache.get(adapters[1])
        gc.collect()
        cache.get(adapters[0])
        assert len(loaded) == 4


def test_an_adapter_that_was_trained_further_is_read_anew(checkpoint: Path, make_adapter: Make) -> None:
    directory, decoder = make_adapter(checkpoint), Decoder.load(checkpoint)
    cache = AdapterCache(decoder.adapter)
    before = cache.get(directory)
    weights = load_file(directory / "adapter_model.safetensors")
    save_file({name: 2 * tensor for name, tensor in weights.items()}, directory / "adapter_model.safetensors")
    assert cache.get(directory).salt != before.salt


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"peft_type": "IA3"}, "PEFT type 'IA3' (supported: LORA)"),
    ({"use_dora": True}, "DoRA ('use_dora')"),
    ({"modules_to_save": ["lm_head"]}, "whole modules trained beside LoRA ('modules_to_save')"),
    ({"trainable_token_indices": [1, 2]}, "trained token embeddings"),
    ({"bias": "all"}, "trained biases ('bias' is 'all'"),
    ({"lora_bias": True}, "biases in the low-rank path"),
    ({"fan_in_fan_out": True}, "transposed weights"),
    ({"layer_replication": [[0, 2]]}, "replicated layers"),
    ({"target_parameters": ["experts.gate_up_proj"]}, "outside linear layers"),
    ({"init_lora_weights": "pissa"}, "a start that changes the base weights ('init_lora_weights' is 'pissa')"),
    ({"alora_invocation_tokens": [5]}, "activated LoRA"),
    ({"use_qalora": True}, "QA-LoRA"),
    ({"use_bdlora": {"nblocks": 2}}, "block-diagonal LoRA"),
    ({"r": 0}, "rank 0, not a positive integer"),
    ({"lora_alpha": "much"}, "lora_alpha 'much', not a number"),
    ({"target_modules": ["q_proj", "lm_head"]}, "targets 'lm_head' but changes no such linear layer"),
    ({"r": 5}, "call for [5, "),
]


@pytest.mark.parametrize(("change", "named"), REFUSED)
def test_what_is_unsupported_is_refused_by_name(
    checkpoint: Path, adapters: list[Path], tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    config = json.loads((adapters[0] / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, **change}))
    weights = (adapters[0] / "adapter_model.safetensors").read_bytes()
    (tmp_path / "adapter_model.safetensors").write_bytes(weights)
    with pytest.raises(CheckpointError, match=re.escape(named)):
        Decoder.load(checkpoint).adapter(tmp_path)


def test_an_adapter_of_embeddings_is_refused(checkpoint: Path, make_adapter: Make) -> None:
    for target in ("embed_tokens", "lm_head"):
        directory = make_adapter(checkpoint, target_modules=["q_proj", target])
        with pytest.raises(CheckpointError, match=rf"changes '.*{target}.*', which is no linear layer inside"):
            Decoder.load(checkpoint).adapter(directory)


def test_an_adapter_of_another_model_or_half_of_one_is_refused(
    checkpoint: Path, tiny_checkpoint: Make, make_adapter: Make
) -> None:
    other = make_adapter(tiny_checkpoint("llama", hidden_size=36))
    with pytest.raises(CheckpointError, match=r"has shape \[4, 36\].*that it was trained for"):
        Decoder.load(checkpoint).adapter(other)
    weights = load_file(other / "adapter_model.safetensors")
    weights.pop("base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight")
    save_file(weights, other / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="without its other half"):
        Decoder.load(checkpoint).adapter(other)


async def test_a_missing_or_broken_adapter_is_named_and_the_engine_goes_on(
    checkpoint: Path, adapters: list[Path], tmp_path: Path, open_local: Open
) -> None:
    async with open_local(checkpoint) as engine:
        with pytest.raises(CheckpointError, match=r"no adapter at .*adapter_config\.json is missing"):
            await engine.start(PROMPT, adapter=str(tmp_path))
        (tmp_path / "adapter_config.json").write_bytes((adapters[0] / "adapter_config.json").read_bytes())
        (tmp_path / "adapter_model.safetensors").write_bytes(b"\x05\x00")
        with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors can't be read"):
            await engine.start(PROMPT, adapter=str(tmp_path))
        (tmp_path / "adapter_config.json").write_text("{")
        with pytest.raises(CheckpointError, match=r"adapter_config\.json can't be read"):
            await engine.start(PROMPT, adapter=str(tmp_path))
        assert (await engine.start(PROMPT)).adapter is None
        engine.check_integrity()

"""The breadth path: models of `transformers` over our pool give the logits of their plain forward pass, or a reason."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import anyio
import pytest
import torch

from plait.engines import Member, Teamwork, open_engine
from plait.engines.base import Layout
from plait.engines.local import LocalEngine
from plait.engines.local import backends as backends_module
from plait.engines.local.breadth import BreadthModel, breadth_problems
from plait.engines.local.context import LocalContext
from plait.errors import CheckpointError, InputError, MissingExtraError
from plait.kernels import KeyRun, QueryBlock

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.anyio
Make = Callable[..., Path]
PROMPT = "the cat sat on the mat and said hello world to people"

FAMILIES: dict[str, dict[str, Any]] = {
    "olmo2": {},
    "phi3": {"head_dim": 8, "sliding_window": 9},
    "phi": {"head_dim": 8, "partial_rotary_factor": 0.5},
    "stablelm": {"head_dim": 8},
    "gemma2": {
        "attn_logit_softcapping": 5.0,
        "final_logit_softcapping": 30.0,
        "query_pre_attn_scalar": 20,
        "sliding_window": 9,
    },
    "gemma3_text": {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 9},
    "granite": {"head_dim": 8, "attention_multiplier": 0.2, "logits_scaling": 2.0},
    "cohere": {"head_dim": 8},
    "glm": {},
    "smollm3": {"head_dim": 8, "no_rope_layers": [1, 0]},
    "mixtral": {"num_local_experts": 4, "sliding_window": None},
}
"""None of them is known to our decoder."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def their_checkpoint(tmp_path_factory: pytest.TempPathFactory, smallest_checkpoint: Path) -> Make:
    """`their_checkpoint(family, **config)`: random weights, written by transformers, with a tokenizer."""
    made: dict[str, Path] = {}

    def make(family: str, **config: Any) -> Path:
        key = json.dumps([family, config])
        if key not in made:
            made[key] = tmp_path_factory.mktemp(family)
            _write(made[key], family, config)
            for name in ("tokenizer.json", "tokenizer_config.json"):
                (made[key] / name).write_bytes((smallest_checkpoint / name).read_bytes())
        return made[key]

    return make


def _write(directory: Path, family: str, config: dict[str, Any]) -> None:
    sizes = {
        "vocab_size": 352,
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    settings = transformers.AutoConfig.for_model(family, **{**sizes, **FAMILIES.get(family, {}), **config})
    model = transformers.AutoModelForCausalLM.from_config(settings, dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.2, generator=generator)
            else:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(directory)


def plain(directory: Path) -> Any:
    """With eager attention: scaled-dot-product attention leaves Gemma 2's cap out in transformers 4."""
    options = {"dtype": torch.float32, "attn_implementation": "eager"}
    return transformers.AutoModelForCausalLM.from_pretrained(directory, **options).eval()


def open_theirs(directory: Path, **options: Any) -> LocalEngine:
    return LocalEngine.open(directory, backend="transformers", device="cpu", **{"kv_tokens": 2048, **options})


def continued(model: Any, tokens: list[int], count: int, size: int) -> list[int]:
    """Greedy, each token from a whole forward pass."""
    tokens = list(tokens)
    with torch.inference_mode():
        for _ in range(count):
            tokens.append(int(model(torch.tensor([tokens])).logits[0, -1, :size].argmax()))
    return tokens[-count:]


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_in_any_pieces_and_frames_are_those_of_the_plain_model(their_checkpoint: Make, family: str) -> None:
    directory = their_checkpoint(family)
    model = BreadthModel.load(directory)
    assert model.difference < 1e-4
    choice = random.Random(family)
    ids = choice.choices(range(3, 350), k=60)
    with torch.inference_mode():
        expected = plain(directory)(torch.tensor([ids])).logits[0]
    assert expected.std() > 0.01
    keys, values = model.new_pool(60)
    logits, runs, done = [], list[KeyRun](), 0
    while done < 60:
        count, origin = min(choice.randint(1, 17), 60 - done), choice.randint(-50, 900)
        slots = tuple(range(done, done + count))
        block = QueryBlock(origin, done, slots, (*runs, KeyRun(done, count, origin, done, 0)))
        logits.append(model.forward(torch.tensor(ids[done : done + count]), model.plan([block], 60), keys, values))
        runs.append(KeyRun(done, count, origin, done))
        done += count
    assert (torch.cat(logits) - expected).abs().max() < 1e-4 * max(1.0, float(expected.std()))


@pytest.mark.parametrize("family", ["olmo2", "gemma2", "phi3", "mixtral"])
async def test_views_forks_and_edits_give_what_a_fresh_prefill_gives(their_checkpoint: Make, family: str) -> None:
    directory = their_checkpoint(family)
    model = plain(directory)
    async with open_theirs(directory, step_tokens=7, page_size=4) as engine:
        size = engine.tokenizer.size
        start = await engine.start(PROMPT)
        forks = [await start.extend(text) for text in (" hello", " and the people", "; user")]
        pruned = await forks[1].prune(3, 9, mode="exact")
        spliced = await start.splice(forks[:2], at="sequence", mode="exact")
        assert pruned.length == forks[1].length - 6
        contexts = [start, *forks, pruned, spliced]
        found: dict[int, tuple[int, ...]] = {}

        async def generate(context: LocalContext, place: int) -> None:
            found[place] = (await context.generate(max_tokens=8)).tokens

        async with anyio.create_task_group() as group:
            for place, context in enumerate(contexts):
                group.start_soon(generate, context, place)
        for place, context in enumerate(contexts):
            expected = continued(model, context.tokens, 8, size)
            assert list(found[place]) == expected[: expected.index(0) if 0 in expected else 8]
        engine.check_integrity()


async def test_both_backends_do_the_same_with_views(checkpoint: Path, llama_checkpoint: Path) -> None:
    """Whatever is done to views, on families that both know; the decoder is held to the laws elsewhere."""

    async def done(engine: LocalEngine) -> list[list[int]]:
        start = await engine.start(PROMPT)
        forks = [await start.extend(text) for text in (" hello", " and the people", "; user")]
        edits = [
            await forks[1].prune(3, 9, mode="shift"),
            await forks[2].prune(2, 7, mode="exact"),
            await (await start.splice(forks, at="parallel", mode="exact")).extend(" and"),
            await start.splice(forks[:2], at="sequence", mode="shift"),
        ]
        said = [await context.generate(max_tokens=10) for context in (start, *forks, *edits)]
        for layout in get_args(Layout):
            members = [Member(context=context, max_tokens=6 + i) for i, context in enumerate(forks)]
            said += await engine.team(members, Teamwork(layout=layout, slot=10))
        return [list(generation.tokens) for generation in said]

    for directory in (checkpoint, llama_checkpoint):
        async with LocalEngine.open(directory, dtype="float64", device="cpu", kv_tokens=2048) as engine:
            expected = await done(engine)
        async with open_theirs(directory, dtype="float64") as engine:
            assert await done(engine) == expected
            engine.check_integrity()


async def test_scores_are_those_of_the_plain_model(their_checkpoint: Make) -> None:
    directory = their_checkpoint("granite")
    async with open_theirs(directory) as engine:
        context = await engine.start(PROMPT)
        pruned = await context.prune(2, 6, mode="exact")
        scores = await pruned.score([" hello world", " people"])
        for text, score in zip((" hello world", " people"), scores, strict=True):
            tokens, more = pruned.tokens, engine.tokenizer.encode_more(text)
            with torch.inference_mode():
                logits = plain(directory)(torch.tensor([tokens + more])).logits[0, :, : engine.tokenizer.size]
            rows = logits[len(tokens) - 1 : -1].log_softmax(-1)
            expected = float(rows[torch.arange(len(more)), more].sum())
            assert score == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("family", ["olmo2", "gemma2", "stablelm"])
def test_half_precision_errs_no_more_than_the_plain_model_does(their_checkpoint: Make, family: str, dtype: str) -> None:
    directory, kind = their_checkpoint(family), getattr(torch, dtype)
    model, ids = BreadthModel.load(directory, dtype=dtype), torch.arange(5, 65)
    assert model.dtype == kind
    block = QueryBlock(0, 0, tuple(range(60)), (KeyRun(0, 60, 0, 0, 0),))
    ours = model.forward(ids, model.plan([block], 60), *model.new_pool(60))
    with torch.inference_mode():
        exact = plain(directory)(ids[None]).logits[0]
        theirs = plain(directory).to(kind)(ids[None]).logits[0].float()
    assert (ours - exact).square().mean() <= 1.2 * (theirs - exact).square().mean()


def test_a_window_longer_than_the_probe_is_found(their_checkpoint: Make) -> None:
    model = BreadthModel.load(their_checkpoint("phi3", sliding_window=100))
    assert [layer.shape.window for layer in model.layers] == [100, 100]
    model = BreadthModel.load(their_checkpoint("phi3", sliding_window=100_000))
    assert [layer.shape.window for layer in model.layers] == [0, 0], "the model's own window is shorter"


async def test_adapters_run_there_too(their_checkpoint: Make, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    directory = their_checkpoint("olmo2")
    config = peft.LoraConfig(r=4, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(plain(directory), config)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, 0, 0.2)
    adapted.save_pretrained(tmp_path)
    merged = peft.PeftModel.from_pretrained(plain(directory), tmp_path).merge_and_unload().eval()
    async with open_theirs(directory) as engine:
        assert engine.capabilities.adapters
        contexts = [await engine.start(PROMPT, adapter=adapter) for adapter in ("", str(tmp_path))]
        made = [await context.generate(max_tokens=8) for context in contexts]
        assert made[0].tokens != made[1].tokens
        for context, generation, model in zip(contexts, made, (plain(directory), merged), strict=True):
            expected = continued(model, context.tokens, 8, engine.tokenizer.size)
            assert list(generation.tokens) == expected[: len(generation.tokens)]


async def test_it_is_an_engine_by_name(their_checkpoint: Make) -> None:
    directory = their_checkpoint("olmo2")
    async with open_engine(f"transformers:{directory}", kv_tokens=64) as engine:
        assert engine.name == f"transformers:{directory.name}"
        assert engine.capabilities.window == 512
        assert (await engine.start("the cat")).length > 0


# ---- refusals

JAMBA = {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False, "num_experts": 1}
SOUND: dict[str, Any] = {"model_type": "olmo2", "max_position_embeddings": 512}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"quantization_config": {"quant_method": "awq"}}, "quantised weights ('awq'"),
        ({"vision_config": {"hidden_size": 8}}, "a model of more than text ('vision_config')"),
        ({"audio_config": {"hidden_size": 8}}, "a model of more than text ('audio_config')"),
        ({"is_encoder_decoder": True}, "an encoder and a decoder"),
        ({"max_position_embeddings": None}, "'max_position_embeddings' is missing"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope type 'dynamic', which depends on the length"),
        ({"rope_parameters": {"rope_type": "longrope"}}, "rope type 'longrope', which depends on the length"),
        ({"rope_parameters": {"full_attention": {"rope_type": "longrope"}}}, "rope type 'longrope'"),
        ({"layer_types": ["linear_attention", "full_attention"]}, "layer type 'linear_attention'"),
        ({"layer_types": ["chunked_attention"]}, "layer type 'chunked_attention'"),
        ({"layer_types": ["conv"]}, "layer type 'conv'"),
    ],
)
def test_what_a_config_rules_out_is_refused_by_name(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    assert breadth_problems(SOUND) == []
    assert any(named in problem for problem in breadth_problems({**SOUND, **change}))
    (tmp_path / "config.json").write_text(json.dumps({**SOUND, **change}))
    with pytest.raises(CheckpointError, match="can't be used") as refused:
        BreadthModel.load(tmp_path)
    assert named in str(refused.value)


@pytest.mark.parametrize(
    ("family", "config", "named"),
    [
        ("gpt_oss", {"num_local_experts": 4, "layer_types": ["full_attention"] * 2}, "its attention has sinks"),
        ("bloom", {}, "does not go through transformers' attention interface"),
        ("mamba", {}, "does not go through transformers' attention interface"),
        ("opt", {"word_embed_proj_dim": 48, "ffn_dim": 80}, "is of no kind that can be rotated by views"),
        ("jamba", JAMBA, "perhaps it keeps a state beside keys and values"),
        ("nanochat", {}, "is of no kind that can be rotated by views"),
        ("hunyuan_v1_dense", {}, "is of no kind that can be rotated by views"),
    ],
)
def test_what_a_model_does_otherwise_is_found_out(
    their_checkpoint: Make, tmp_path: Path, family: str, config: dict[str, Any], named: str
) -> None:
    directory = their_checkpoint(family, **config)
    written = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({"max_position_embeddings": 512, **written}))
    with pytest.raises(CheckpointError) as refused:
        BreadthModel.load(directory)
    assert named in str(refused.value)
    assert "Use a checkpoint of another family" in str(refused.value)


def test_broken_checkpoints_are_refused(their_checkpoint: Make, tmp_path: Path) -> None:
    source = their_checkpoint("olmo2")
    config = json.loads((source / "config.json").read_text())
    weights = (source / "model.safetensors").read_bytes()
    for changed, data, named in (
        (config, weights[:5000], "can't load the checkpoint"),
        ({**config, "num_hidden_layers": 3}, weights, "missing keys, such as 'model.layers.2"),
        ({**config, "num_hidden_layers": 1}, weights, "unexpected keys, such as 'model.layers.1"),
        ({**config, "model_type": "no-such-model"}, weights, "can't load the checkpoint"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(changed))
        (tmp_path / "model.safetensors").write_bytes(data)
        with pytest.raises(CheckpointError, match=named):
            BreadthModel.load(tmp_path)


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(backends_module, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'plait\[breadth\]'"):
        LocalEngine.open(tmp_path, backend="transformers")


def test_an_unknown_backend_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown backend 'onnx'; known: decoder, transformers"):
        LocalEngine.open(tmp_path, backend="onnx")  # type: ignore[arg-type]

"""What `plait models check` reports, and what is refused, by name: one table for both ways to run a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plait.engines.local import backends
from plait.engines.local.check import check_model
from plait.errors import CheckpointError

pytest.importorskip("transformers")
Make = Callable[..., Path]


def test_a_checkpoint_of_a_known_family_runs_on_the_decoder(tiny_checkpoint: Make) -> None:
    directory = tiny_checkpoint("mistral", sliding_window=9)
    report = check_model(directory)
    assert report.supported
    assert report.engine == f"local:{directory}"
    assert report.problems == report.breadth_problems == ()
    assert report.window == 512
    assert report.kv_bytes_per_1000_tokens == 1000 * 2 * 3 * 2 * 16 * 4
    assert report.logits_difference is not None
    assert report.logits_difference < 1e-4
    assert f"runs with --engine local:{directory}" in report.describe()


def test_a_checkpoint_of_another_family_runs_through_transformers(tiny_checkpoint: Make) -> None:
    """Llama's weights under a family of the same shape that our decoder does not list."""
    directory = retitled(tiny_checkpoint("llama"), model_type="arcee", architectures=["ArceeForCausalLM"])
    report = check_model(directory)
    assert report.problems == ("model type 'arcee' (supported: llama, mistral, qwen2, qwen3)",)
    assert not report.supported, "its MLP has no gate, so tensors are left over"
    assert "unexpected keys, such as 'model.layers." in report.breadth_problems[0]

    directory = retitled(tiny_checkpoint("llama"), model_type="seed_oss", architectures=["SeedOssForCausalLM"])
    report = check_model(retitled(directory, attention_bias=False, attention_out_bias=False))
    assert report.supported, report.describe()
    assert report.engine == f"transformers:{directory}"
    assert report.logits_difference is not None
    assert report.logits_difference < 1e-4
    assert "slower than the decoder" in report.describe()


def test_without_transformers_the_report_says_what_to_install(
    tiny_checkpoint: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "find_spec", lambda _: None)
    report = check_model(retitled(tiny_checkpoint("llama"), model_type="olmo2"))
    assert not report.supported
    assert "pip install 'plait[breadth]'" in report.describe()


def test_an_adapter_is_checked_with_its_model(tiny_checkpoint: Make, tmp_path: Path) -> None:
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    directory = tiny_checkpoint("qwen3")
    model = transformers.AutoModelForCausalLM.from_pretrained(directory)
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    peft.get_peft_model(model, config).save_pretrained(tmp_path)
    report = check_model(directory, tmp_path)
    assert report.supported
    assert f"adapter: {tmp_path} changes 6 weights" in report.describe()
    changed = {**json.loads((tmp_path / "adapter_config.json").read_text()), "use_dora": True}
    (tmp_path / "adapter_config.json").write_text(json.dumps(changed))
    report = check_model(directory, tmp_path)
    assert not report.supported
    assert "adapter not supported: " in report.describe()
    assert "DoRA" in report.adapter_problem


DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
LONG = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}

REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"quantization_config": {"quant_method": "gptq"}}, "quantised weights ('gptq'", "quantised weights ('gptq'"),
    ({"rope_parameters": LONG}, "rope type 'longrope'", "rope type 'longrope'"),
    ({"rope_parameters": DYNAMIC}, "rope type 'dynamic'", "rope type 'dynamic'"),
    ({"model_type": "qwen3_moe"}, "model type 'qwen3_moe'", "missing keys"),
    ({"model_type": "mllama", "vision_config": {"layers": 2}}, "model type 'mllama'", "a model of more than text"),
    ({"model_type": "t5", "is_encoder_decoder": True}, "model type 't5'", "an encoder and a decoder"),
    ({"model_type": "mamba"}, "model type 'mamba'", "missing keys"),
    ({"model_type": "my-own"}, "model type 'my-own'", "can't load the checkpoint"),
    ({"layer_types": ["linear_attention"] * 3}, "layer type 'linear_attention'", "layer type 'linear_attention'"),
]


@pytest.mark.parametrize(("change", "of_decoder", "of_transformers"), REFUSED)
def test_what_neither_can_run_is_refused_by_name(
    tiny_checkpoint: Make, change: dict[str, Any], of_decoder: str, of_transformers: str
) -> None:
    directory = retitled(tiny_checkpoint("qwen3", sliding_window=9), **change)
    report = check_model(directory)
    assert not report.supported
    assert report.engine == ""
    assert any(of_decoder in problem for problem in report.problems), report
    assert any(of_transformers in problem for problem in report.breadth_problems), report
    with pytest.raises(CheckpointError) as refused:
        backends.load_model("decoder", directory, dtype="auto", device="cpu", kernel="auto", batch_invariant=False)
    assert of_decoder in str(refused.value)
    assert f"--engine transformers:{directory}" in str(refused.value)


def retitled(directory: Path, **changes: Any) -> Path:
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, **changes}))
    return directory

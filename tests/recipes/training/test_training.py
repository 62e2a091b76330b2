"""Training: a tiny run learns, can be resumed, and its export is a Qwen3 model for transformers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from plait.recipes.training import mixture, muon
from plait.recipes.training.export import export
from plait.recipes.training.trainer import Settings, load_model, train

TINY = {"width": 32, "layers": 1, "heads": 2, "kv_heads": 1, "head_dim": 16, "hidden": 48, "positions": 2048}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(tiny(folder, 1.0))
    return folder


def tiny(folder: Path, seconds: float, resume: Path | None = None) -> Settings:
    return Settings(
        folder=folder,
        seconds=seconds,
        ranks=1,
        shape=TINY,
        step_tokens=600,
        check_documents=1,
        decay_fraction=1.0,
        compile=False,
        resume=resume,
    )


def progress(folder: Path) -> dict[str, float]:
    last: dict[str, float] = json.loads((folder / "progress.jsonl").read_text().splitlines()[-1])
    return last


def test_a_run_keeps_the_state_before_the_decay_and_the_last(trained: Path) -> None:
    assert {"plateau.pt", "final.pt", "progress.jsonl"} <= {path.name for path in trained.iterdir()}
    assert progress(trained)["loss"] < 7


def test_a_run_can_be_resumed(trained: Path, tmp_path: Path) -> None:
    train(tiny(tmp_path, 1.5, resume=trained / "plateau.pt"))
    assert progress(tmp_path)["steps"] > torch.load(trained / "plateau.pt", weights_only=True)["steps"]


def test_a_run_can_begin_with_exported_weights(trained: Path, tmp_path: Path) -> None:
    export(trained / "final.pt", tmp_path / "exported")
    settings = replace(tiny(tmp_path / "run", 0.001), start=tmp_path / "exported")
    train(settings)
    before, after = load_model(trained / "final.pt"), load_model(tmp_path / "run" / "final.pt")
    for name, weight in before.state_dict().items():
        torch.testing.assert_close(after.state_dict()[name], weight, rtol=0.01, atol=0.01)


def test_the_export_gives_the_same_logits_in_transformers(trained: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    export(trained / "final.pt", tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert type(theirs).__name__ == "Qwen3ForCausalLM"
    ours = load_model(trained / "final.pt")
    ours.load_state_dict({name: weight.bfloat16().float() for name, weight in ours.state_dict().items()})
    tokens = torch.randint(0, 700, (2, 40))
    with torch.no_grad():
        torch.testing.assert_close(ours.logits(ours.hidden(tokens)), theirs(tokens).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("instructions", "tag"),
    [
        ("Answer step by step. Format: task tree.", "<|tree|>"),
        ("Format: parallel queries", "<|hybrid|>"),
        ("Format: sequential queries", "<|serial_search|>"),
        ("Format: function calls", "<|calls|>"),
        ("Format: countdown serial", "<|serial|>"),
        ("Format: countdown parallel", "<|parallel|>"),
        ("Be brief.", "<|hybrid|>"),
    ],
)
def test_the_chat_template_makes_the_tag(trained: Path, tmp_path: Path, instructions: str, tag: str) -> None:
    transformers = pytest.importorskip("transformers")
    export(trained / "final.pt", tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    messages = [{"role": "system", "content": instructions}, {"role": "user", "content": "How big is Peru?"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == f"{tag}How big is Peru?<|a|>"
    ids = tokenizer(text)["input_ids"]
    assert ids == Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode(text).ids


def test_orthogonalised_matrices_have_singular_values_near_one() -> None:
    values = torch.linalg.svdvals(muon.orthogonalised(torch.randn(3, 24, 16)))
    assert values.min() > 0.5
    assert values.max() < 1.4


def test_ranks_share_all_of_a_batch() -> None:
    examples = [mixture.Example([0] * length, [0] * length) for length in range(1, 20)]
    parts = [mixture.share(examples, rank, 2) for rank in range(2)]
    assert sorted(len(example.tokens) for part in parts for example in part) == list(range(1, 20))
    work = [sum(len(example.tokens) for example in part) for part in parts]
    assert abs(work[0] - work[1]) < 20

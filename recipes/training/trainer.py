"""Training by the clock: data-parallel one-thread processes on a CPU, or one process on a GPU.

Two one-thread processes beat two threads by 1.6 at this size. The rate falls over the last part of the time, where
most of the late gains are; the state before that fall is kept as `plateau.pt`, from which a run can be prolonged.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as distributed
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from .mixture import SHARES, Example, Stream, micro_batches, share
from .model import NOT_LEARNT, LanguageModel, Shape
from .muon import Muon
from .tokenizer import build, padded_size

TOKENIZER = "tokenizer.json"
LOG = logging.getLogger("plait.recipes.training")


@dataclass(frozen=True, slots=True)
class Settings:
    """One training run. `seconds` is the total training time, with what a resumed run has used already; `resume` is a
    checkpoint to go on from, `start` an exported folder with whose weights to begin.
    """

    folder: Path
    seconds: float
    ranks: int = 2
    device: str = "cpu"
    shares: Mapping[str, float] = field(default_factory=lambda: dict(SHARES))
    shape: Mapping[str, int] = field(default_factory=dict)
    rate: float = 3e-3
    warmup_steps: int = 40
    decay_fraction: float = 0.45
    least_rate: float = 0.01
    small_fraction: float = 0.04
    step_tokens: int = 5500
    micro_tokens: int = 2500
    report_seconds: float = 60
    checkpoint_seconds: float = 240
    check_documents: int = 24
    seed: int = 0
    resume: Path | None = None
    start: Path | None = None
    compile: bool = True


def train(settings: Settings) -> None:
    """Run the training in `settings.ranks` processes; progress goes to `train.log` and `progress.jsonl` there."""
    settings.folder.mkdir(parents=True, exist_ok=True)
    if settings.ranks == 1:
        _train_rank(0, settings, 0)
        return
    spawn(_train_rank, args=(settings, _free_port()), nprocs=settings.ranks)


def load_model(checkpoint: Path) -> LanguageModel:
    """The model of a checkpoint."""
    state = torch.load(checkpoint, weights_only=True)
    model = LanguageModel(Shape(**state["shape"]))
    model.load_state_dict(state["model"])
    return model.eval()


def _train_rank(rank: int, settings: Settings, port: int) -> None:
    if settings.device == "cpu":
        torch.set_num_threads(1 if settings.ranks > 1 else torch.get_num_threads())
    _log_to(settings.folder / f"rank{rank}.log")
    if settings.ranks > 1:
        address = f"tcp://127.0.0.1:{port}"
        distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=settings.ranks)
    try:
        _Rank(rank, settings).run()
    finally:
        if settings.ranks > 1:
            distributed.destroy_process_group()


class _Rank:
    """One process's share of a run."""

    def __init__(self, rank: int, settings: Settings) -> None:
        self.rank, self.settings = rank, settings
        torch.manual_seed(settings.seed)
        self.tokenizer = _tokenizer(settings)
        self.model = LanguageModel(Shape(padded_size(self.tokenizer), **settings.shape)).to(settings.device)
        named = list(self.model.named_parameters())
        matrices = [parameter for name, parameter in named if parameter.dim() == 2 and "embed" not in name]
        others = [parameter for name, parameter in named if parameter.dim() < 2 or "embed" in name]
        self.muon = Muon(matrices, rank=rank, ranks=settings.ranks)
        self.adam = torch.optim.AdamW(others, lr=settings.rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
        self.parameters = [parameter for _, parameter in named]
        self.steps, self.tokens, self.elapsed = 0, 0, 0.0
        self.loss = 0.0
        self.plateau_kept = False
        if settings.start:
            stored = load_file(settings.start / "model.safetensors")
            self.model.load_state_dict({name: weight.float() for name, weight in stored.items()})
        if settings.resume:
            self._restore(settings.resume)
        self.stream = Stream(self.tokenizer, settings.shares, settings.seed + 7919 * self.steps + 1)
        self.checks = _checks(self.tokenizer, settings) if rank == 0 else {}
        if settings.compile:
            for layer in self.model.model.layers:
                layer.compile(dynamic=True)
        if rank == 0:
            LOG.info("%d parameters, %d rows", sum(p.numel() for p in self.parameters), padded_size(self.tokenizer))

    def run(self) -> None:
        """Train until the time is up."""
        settings = self.settings
        before = self.elapsed
        began, idle = time.monotonic(), 0.0
        reported = checkpointed = began
        while self._step(before + time.monotonic() - began - idle):
            now = time.monotonic()
            if self.rank or now - reported < settings.report_seconds:
                continue
            checks = now - checkpointed >= settings.checkpoint_seconds
            if checks:
                self._save("checkpoint.pt")
                checkpointed = now
            self._report(self._exactness() if checks else {})
            reported = time.monotonic()
            idle += reported - now
        if self.rank == 0:
            self._save("final.pt")
            self._report(self._exactness())

    def _step(self, elapsed: float) -> bool:
        """One update; False when the time is up (rank 0's clock counts for all)."""
        settings = self.settings
        small = self.elapsed < settings.small_fraction * settings.seconds
        examples = share(self.stream.batch(settings.step_tokens, small=small), self.rank, settings.ranks)
        loss, learnt, tokens = 0.0, 0, 0
        for group in micro_batches(examples, settings.micro_tokens):
            inputs, targets = _tensors(group, settings.device)
            summed = self.model.loss(inputs, targets)
            torch.autograd.backward(summed)
            loss += float(summed.detach())
            learnt += int((targets != NOT_LEARNT).sum())
            tokens += sum(len(example.tokens) for example in group)
        counts = torch.tensor([loss, learnt, tokens, elapsed * (self.rank == 0)], dtype=torch.float64)
        self._add_over_ranks(counts)
        loss, learnt, tokens, self.elapsed = counts[0].item(), int(counts[1]), int(counts[2]), counts[3].item()
        if self.elapsed > settings.seconds:
            return False
        self._average_gradients(learnt)
        self._update()
        self.steps += 1
        self.tokens += tokens
        self.loss = loss / learnt if self.steps == 1 else 0.97 * self.loss + 0.03 * loss / learnt
        return True

    def _average_gradients(self, learnt: int) -> None:
        flat = torch.cat([parameter.grad.flatten() for parameter in self.parameters if parameter.grad is not None])
        self._add_over_ranks(flat)
        flat /= learnt
        flat *= min(1.0, 1.0 / (float(flat.norm()) + 1e-6))
        sizes = [parameter.numel() for parameter in self.parameters]
        for parameter, gradient in zip(self.parameters, torch.split(flat, sizes), strict=True):
            parameter.grad = gradient.view_as(parameter)

    def _update(self) -> None:
        settings = self.settings
        left = 1 - self.elapsed / settings.seconds
        if left < settings.decay_fraction and not self.plateau_kept:
            self.plateau_kept = True
            if self.rank == 0:
                self._save("plateau.pt")
        fall = min(1.0, max(settings.least_rate, left / settings.decay_fraction))
        rate = settings.rate * min(1.0, (self.steps + 1) / settings.warmup_steps) * fall
        for group in self.adam.param_groups:
            group["lr"] = rate
        self.muon.step(rate, self._add_over_ranks)
        self.adam.step()
        self.model.zero_grad(set_to_none=True)

    def _add_over_ranks(self, values: Tensor) -> None:
        if self.settings.ranks > 1:
            distributed.all_reduce(values)

    def _report(self, exactness: dict[str, float]) -> None:
        speed = self.tokens / max(self.elapsed, 1e-9)
        figures = {
            "seconds": round(self.elapsed),
            "steps": self.steps,
            "tokens": self.tokens,
            "tokens_per_second": round(speed),
            "loss": round(self.loss, 4),
            "exact": exactness,
        }
        LOG.info(json.dumps(figures))
        with (self.settings.folder / "progress.jsonl").open("a") as progress:
            progress.write(json.dumps(figures) + "\n")

    @torch.no_grad()
    def _exactness(self) -> dict[str, float]:
        """Per skill, the share of fixed documents whose every learnt token is the likeliest (teacher-forced)."""
        with torch.compiler.set_stance("force_eager"):
            return {skill: self._share_exact(examples) for skill, examples in self.checks.items()}

    def _share_exact(self, examples: list[Example]) -> float:
        exact = 0
        for group in micro_batches(examples, self.settings.micro_tokens):
            inputs, targets = _tensors(group, self.settings.device)
            likeliest = self.model.logits(self.model.hidden(inputs)).argmax(-1)
            exact += int(((likeliest == targets) | (targets == NOT_LEARNT)).all(-1).sum())
        return round(exact / len(examples), 3)

    def _save(self, name: str) -> None:
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "shape": asdict(self.model.shape),
            "muon": self.muon.state(),
            "adam": self.adam.state_dict(),
            "steps": self.steps,
            "tokens": self.tokens,
            "elapsed": self.elapsed,
            "loss": self.loss,
        }
        unfinished = self.settings.folder / f".{name}.part"
        torch.save(state, unfinished)
        os.replace(unfinished, self.settings.folder / name)

    def _restore(self, checkpoint: Path) -> None:
        state = torch.load(checkpoint, weights_only=True, map_location=self.settings.device)
        self.model.load_state_dict(state["model"])
        self.muon.restore(state["muon"])
        self.adam.load_state_dict(state["adam"])
        self.steps, self.tokens = state["steps"], state["tokens"]
        self.elapsed, self.loss = state["elapsed"], state["loss"]


def _tokenizer(settings: Settings) -> Tokenizer:
    """A run that goes on from another keeps its tokenizer, whatever the word lists have become."""
    before = settings.resume.parent if settings.resume else settings.start
    tokenizer = Tokenizer.from_file(str(before / TOKENIZER)) if before else build()
    tokenizer.save(str(settings.folder / TOKENIZER))
    return tokenizer


def _checks(tokenizer: Tokenizer, settings: Settings) -> dict[str, list[Example]]:
    streams = {skill: Stream(tokenizer, {skill: 1.0}, seed=999_983) for skill in settings.shares}
    count = settings.check_documents
    return {skill: _first(stream, count) for skill, stream in streams.items()} if count else {}


def _first(stream: Stream, count: int) -> list[Example]:
    found: list[Example] = []
    while len(found) < count:
        found += stream.batch(500)
    return sorted(found[:count], key=lambda example: len(example.tokens))


def _tensors(group: list[Example], device: str) -> tuple[Tensor, Tensor]:
    longest = max(len(example.tokens) for example in group)
    inputs = torch.zeros(len(group), longest, dtype=torch.long)
    targets = torch.full((len(group), longest), NOT_LEARNT)
    for row, example in enumerate(group):
        inputs[row, : len(example.tokens)] = torch.tensor(example.tokens)
        targets[row, : len(example.tokens)] = torch.tensor(example.targets)
    return inputs.to(device), targets.to(device)


def _log_to(path: Path) -> None:
    logging.basicConfig(filename=path, level=logging.INFO, format="%(asctime)s %(message)s", force=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

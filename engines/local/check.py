"""What `plait models check` says of a checkpoint: the engine that runs it, what keeps others from it, how its logits
compare with those of `transformers`, and whether an adapter fits."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

from ...errors import CheckpointError, MissingExtraError
from ...kernels import KeyRun, QueryBlock
from .adapter import Adapter
from .backends import KINDS, Backend, load_model
from .config import problems, read_config
from .model import Model

PROBE_TOKENS = 32


@dataclass(frozen=True, slots=True)
class ModelReport:
    """`engine` is the name that opens it, empty if none does. `problems` keep our decoder from it, `breadth_problems`
    the engine on `transformers`, which is only tried then. `logits_difference` is the largest absolute one in float32;
    None where `transformers` is not installed. `adapter` says of the adapter that was asked about what it changes.
    """

    directory: str
    family: str
    engine: str = ""
    problems: tuple[str, ...] = ()
    breadth_problems: tuple[str, ...] = ()
    window: int = 0
    kv_bytes_per_1000_tokens: int = 0
    logits_difference: float | None = None
    adapter: str = ""
    adapter_problem: str = ""

    @property
    def supported(self) -> bool:
        return bool(self.engine) and not self.adapter_problem

    def as_dict(self) -> dict[str, object]:
        return asdict(self)

    def describe(self) -> str:
        lines = [f"{self.directory}: {self.family}"]
        lines += [f"  not supported by the decoder: {problem}" for problem in self.problems]
        lines += [f"  not supported through transformers: {problem}" for problem in self.breadth_problems]
        if not self.engine:
            return "\n".join(lines)
        lines.append(f"  runs with --engine {self.engine}" + (" (slower than the decoder)" if self.problems else ""))
        lines.append(f"  window {self.window:,} tokens")
        lines.append(f"  K/V {self.kv_bytes_per_1000_tokens / 2**20:.1f} MiB per 1,000 tokens in float32")
        if self.logits_difference is None:
            lines.append("  logits not compared: transformers is not installed")
        else:
            lines.append(f"  logits differ from transformers by at most {self.logits_difference:.1e} (float32)")
        lines += [f"  adapter: {self.adapter}"] if self.adapter else []
        lines += [f"  adapter not supported: {self.adapter_problem}"] if self.adapter_problem else []
        return "\n".join(lines)


def check_model(directory: Path, adapter: Path | None = None) -> ModelReport:
    """Check a checkpoint, and an adapter for it; what keeps it from being used is in the report. Raises CheckpointError
    if its config.json is unreadable.
    """
    raw = read_config(directory)
    family = str(raw.get("model_type", "unknown"))
    found = tuple(problems(raw))
    model, fault = (None, "") if found else _loaded("decoder", directory)
    found = (fault,) if fault else found
    backend: Backend = "decoder"
    beyond = ""
    if found:
        backend = "transformers"
        model, beyond = _loaded(backend, directory)
    if model is None:
        return ModelReport(str(directory), family, problems=found, breadth_problems=(beyond,))
    changes, wrong = _adapter(model, adapter) if adapter else ("", "")
    return ModelReport(
        str(directory),
        family,
        f"{KINDS[backend]}:{directory}",
        found,
        window=model.config.max_positions,
        kv_bytes_per_1000_tokens=1000 * model.config.kv_bytes_per_token(),
        logits_difference=_difference(model, directory),
        adapter=changes,
        adapter_problem=wrong,
    )


def _loaded(backend: Backend, directory: Path) -> tuple[Model | None, str]:
    """The model in float32, or what is wrong."""
    try:
        options = {"dtype": "float32", "device": "cpu", "kernel": "auto"}
        return load_model(backend, directory, **options, batch_invariant=False), ""
    except (CheckpointError, MissingExtraError) as error:
        return None, str(error)


def _adapter(model: Model, directory: Path) -> tuple[str, str]:
    """What an adapter changes, or what is wrong with it."""
    try:
        return _described(model.adapter(directory)), ""
    except CheckpointError as error:
        return "", str(error)


def _described(adapter: Adapter) -> str:
    size = sum(change.down.numel() + change.up.numel() for change in adapter.changes.values())
    return f"{adapter.directory} changes {len(adapter.changes)} weights, {size * 4 / 2**20:.1f} MiB in float32"


def _difference(model: Model, directory: Path) -> float | None:
    """Logits over views against those of `transformers` on the same few tokens."""
    if find_spec("transformers") is None:
        return None
    from .breadth import BreadthModel, from_pretrained, quiet

    if isinstance(model, BreadthModel):
        return model.difference
    ids = torch.arange(PROBE_TOKENS) % model.config.vocab_size
    slots = tuple(range(PROBE_TOKENS))
    block = QueryBlock(0, 0, slots, (KeyRun(0, PROBE_TOKENS, 0, 0, first=0),))
    ours = model.forward(ids, model.plan([block], PROBE_TOKENS), *model.new_pool(PROBE_TOKENS))
    with quiet(), torch.inference_mode():
        expected = from_pretrained(directory, torch.float32).eval()(ids[None]).logits[0]
    return float((ours - expected).abs().max())

"""What `plait models check` says of a checkpoint: family, what is unsupported, memory, logits beside `transformers`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

from ...errors import CheckpointError
from ...kernels import KeyRun, QueryBlock
from .config import ModelConfig, problems, read_config
from .decoder import Decoder

PROBE_TOKENS = 32


@dataclass(frozen=True, slots=True)
class ModelReport:
    """`logits_difference` is the largest absolute one in float32; None where `transformers` is not installed."""

    directory: str
    family: str
    problems: tuple[str, ...]
    window: int = 0
    kv_bytes_per_1000_tokens: int = 0
    logits_difference: float | None = None

    @property
    def supported(self) -> bool:
        return not self.problems

    def as_dict(self) -> dict[str, object]:
        return asdict(self)

    def describe(self) -> str:
        lines = [f"{self.directory}: {self.family}"]
        if self.problems:
            return "\n".join([*lines, *(f"  not supported: {problem}" for problem in self.problems)])
        lines.append(f"  window {self.window:,} tokens")
        lines.append(f"  K/V {self.kv_bytes_per_1000_tokens / 2**20:.1f} MiB per 1,000 tokens in float32")
        if self.logits_difference is None:
            lines.append("  logits not compared: transformers is not installed")
        else:
            lines.append(f"  logits differ from transformers by at most {self.logits_difference:.1e} (float32)")
        return "\n".join(lines)


def check_model(directory: Path) -> ModelReport:
    """Check a checkpoint; what keeps it from being used is in the report. Raises CheckpointError if unreadable."""
    raw = read_config(directory)
    family = str(raw.get("model_type", "unknown"))
    found = tuple(problems(raw))
    if found:
        return ModelReport(str(directory), family, found)
    config = ModelConfig.from_directory(directory)
    try:
        difference = _difference(directory)
    except CheckpointError as error:
        return ModelReport(str(directory), family, (str(error),))
    return ModelReport(str(directory), family, (), config.max_positions, 1000 * config.kv_bytes_per_token(), difference)


def _difference(directory: Path) -> float | None:
    """Our logits against those of `transformers` on the same few tokens."""
    decoder = Decoder.load(directory, dtype="float32")
    ids = torch.arange(PROBE_TOKENS) % decoder.config.vocab_size
    slots = tuple(range(PROBE_TOKENS))
    block = QueryBlock(0, 0, slots, (KeyRun(0, PROBE_TOKENS, 0, 0, first=0),))
    ours = decoder.forward(ids, decoder.plan([block], PROBE_TOKENS), *decoder.new_pool(PROBE_TOKENS))
    if find_spec("transformers") is None:
        return None
    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, local_files_only=True).eval()
    with torch.inference_mode():
        expected = theirs(ids[None]).logits[0]
    return float((ours - expected).abs().max())

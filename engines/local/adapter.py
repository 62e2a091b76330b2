"""Adapters: low-rank changes of a model's weights (LoRA, Hu et al. 2021, arXiv:2106.09685), one for each context."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """An adapter in memory. `salt` stands for its content: keys and values of another salt are never its own."""

    directory: Path
    salt: bytes

"""The vLLM engine: contexts of token ids on a vLLM server, or on its `AsyncLLM` in this process."""

from __future__ import annotations

from .counters import Counters
from .engine import VllmEngine

__all__ = ["Counters", "VllmEngine"]

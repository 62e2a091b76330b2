"""The SGLang engine: contexts of token ids on an SGLang server, or on its `Engine` in this process."""

from __future__ import annotations

from .counters import Counters
from .engine import SGLangEngine

__all__ = ["Counters", "SGLangEngine"]

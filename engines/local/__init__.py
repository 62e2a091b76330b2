"""The local engine: a shared KV pool and a lean decoder on torch."""

from __future__ import annotations

from .engine import EngineStats, LocalEngine

__all__ = ["EngineStats", "LocalEngine"]

"""Engines: what runs a model behind the protocol of `base`."""

from __future__ import annotations

from .base import (
    GREEDY,
    Capabilities,
    Choice,
    Chunk,
    Context,
    Engine,
    Generation,
    GenerationStream,
    Grammar,
    GrammarState,
    JsonSchema,
    Lark,
    Message,
    Prompt,
    Regex,
    Sampling,
)
from .catalog import open_engine

__all__ = [
    "GREEDY",
    "Capabilities",
    "Choice",
    "Chunk",
    "Context",
    "Engine",
    "Generation",
    "GenerationStream",
    "Grammar",
    "GrammarState",
    "JsonSchema",
    "Lark",
    "Message",
    "Prompt",
    "Regex",
    "Sampling",
    "open_engine",
]

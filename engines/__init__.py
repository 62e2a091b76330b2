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
    Member,
    Message,
    Prompt,
    Regex,
    Sampling,
    Stop,
    TeamChunk,
    TeamStream,
    Teamwork,
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
    "Member",
    "Message",
    "Prompt",
    "Regex",
    "Sampling",
    "Stop",
    "TeamChunk",
    "TeamStream",
    "Teamwork",
    "open_engine",
]

"""plait runs reasoning: graphs of thoughts, subtasks and tool calls, compiled onto one shared KV cache.

The public names are loaded on first use, so that `import plait` stays fast and never imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from . import recipes, tools
    from .engines import open_engine
    from .errors import PlaitError
    from .orchestrator import (
        Budget,
        Builder,
        Graph,
        Journal,
        Limits,
        Outcome,
        Question,
        Scope,
        Settled,
        all_of,
        any_of,
        graph,
        k_of,
        settled,
    )
    from .recipes import run, run_sync
    from .recipes.search.entry import search
    from .tools import tool

_HOME = {
    "Budget": "orchestrator",
    "Builder": "orchestrator",
    "Graph": "orchestrator",
    "Journal": "orchestrator",
    "Limits": "orchestrator",
    "Outcome": "orchestrator",
    "PlaitError": "errors",
    "Question": "orchestrator",
    "Scope": "orchestrator",
    "Settled": "orchestrator",
    "all_of": "orchestrator",
    "any_of": "orchestrator",
    "graph": "orchestrator",
    "k_of": "orchestrator",
    "open_engine": "engines",
    "run": "recipes",
    "run_sync": "recipes",
    "search": "recipes.search.entry",
    "settled": "orchestrator",
    "tool": "tools",
}
_MODULES = {"recipes", "tools"}

__all__ = [
    "Budget",
    "Builder",
    "Graph",
    "Journal",
    "Limits",
    "Outcome",
    "PlaitError",
    "Question",
    "Scope",
    "Settled",
    "__version__",
    "all_of",
    "any_of",
    "graph",
    "k_of",
    "open_engine",
    "recipes",
    "run",
    "run_sync",
    "search",
    "settled",
    "tool",
    "tools",
]


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module 'plait' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)

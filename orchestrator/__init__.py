"""The orchestrator: graphs of thoughts and calls, and their runs. It knows engines by their protocol only."""

from __future__ import annotations

from .builder import Builder
from .compile import Plan, compile_graph
from .declare import graph
from .display import Display
from .events import (
    Event,
    NodeCancelled,
    NodeFailed,
    NodeFinished,
    NodeNote,
    NodeStarted,
    NodeText,
    RunFailed,
    RunFinished,
    RunStarted,
)
from .graph import Graph
from .limits import Limits
from .run import Run
from .scope import Driver, Outcome, Scope

__all__ = [
    "Builder",
    "Display",
    "Driver",
    "Event",
    "Graph",
    "Limits",
    "NodeCancelled",
    "NodeFailed",
    "NodeFinished",
    "NodeNote",
    "NodeStarted",
    "NodeText",
    "Outcome",
    "Plan",
    "Run",
    "RunFailed",
    "RunFinished",
    "RunStarted",
    "Scope",
    "compile_graph",
    "graph",
]

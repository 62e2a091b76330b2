"""The orchestrator: graphs of thoughts and calls, and their runs. It knows engines by their protocol only."""

from __future__ import annotations

from .builder import Builder
from .compile import Plan, compile_graph
from .declare import graph
from .display import Display
from .event_file import EventFile, read_events
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
from .telemetry import Telemetry

__all__ = [
    "Builder",
    "Display",
    "Driver",
    "Event",
    "EventFile",
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
    "Telemetry",
    "compile_graph",
    "graph",
    "read_events",
]

"""The orchestrator: graphs of thoughts and calls, and their runs. It knows engines by their protocol only."""

from __future__ import annotations

from .budget import Budget, Price
from .builder import Builder
from .compile import Plan, compile_graph
from .declare import graph
from .display import Display
from .event_file import EventFile, read_events
from .events import (
    BudgetSpent,
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
from .joins import Failure, Join, Settled, all_of, any_of, k_of, settled
from .journal import Journal
from .limits import Limits
from .past import Past
from .question import Answer, Question
from .records import Record, RunRecord
from .run import Run
from .scope import Driver, Outcome, Scope
from .telemetry import Telemetry

__all__ = [
    "Answer",
    "Budget",
    "BudgetSpent",
    "Builder",
    "Display",
    "Driver",
    "Event",
    "EventFile",
    "Failure",
    "Graph",
    "Join",
    "Journal",
    "Limits",
    "NodeCancelled",
    "NodeFailed",
    "NodeFinished",
    "NodeNote",
    "NodeStarted",
    "NodeText",
    "Outcome",
    "Past",
    "Plan",
    "Price",
    "Question",
    "Record",
    "Run",
    "RunFailed",
    "RunFinished",
    "RunRecord",
    "RunStarted",
    "Scope",
    "Settled",
    "Telemetry",
    "all_of",
    "any_of",
    "compile_graph",
    "graph",
    "k_of",
    "read_events",
    "settled",
]

"""Trajectories as data: what agents have done, made parallel, judged and written down for training."""

from __future__ import annotations

from .annotate import annotate
from .call_graph import CallGraph
from .conversation import Conversation, parallel, serial
from .export import export
from .from_runs import trajectory_of
from .judging import Rate, rate, sopr, sowr
from .trajectory import Step, Trajectory, read_trajectories

__all__ = [
    "CallGraph",
    "Conversation",
    "Rate",
    "Step",
    "Trajectory",
    "annotate",
    "export",
    "parallel",
    "rate",
    "read_trajectories",
    "serial",
    "sopr",
    "sowr",
    "trajectory_of",
]

"""Conformance: one list of checks that every engine passes, run by users against their own servers (DESIGN.md §5).

    async with open_engine("openai:MODEL@http://HOST:8000") as engine:
        print((await check_engine(engine)).describe())

The checks need no particular model: a random one passes too. Where two generations should be the same, tokens may
differ from the first step on at which both candidates were as likely within `tolerance`, because a server's batches
round differently each time; what an engine without log-probabilities says twice has to be equal.
"""

from __future__ import annotations

from .check import Check, ConformanceError, Outcome, Report, Result, Trial, check_engine, run_check
from .checks import CHECKS

__all__ = ["CHECKS", "Check", "ConformanceError", "Outcome", "Report", "Result", "Trial", "check_engine", "run_check"]

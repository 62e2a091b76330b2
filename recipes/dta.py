"""Divide-Then-Aggregate: each step divides the task into function calls that run at once, then aggregates (2025)."""

from __future__ import annotations

from collections.abc import Sequence

from ..orchestrator import Builder, Graph, Scope, graph
from ..tools import Tool, ToolBox, default_tools
from .formats import Batches
from .turns import Bounds, solve


def dta(
    tools: Sequence[Tool] | None = None,
    *,
    max_steps: int = 12,
    max_calls: int = 200,
    max_restarts: int = 2,
    max_tokens: int = 1024,
) -> Graph[str]:
    """A graph that solves a task in batches of function calls: the process divides, a thread makes each call, and the
    process aggregates.

    Giving up starts anew, at most `max_restarts` times; each attempt has `max_steps` steps and `max_calls` calls (12
    and 200 in DTA-Llama), and calls beyond these are errors that the model reads.
    """
    box = ToolBox(default_tools() if tools is None else tools)
    bounds = Bounds(max_steps, max_tokens, restarts=max_restarts, calls=max_calls)

    async def divide_and_aggregate(scope: Scope, task: str) -> str:
        return await solve(scope, task, Batches(), box, bounds)

    @graph(name="dta")
    def build(g: Builder, task: str) -> str:
        return g.drive(divide_and_aggregate, task=task)

    return build

"""HybridDeepSearcher: each turn asks all independent queries at once; what depends on a result waits (2025)."""

from __future__ import annotations

from collections.abc import Sequence

from ..orchestrator import Builder, Graph, Scope, graph
from ..tools import Tool, ToolBox, default_tools
from .formats import Queries
from .turns import Bounds, solve


def hybrid_search(tools: Sequence[Tool] | None = None, *, max_turns: int = 10, max_tokens: int = 1024) -> Graph[str]:
    """A graph that answers a question with parallel queries, at most `max_turns` turns, then a forced answer."""
    return _search("hybrid_search", tools, Bounds(max_turns, max_tokens))


def serial_search(tools: Sequence[Tool] | None = None, *, max_turns: int = 30, max_tokens: int = 1024) -> Graph[str]:
    """The baseline: the same format, one query a turn."""
    return _search("serial_search", tools, Bounds(max_turns, max_tokens))


def _search(name: str, tools: Sequence[Tool] | None, bounds: Bounds) -> Graph[str]:
    box = ToolBox(default_tools() if tools is None else tools)

    async def search(scope: Scope, task: str) -> str:
        return await solve(scope, task, Queries(name), box, bounds)

    @graph(name=name)
    def build(g: Builder, task: str) -> str:
        return g.drive(search, task=task)

    return build

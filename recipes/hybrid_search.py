"""HybridDeepSearcher: each turn asks all independent queries at once; what depends on a result waits (2025)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..orchestrator import Builder, Graph, Scope, graph
from ..tools import Tool, ToolBox, default_tools
from .formats import Queries
from .formats.queries import LOOKUP
from .readers import Readers
from .settings import at_least
from .turns import Bounds, solve

READ_TOKENS = 128
"""Tokens that a reader may say of a document."""


def hybrid_search(
    tools: Sequence[Tool] | None = None,
    *,
    max_turns: int = 10,
    max_calls: int = 0,
    max_tokens: int = 1024,
    read: int = 0,
) -> Graph[str]:
    """A graph that answers a question with parallel queries.

    An answer is forced after `max_turns` turns, and after a turn that asks for more than `max_calls` calls (0: no
    bound). Queries go to the tool `lookup` or, where there is none, to the first one that takes a query, such as
    `file_search`. With `read` the first so many documents of each result are read by a thread each, on a fork of the
    conversation, and what they say of the query stands in the result's place.
    """
    return _search("hybrid_search", tools, Bounds(max_turns, max_tokens, calls=max_calls), read)


def serial_search(
    tools: Sequence[Tool] | None = None,
    *,
    max_turns: int = 30,
    max_calls: int = 0,
    max_tokens: int = 1024,
    read: int = 0,
) -> Graph[str]:
    """The baseline: the same format, one query a turn."""
    return _search("serial_search", tools, Bounds(max_turns, max_tokens, calls=max_calls), read)


def _search(name: str, tools: Sequence[Tool] | None, bounds: Bounds, read: int) -> Graph[str]:
    at_least(1, max_turns=bounds.turns, max_tokens=bounds.tokens)
    at_least(0, max_calls=bounds.calls, read=read)
    box = ToolBox(_with_lookup(default_tools() if tools is None else tools))

    async def search(scope: Scope, task: str) -> str:
        readers = Readers(LOOKUP, read, READ_TOKENS) if read else None
        return await solve(scope, task, Queries(name), box, bounds, readers)

    @graph(name=name)
    def build(g: Builder, task: str) -> str:
        return g.drive(search, task=task)

    return build


def _with_lookup(tools: Sequence[Tool]) -> list[Tool]:
    """The tools, with one that takes a query by the name that the format calls."""
    if any(tool.name == LOOKUP for tool in tools):
        return list(tools)
    takes = next((tool for tool in tools if "query" in tool.signature.arguments), None)
    return [replace(tool, name=LOOKUP) if tool is takes else tool for tool in tools]

"""Running an agent: `plait.run(agent, task, tools=[…])`, the shortest way from a task to its answer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from ..engines import Engine
from ..errors import InputError
from ..orchestrator import Answer, Budget, Event, Graph, Journal, Limits, Past
from ..orchestrator.budget import UNBOUNDED
from ..orchestrator.limits import UNLIMITED
from ..tools import Tool, ToolBox, default_tools
from .catalog import find_recipe

Agent: TypeAlias = "str | Callable[..., Graph[Any]] | Graph[Any]"
"""A recipe's name ("agent", "tim"), a function that makes a graph for tools (`plait.recipes.tim`), or a graph."""


async def run(
    agent: Agent,
    *task: object,
    tools: Sequence[Tool] | None = None,
    approve: Collection[str] = (),
    engine: Engine | str | None = "local",
    seed: int = 0,
    limits: Limits = UNLIMITED,
    answer: Answer | None = None,
    listeners: Sequence[Callable[[Event], None]] = (),
    journal: Journal | Past | str | Path | None = None,
    budget: Budget = UNBOUNDED,
) -> Any:
    """Let an agent do a task with tools, and give its answer.

    `approve` names the tools of which a person is asked before each call, and `answer` is who answers, those questions
    as all others of the run. The rest is as in Graph.run; a run that goes on from its journal needs no task. Raises
    InputError, UnknownNameError, and what Graph.run raises.
    """
    return await as_graph(agent, tools, approve).run(
        *task,
        engine=engine,
        seed=seed,
        limits=limits,
        answer=answer,
        listeners=listeners,
        journal=journal,
        budget=budget,
    )


def run_sync(
    agent: Agent,
    *task: object,
    tools: Sequence[Tool] | None = None,
    approve: Collection[str] = (),
    engine: Engine | str | None = "local",
    seed: int = 0,
    limits: Limits = UNLIMITED,
    answer: Answer | None = None,
    listeners: Sequence[Callable[[Event], None]] = (),
    journal: Journal | Past | str | Path | None = None,
    budget: Budget = UNBOUNDED,
) -> Any:
    """`run` for code without an event loop."""
    return as_graph(agent, tools, approve).run_sync(
        *task,
        engine=engine,
        seed=seed,
        limits=limits,
        answer=answer,
        listeners=listeners,
        journal=journal,
        budget=budget,
    )


def as_graph(agent: Agent, tools: Sequence[Tool] | None = None, approve: Collection[str] = ()) -> Graph[Any]:
    """The graph of an agent with these tools, those named in `approve` asking first. Raises InputError."""
    if isinstance(agent, Graph):
        if tools is not None or approve:
            raise InputError(f"graph '{agent.name}' has its tools already: give tools and approve to what makes it")
        return agent
    make = find_recipe(agent).make if isinstance(agent, str) else agent
    if "tools" not in inspect.signature(make).parameters:
        if tools is not None or approve:
            name = agent if isinstance(agent, str) else getattr(agent, "__name__", repr(agent))
            raise InputError(f"'{name}' takes no tools; an agent that does: plait.run('agent', …)")
        return make(None) if isinstance(agent, str) else make()
    return make(_asking_first(default_tools() if tools is None else tools, approve))


def _asking_first(tools: Sequence[Tool], approve: Collection[str]) -> list[Tool]:
    """The tools, those that are named asking a person before each call. Raises UnknownNameError."""
    box = ToolBox(tools)
    named = {box.get(name) for name in ([approve] if isinstance(approve, str) else approve)}
    return [replace(tool, approve=True) if tool in named else tool for tool in box]

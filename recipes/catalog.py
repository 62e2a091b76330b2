"""The catalogue of recipes: names, sources and how to make the graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import wraps
from typing import TYPE_CHECKING, Any

from ..errors import UnknownNameError
from .agent import agent
from .apr import apr
from .countdown import countdown, countdown_serial
from .dta import dta
from .group_think import group_think
from .hogwild import hogwild
from .hybrid_search import hybrid_search, serial_search
from .multiverse import multiverse
from .techniques.catalog import TECHNIQUES
from .tim import tim

if TYPE_CHECKING:
    from ..orchestrator import Graph
    from ..tools import Tool


@dataclass(frozen=True, slots=True)
class Recipe:
    """A published system: `make` builds its graph, `example` is a task it takes.

    `make` is given tools (None takes the default ones), and settings as keyword arguments.
    """

    name: str
    summary: str
    source: str
    example: str
    make: Callable[..., Graph[str]]


def _without_tools(make: Callable[..., Graph[str]]) -> Callable[..., Graph[str]]:
    """For a recipe that calls no tools."""

    @wraps(make)
    def made(tools: Sequence[Tool] | None, **settings: Any) -> Graph[str]:
        return make(**settings)

    return made


_QUESTION = "Which has more people, Peru or Chile plus Bolivia?"
_RECIPES = (
    Recipe("tim", "a task tree; tools run inside the one generation", "TIM and TIMRUN, 2025", _QUESTION, tim),
    Recipe(
        "hybrid_search",
        "all independent queries of a turn at once",
        "HybridDeepSearcher, 2025",
        _QUESTION,
        hybrid_search,
    ),
    Recipe("serial_search", "the same, one query a turn", "baseline", _QUESTION, serial_search),
    Recipe("dta", "batches of function calls, then aggregation", "Divide-Then-Aggregate, 2025", _QUESTION, dta),
    Recipe(
        "agent",
        "parallel tool calls, as the model was trained to write them",
        "Hermes, Llama, OpenAI, ReAct",
        _QUESTION,
        agent,
    ),
    Recipe(
        "apr",
        "threads that spawn children, see their results only, and go on",
        "Adaptive Parallel Reasoning, 2025",
        "Which is larger, 17 * 23 or 19 * 21?",
        _without_tools(apr),
    ),
    Recipe(
        "countdown",
        "numbers to a target; spawn and join",
        "Adaptive Parallel Reasoning, 2025",
        "24: 3 8 1 2",
        _without_tools(countdown),
    ),
    Recipe(
        "hogwild",
        "workers who see each other's steps while they write them",
        "Hogwild! Inference, 2025",
        _QUESTION,
        _without_tools(hogwild),
    ),
    Recipe(
        "group_think",
        "thinkers who see each other's lines token by token",
        "Group Think, 2025",
        _QUESTION,
        _without_tools(group_think),
    ),
    Recipe(
        "multiverse",
        "parts that don't depend on each other, written at once and merged",
        "Multiverse, 2025",
        "Which is larger, 17 * 23 or 19 * 21?",
        _without_tools(multiverse),
    ),
    Recipe("countdown_serial", "the same in one thread", "baseline", "24: 3 8 1", _without_tools(countdown_serial)),
    *(Recipe(name, summary, source, _QUESTION, make) for name, summary, source, make in TECHNIQUES),
)
RECIPES = {recipe.name: recipe for recipe in _RECIPES}


def find_recipe(name: str) -> Recipe:
    """The recipe of this name. Raises UnknownNameError that names the nearest one."""
    if name in RECIPES:
        return RECIPES[name]
    near = get_close_matches(name, RECIPES, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise UnknownNameError(f"unknown recipe '{name}'; {hint}known: {', '.join(RECIPES)}")

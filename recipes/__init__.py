"""Recipes: published systems, each a graph that fits on about a screen."""

from __future__ import annotations

from . import archon, techniques
from .agent import agent
from .apr import apr
from .catalog import RECIPES, Recipe, find_recipe
from .countdown import countdown, countdown_serial
from .dta import dta
from .embedding import embed_by
from .group_think import group_think
from .hogwild import hogwild
from .hybrid_search import hybrid_search, serial_search
from .multiverse import multiverse
from .running import as_graph, run, run_sync
from .tim import tim

__all__ = [
    "RECIPES",
    "Recipe",
    "agent",
    "apr",
    "archon",
    "as_graph",
    "countdown",
    "countdown_serial",
    "dta",
    "embed_by",
    "find_recipe",
    "group_think",
    "hogwild",
    "hybrid_search",
    "multiverse",
    "run",
    "run_sync",
    "serial_search",
    "techniques",
    "tim",
]

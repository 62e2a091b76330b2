"""Recipes: published systems, each a graph that fits on about a screen."""

from __future__ import annotations

from .apr import apr
from .catalog import RECIPES, Recipe, find_recipe
from .countdown import countdown, countdown_serial
from .dta import dta
from .group_think import group_think
from .hogwild import hogwild
from .hybrid_search import hybrid_search, serial_search
from .multiverse import multiverse
from .tim import tim

__all__ = [
    "RECIPES",
    "Recipe",
    "apr",
    "countdown",
    "countdown_serial",
    "dta",
    "find_recipe",
    "group_think",
    "hogwild",
    "hybrid_search",
    "multiverse",
    "serial_search",
    "tim",
]

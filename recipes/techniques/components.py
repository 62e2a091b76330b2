"""Components: stages by name and parameters, as search spaces, files and other recipes give them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields
from difflib import get_close_matches
from functools import cache
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ...errors import InputError, UnknownNameError
from ...orchestrator import Graph
from .chain import chain
from .critique import Critique
from .debate import Debate
from .fuse import Fuse
from .generate import Generate
from .rank import Compare, Rank
from .refine import Refine
from .result import Result
from .retrieval import Drag, IterDrag
from .score import Certainty, Checked, Judge, Reward
from .searches import AdaptiveBranching, AStar, Beam, MonteCarlo, Particles, TreeOfThoughts
from .selection import Agreement, Checklist
from .spec_reason import SpecReason
from .stage import Stage
from .unit_tests import ExecuteTests, JudgeTests, WriteTests
from .verify import Verify
from .vote import AdaptiveVote, Vote

COMPONENTS: dict[str, type[Stage]] = {
    stage.kind: stage
    for stage in (
        AStar,
        AdaptiveBranching,
        AdaptiveVote,
        Agreement,
        Beam,
        Certainty,
        Checked,
        Checklist,
        Compare,
        Critique,
        Debate,
        Drag,
        ExecuteTests,
        Fuse,
        Generate,
        IterDrag,
        Judge,
        JudgeTests,
        MonteCarlo,
        Particles,
        Rank,
        Refine,
        Reward,
        SpecReason,
        TreeOfThoughts,
        Verify,
        Vote,
        WriteTests,
    )
}


def component(name: str, **parameters: Any) -> Stage:
    """A stage by its kind: `component("generate", samples=5, temperature=0.8)`.

    Raises UnknownNameError for a kind, and InputError for a parameter, that does not exist or can't be used.
    """
    if name not in COMPONENTS:
        raise UnknownNameError(f"unknown component '{name}'; {_near(name, COMPONENTS)}known: {', '.join(COMPONENTS)}")
    stage = COMPONENTS[name]
    known = parameters_of(stage)
    values = {}
    for parameter, value in parameters.items():
        if parameter not in known:
            hint = _near(parameter, known)
            raise InputError(f"component '{name}' has no parameter '{parameter}'; {hint}it takes: {', '.join(known)}")
        try:
            values[parameter] = known[parameter].validate_python(value)
        except ValidationError as error:
            reason = error.errors(include_url=False)[0]["msg"]
            raise InputError(f"component '{name}' can't take {parameter}={value!r:.60}: {reason}") from None
    required = [field.name for field in fields(stage) if field.name not in values and not _has_default(field)]
    if required:
        raise InputError(f"component '{name}' needs {', '.join(required)}")
    return stage(**values)


def chain_of(components: Iterable[Mapping[str, Any]], *, name: str = "chain") -> Graph[Result]:
    """A chain as data: `[{"component": "generate", "samples": 5}, {"component": "vote"}]`. Raises as `component`."""
    return chain([_read(place, entry) for place, entry in enumerate(components, 1)], name=name)


def _read(place: int, entry: Mapping[str, Any]) -> Stage:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("component"), str):
        raise InputError(f"component {place} of the chain is {entry!r:.60}; write {{'component': 'generate', …}}")
    return component(entry["component"], **{key: value for key, value in entry.items() if key != "component"})


@cache
def parameters_of(stage: type[Stage]) -> dict[str, TypeAdapter[Any]]:
    """What a stage takes, by name."""
    hints = get_type_hints(stage)
    free = ConfigDict(arbitrary_types_allowed=True)
    return {field.name: TypeAdapter(hints[field.name], config=free) for field in fields(stage)}


def _has_default(field: Field[Any]) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def _near(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"did you mean '{near[0]}'? " if near else ""

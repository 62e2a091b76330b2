"""The space: typed, conditional dimensions of an architecture, and the rules that its points have to keep."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from random import Random
from typing import Any, Protocol, TypeAlias

from ...errors import InputError
from ...orchestrator import Graph
from ..techniques import Result, chain_of

Point: TypeAlias = Mapping[str, Any]
"""A value for each dimension that applies."""

When: TypeAlias = Mapping[str, Sequence[Any]]
"""Dimensions that come before, each with the values under which another one applies."""

ALWAYS: When = {}
_TRIES = 10_000


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several values: techniques, engines, prompts, orders."""

    name: str
    options: tuple[Any, ...]
    when: When = field(default_factory=dict)

    def fault(self) -> str:
        if not self.options:
            return "has no options"
        written = [json.dumps(option, sort_keys=True, default=str) for option in self.options]
        return "has an option twice" if len(set(written)) < len(written) else ""

    def values(self) -> Sequence[Any] | None:
        return self.options

    @property
    def is_ordered(self) -> bool:
        """Whether the options are rising numbers, so that neighbours are alike."""
        numbers = [one for one in self.options if isinstance(one, int | float) and not isinstance(one, bool)]
        return len(numbers) == len(self.options) > 2 and numbers == sorted(numbers)


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from `low` to `high`, both included: counts, samples, layers."""

    name: str
    low: int
    high: int
    step: int = 1
    when: When = field(default_factory=dict)

    def fault(self) -> str:
        return "" if self.low <= self.high and self.step > 0 else f"goes from {self.low} to {self.high} by {self.step}"

    def values(self) -> Sequence[Any] | None:
        return range(self.low, self.high + 1, self.step)


@dataclass(frozen=True, slots=True)
class Real:
    """A number from `low` to `high`: temperatures, thresholds."""

    name: str
    low: float
    high: float
    log: bool = False
    when: When = field(default_factory=dict)

    def fault(self) -> str:
        fits = math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high
        return "" if fits and (self.low > 0 or not self.log) else f"goes from {self.low} to {self.high}"

    def values(self) -> Sequence[Any] | None:
        return None


Dimension: TypeAlias = Choice | Whole | Real


@dataclass(frozen=True, slots=True)
class Rule:
    """What every point has to keep, in words and as a function."""

    text: str
    holds: Callable[[Point], bool]


class Draw(Protocol):
    """Draws values, as an Optuna trial does."""

    def suggest_categorical(self, name: str, choices: Any, /) -> Any: ...
    def suggest_int(self, name: str, low: int, high: int, /, *, step: int = 1) -> int: ...
    def suggest_float(self, name: str, low: float, high: float, /, *, log: bool = False) -> float: ...


Architecture: TypeAlias = Callable[[Point], Any]
"""What a point means: a chain's components as data, Archon's configuration as data, or a graph."""


@dataclass(frozen=True, slots=True)
class Space:
    """Dimensions in order, rules, and what a point means. A dimension may depend on those before it.

    `Space("samples", [Whole("samples", 1, 10)], architecture=lambda p: [{"component": "generate", **p}])`. Raises
    InputError for a contradiction: no options, a dimension that depends on none before it, rules that nothing keeps.
    """

    name: str
    dimensions: Sequence[Dimension]
    architecture: Architecture
    rules: Sequence[Rule] = ()

    def __post_init__(self) -> None:
        if not self.dimensions:
            raise InputError(f"space '{self.name}' has no dimensions; there is nothing to search")
        before: dict[str, Dimension] = {}
        for dimension in self.dimensions:
            self._check(dimension, before)
            before[dimension.name] = dimension
        if self._first() is None:
            texts = "; ".join(rule.text for rule in self.rules)
            raise InputError(f"space '{self.name}' contradicts itself: no point keeps all of its rules ({texts})")

    # ---- points

    def draw(self, draw: Draw) -> dict[str, Any]:
        """A point, each value drawn by name once it is known to apply. It may break a rule."""
        point: dict[str, Any] = {}
        for dimension in self.dimensions:
            if not applies(dimension, point):
                continue
            match dimension:
                case Choice(options=options, is_ordered=True):
                    point[dimension.name] = options[draw.suggest_int(dimension.name, 0, len(options) - 1)]
                case Choice(options=options):
                    point[dimension.name] = options[draw.suggest_categorical(dimension.name, range(len(options)))]
                case Whole():
                    point[dimension.name] = draw.suggest_int(
                        dimension.name, dimension.low, dimension.high, step=dimension.step
                    )
                case Real():
                    point[dimension.name] = draw.suggest_float(
                        dimension.name, dimension.low, dimension.high, log=dimension.log
                    )
        return point

    def broken(self, point: Point) -> list[str]:
        """The rules that a point breaks, in words; what is no point of the space at all is one of them."""
        fault = self._misfit(point)
        return [fault] if fault else [rule.text for rule in self.rules if not rule.holds(point)]

    def points(self) -> Iterator[dict[str, Any]]:
        """All valid points. Raises InputError for a space with a real dimension."""
        endless = [dimension.name for dimension in self.dimensions if dimension.values() is None]
        if endless:
            raise InputError(f"space '{self.name}' can't be counted: {', '.join(endless)} may be any number")
        for point in self._every({}, list(self.dimensions)):
            if all(rule.holds(point) for rule in self.rules):
                yield point

    @property
    def is_finite(self) -> bool:
        return all(dimension.values() is not None for dimension in self.dimensions)

    def graph(self, point: Point) -> Graph[Any]:
        """The graph of a point. Raises InputError for one that breaks a rule, and what its components raise."""
        broken = self.broken(point)
        if broken:
            raise InputError(f"{dict(point)} is not in space '{self.name}': {'; '.join(broken)}")
        return graph_of(self.architecture(point), self.name)

    # ---- parts

    def _check(self, dimension: Dimension, before: Mapping[str, Dimension]) -> None:
        where = f"dimension '{dimension.name}' of space '{self.name}'"
        if dimension.name in before:
            raise InputError(f"{where} is there twice; names tell dimensions apart")
        fault = dimension.fault()
        if fault:
            raise InputError(f"{where} {fault}; nothing can be drawn from it")
        for name, values in dimension.when.items():
            if name not in before:
                raise InputError(f"{where} depends on '{name}', which does not come before it")
            possible = before[name].values()
            if possible is not None and not any(value in possible for value in values):
                raise InputError(f"{where} never applies: '{name}' is none of {list(values)}")

    def _every(self, point: dict[str, Any], left: list[Dimension]) -> Iterator[dict[str, Any]]:
        if not left:
            yield dict(point)
            return
        dimension, *rest = left
        if not applies(dimension, point):
            yield from self._every(point, rest)
            return
        for value in dimension.values() or ():
            yield from self._every({**point, dimension.name: value}, rest)

    def _first(self) -> Point | None:
        """A valid point, if one is found."""
        if self.is_finite:
            return next(self.points(), None)
        random = RandomDraw(Random(0))
        drawn = (self.draw(random) for _ in range(_TRIES))
        return next((point for point in drawn if not self.broken(point)), None)

    def _misfit(self, point: Point) -> str:
        known = dict[str, Any]()
        for dimension in self.dimensions:
            if not applies(dimension, known):
                continue
            if dimension.name not in point:
                return f"it has no '{dimension.name}'"
            value = known[dimension.name] = point[dimension.name]
            values = dimension.values()
            fits = value in values if values is not None else _within(dimension, value)
            if not fits:
                return f"{dimension.name}={value!r} is not in its dimension"
        extra = set(point) - set(known)
        return f"'{min(extra)}' does not apply" if extra else ""


@dataclass(frozen=True, slots=True)
class RandomDraw:
    """Draws evenly."""

    random: Random

    def suggest_categorical(self, name: str, choices: Any, /) -> Any:
        return self.random.choice(choices)

    def suggest_int(self, name: str, low: int, high: int, /, *, step: int = 1) -> int:
        return self.random.randrange(low, high + 1, step)

    def suggest_float(self, name: str, low: float, high: float, /, *, log: bool = False) -> float:
        return math.exp(self.random.uniform(math.log(low), math.log(high))) if log else self.random.uniform(low, high)


def applies(dimension: Dimension, point: Point) -> bool:
    """Whether a dimension has a value beside those that a point has already."""
    return all(name in point and point[name] in values for name, values in dimension.when.items())


def orders(name: str, items: Sequence[Any], *, least: int = 1, most: int = 0, when: When = ALWAYS) -> Choice:
    """Which of the items, and in which order: a choice of lists."""
    sizes = range(least, (most or len(items)) + 1)
    return Choice(name, tuple(list(chosen) for size in sizes for chosen in permutations(items, size)), when)


def key_of(point: Point) -> str:
    """The same text for the same point."""
    return json.dumps(point, sort_keys=True, default=str)


def graph_of(architecture: Any, name: str) -> Graph[Result] | Graph[Any]:
    """The graph of what a point means."""
    if isinstance(architecture, Graph):
        return architecture
    if isinstance(architecture, Mapping) and "layers" in architecture:
        from ..archon import archon, read_config

        return archon(read_config(json.dumps(architecture)))
    parts = architecture["components"] if isinstance(architecture, Mapping) else architecture
    return chain_of(parts, name=name)


def _within(dimension: Dimension, value: Any) -> bool:
    assert isinstance(dimension, Real)
    return isinstance(value, int | float) and dimension.low <= value <= dimension.high


def describe(space: Space) -> dict[str, Any]:
    """What a space holds, as data: `candidates` is None where they can't be counted."""
    dimensions = {dimension.name: _in_words(dimension) for dimension in space.dimensions}
    count = sum(1 for _ in space.points()) if space.is_finite else None
    rules = [rule.text for rule in space.rules]
    return {"space": space.name, "dimensions": dimensions, "rules": rules, "candidates": count}


def count_compiled(space: Space) -> int:
    """Compile the graph of every candidate; how many there are. Raises what the first one that can't be raises."""
    from ...orchestrator.compile import compile_graph

    count = 0
    for point in space.points():
        compile_graph(space.graph(point), None)
        count += 1
    return count


def _in_words(dimension: Dimension) -> str:
    match dimension:
        case Choice(options=options):
            text = ", ".join(map(str, options))
        case Whole(low=low, high=high, step=step):
            text = f"{low} to {high}" + (f" by {step}" if step > 1 else "")
        case Real(low=low, high=high):
            text = f"{low:g} to {high:g}, any number"
    conditions = [f"{name} is {' or '.join(map(str, values))}" for name, values in dimension.when.items()]
    return text + (f" (where {' and '.join(conditions)})" if conditions else "")

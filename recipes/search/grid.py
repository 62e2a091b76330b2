"""The points of a finite space as a grid: which are free, and which free one is nearest to another."""

from __future__ import annotations

from collections.abc import Collection
from random import Random
from typing import Any

from .space import Choice, Dimension, Point, Space, key_of

ABSENT = -1.0


class Grid:
    """All points of a space. Two are as far apart as their dimensions add up to: a number's share of its range, and 1
    where options differ or one point has no value."""

    def __init__(self, space: Space, seed: int) -> None:
        import numpy

        self.points = list(space.points())
        Random(f"grid {seed}").shuffle(self.points)  # of equally near ones the seed says which comes first
        self._space = space
        self._places = {key_of(point): place for place, point in enumerate(self.points)}
        self._matrix = numpy.array([self._encode(point) for point in self.points])
        self._numeric = numpy.array([not _is_unordered(dimension) for dimension in space.dimensions])
        self._free = numpy.ones(len(self.points), dtype=bool)

    def take(self, keys: Collection[str]) -> None:
        """These are free no longer."""
        self._free[[self._places[key] for key in keys if key in self._places]] = False

    def nearest(self, point: Point) -> dict[str, Any] | None:
        """The free point that is nearest; None where none is free."""
        import numpy

        if not self._free.any():
            return None
        apart = numpy.abs(self._matrix - numpy.array(self._encode(point)))
        whole = (apart > 0) & (~self._numeric | (self._matrix == ABSENT) | (numpy.array(self._encode(point)) == ABSENT))
        apart[whole] = 1.0
        distance = apart.sum(axis=1)
        distance[~self._free] = numpy.inf
        return self.points[int(distance.argmin())]

    def _encode(self, point: Point) -> list[float]:
        return [_place(dimension, point) for dimension in self._space.dimensions]


def _place(dimension: Dimension, point: Point) -> float:
    """Where a value stands in its dimension: options by their number, numbers by their share of the range."""
    values = dimension.values() or ()
    if dimension.name not in point:
        return ABSENT
    place = list(values).index(point[dimension.name])
    return float(place) if _is_unordered(dimension) else place / max(1, len(values) - 1)


def _is_unordered(dimension: Dimension) -> bool:
    return isinstance(dimension, Choice) and not dimension.is_ordered

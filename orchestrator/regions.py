"""Regions: the nodes that only one item of a gather needs, which a loser takes along when it is cancelled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .compound import Gather
from .graph import Constant, Graph, Input, Node, edges_of


@dataclass(frozen=True, slots=True)
class Region:
    """What item `index` of a gather alone needs; `around` is the region in which the gather itself stands."""

    gather: str
    index: int
    around: Region | None
    nodes: list[str] = field(default_factory=list)


def find_regions(graph: Graph[Any], ordered: Sequence[Node]) -> Mapping[str, Region]:
    """The innermost region of each node that stands in one; a region's `nodes` hold those of inner ones too.

    `ordered` are the nodes, each after those that it waits for. Read from the end: a node stands where all who read it
    stand, that is in the innermost region around all of them.
    """
    if not any(isinstance(node, Gather) for node in ordered):
        return {}
    stands: dict[str, list[Region | None]] = {node.name: [] for node in ordered}
    found: dict[str, Region] = {}
    for edge in edges_of(graph.result):
        stands[edge.node].append(None)
    for node in reversed(ordered):
        home = _around(stands[node.name])
        if home is not None and not isinstance(node, Input | Constant):
            found[node.name] = home
            for region in _outwards(home):
                region.nodes.append(node.name)
        for key, argument in node.arguments.items():
            place = Region(node.name, int(key), home) if isinstance(node, Gather) else home
            for edge in edges_of(argument):
                stands[edge.node].append(place)
        if node.after:
            stands[node.after].append(home)
    return found


def _around(places: Sequence[Region | None]) -> Region | None:
    """The innermost region around all the places."""
    common = list(_outwards(places[0]))
    for place in places[1:]:
        those = {id(region) for region in _outwards(place)}
        common = [region for region in common if id(region) in those]
    return common[0] if common else None


def _outwards(region: Region | None) -> Iterator[Region]:
    while region is not None:
        yield region
        region = region.around

"""Prefixes that several thoughts begin with: the first to encode one goes ahead, the others find its K/V there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import anyio

from .compound import Loop, Select, graphs_in
from .graph import Graph, Map, Think

WORTH_A_WAIT = 64
"""Characters: about a page of tokens, the least that engines share."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """Text with which the thoughts at `paths` begin: their system message, and what their templates have in common.

    `key` is the same for the same prefix in every graph of a run; `many` says that one of the thoughts runs again and
    again.
    """

    key: str
    system: str
    text: str
    paths: tuple[str, ...]
    many: bool

    @property
    def shared(self) -> bool:
        """Whether it is worth a wait: others begin with it, and it is not short."""
        return (self.many or len(self.paths) > 1) and len(self.system + self.text) >= WORTH_A_WAIT


def find_prefixes(graph: Graph[Any]) -> tuple[Prefix, ...]:
    """The prefixes that more than one thought of a graph, and of the graphs in it, begins with."""
    groups: dict[tuple[str, str], list[tuple[str, Think, bool]]] = {}
    for path, node, many in _beginnings(graph, "", many=False):
        key = (node.system, "" if node.system else first_literal(node))
        if any(key):
            groups.setdefault(key, []).append((path, node, many))
    found = (
        Prefix(
            key=prefix_key(members[0][1]),
            system=system,
            text=_common([first_literal(node) for _, node, _ in members]),
            paths=tuple(path for path, _, _ in members),
            many=any(many for _, _, many in members),
        )
        for (system, _), members in groups.items()
    )
    return tuple(prefix for prefix in found if prefix.shared)


def first_literal(node: Think) -> str:
    """What a template says before its first value."""
    return node.template.pieces[0][0] if node.template.pieces else ""


def prefix_key(node: Think) -> str:
    """What tells the prefixes of thoughts apart: the system message, or else the beginning of the template."""
    return node.system or first_literal(node)


def _common(texts: Sequence[str]) -> str:
    """What all texts begin with."""
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*texts, strict=False))
    return "".join(letters[0] for letters in alike)


def _beginnings(graph: Graph[Any], above: str, *, many: bool) -> Iterator[tuple[str, Think, bool]]:
    """The thoughts that begin a context, each with its path and whether it runs many times."""
    for node in graph.nodes:
        path = f"{above}{node.name}"
        if isinstance(node, Think) and not node.after:
            yield path, node, many
        for _, inner in graphs_in(node):
            yield from _beginnings(inner, f"{path}/", many=many or isinstance(node, Map | Select | Loop))


class Leads:
    """Who encodes a shared prefix first. `shared` are the prefixes' keys."""

    def __init__(self, shared: Iterable[str] = ()) -> None:
        self._shared = frozenset(shared)
        self._encoded: set[str] = set()
        self._under_way: dict[str, anyio.Event] = {}

    @asynccontextmanager
    async def follow(self, key: str) -> AsyncIterator[None]:
        """Wait while another encodes the prefix for the first time; if that fails, one of those who wait goes ahead."""
        while key in self._under_way:
            await self._under_way[key].wait()
        if key not in self._shared or key in self._encoded:
            yield
            return
        done = self._under_way[key] = anyio.Event()
        try:
            yield
            self._encoded.add(key)
        finally:
            del self._under_way[key]
            done.set()

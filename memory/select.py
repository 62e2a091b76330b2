"""Selection: the concepts and lessons that fit a task best, by their words, by their meaning, or by both."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ..errors import CapabilityError, MissingExtraError
from .concept import Concept, Lesson
from .store import Memory

if TYPE_CHECKING:
    from ..engines import Engine

By: TypeAlias = Literal["words", "meaning", "both"]

RANKED = 50
"""How many of each list are ranked together."""
RANK_WEIGHT = 60
"""The constant of reciprocal rank fusion (Cormack et al. 2009)."""
BATCH = 256
"""How many vectors are made between two writes."""


class Selector:
    """Selects from a memory, `await Selector(memory, engine).select("fill the holes")`.

    Meaning is compared by the engine's embeddings (any engine with the capability `embed`): the cosine of the task's
    vector with every entry's, so nothing is missed. Vectors are kept in the memory; `select` makes those that are
    missing first.
    """

    def __init__(self, memory: Memory, engine: Engine) -> None:
        if find_spec("numpy") is None:
            raise MissingExtraError("selection by meaning", "memory")
        if not engine.capabilities.embed:
            raise CapabilityError(
                f"engine '{engine.name}' embeds nothing; select by words with Memory.search, or use 'local'"
            )
        self._memory = memory
        self._engine = engine
        self._version = (-1, -1)
        self._items: Any = ()
        self._matrix: Any = ()

    async def select(self, task: str, *, top: int = 10, by: By = "both") -> list[Concept | Lesson]:
        """The `top` that fit best, the best first."""
        if by == "words":
            return self._memory.search(task, top)
        await self.embed()
        if by == "meaning":
            return self._memory.take(self._nearest(await self._vector(task), top))
        near = self._nearest(await self._vector(task), max(top, RANKED))
        return self._memory.take(fuse([self._memory.find(task, max(top, RANKED)), near])[:top])

    async def embed(self) -> int:
        """Make the vectors that are missing; how many there were."""
        made = 0
        while items := self._memory.without_vector(self._engine.name, BATCH):
            entries = self._memory.numbered(items)
            vectors = {item: (await self._vector(entry.text)).tobytes() for item, entry in entries.items()}
            self._memory.keep_vectors(self._engine.name, vectors)
            made += len(vectors)
        return made

    def _nearest(self, vector: Any, top: int) -> list[int]:
        """The numbers of the entries whose direction is nearest to one."""
        import numpy

        version = self._memory.version
        if version != self._version:
            rows = self._memory.vectors(self._engine.name)
            self._items = numpy.array([item for item, _ in rows])
            self._matrix = numpy.frombuffer(b"".join(row for _, row in rows), dtype=numpy.float32)
            self._matrix = self._matrix.reshape(len(rows), -1) if rows else self._matrix.reshape(0, len(vector))
            self._version = version
        nearness = self._matrix @ vector
        best = numpy.argpartition(-nearness, top)[:top] if top < len(nearness) else numpy.arange(len(nearness))
        return [int(item) for item in self._items[best[numpy.argsort(-nearness[best], kind="stable")]]]

    async def _vector(self, text: str) -> Any:
        """Its direction, [size] of float32."""
        import numpy

        context = await self._engine.start(text)
        try:
            vector = numpy.asarray(await context.embed(), dtype=numpy.float32)
        finally:
            context.release()
        return vector / max(float(numpy.linalg.norm(vector)), 1e-12)


def fuse(rankings: Sequence[Sequence[int]]) -> list[int]:
    """Several rankings as one: each place is worth 1 / (RANK_WEIGHT + place), summed; ties as in the first ranking."""
    worth = dict[int, float]()
    for ranking in rankings:
        for place, item in enumerate(ranking, 1):
            worth[item] = worth.get(item, 0.0) + 1 / (RANK_WEIGHT + place)
    return sorted(worth, key=lambda item: -worth[item])

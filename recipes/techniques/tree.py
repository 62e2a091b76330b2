"""The tree of partial answers that searches grow: plain data, told apart from the algorithms that read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .result import order

ROOT = 0


@dataclass(slots=True)
class Thought:
    """A step of an answer. `text` is its own, `value` from 0 to 1 what the scorer says of the answer up to it.

    `finished` says that the answer ends with it. `visits` and `total` are a search's own counts of values that came
    back from below; `cost` is what a search has reckoned for it.
    """

    index: int
    parent: int
    text: str
    depth: int = 0
    value: float = 0.0
    finished: bool = False
    visits: int = 0
    total: float = 0.0
    cost: float = 0.0
    children: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Tree:
    """All thoughts, by index; the first is the task, before anything was thought. `seed` breaks ties and draws.

    `front` is for searches that keep a population; `expansions` counts those that were asked for.
    """

    seed: int
    thoughts: list[Thought] = field(default_factory=lambda: [Thought(ROOT, -1, "")])
    front: list[int] = field(default_factory=lambda: [ROOT])
    expansions: int = 0

    def __getitem__(self, index: int) -> Thought:
        return self.thoughts[index]

    def add(self, parent: int, text: str, value: float, *, finished: bool) -> Thought:
        """A new step after a thought."""
        above = self.thoughts[parent]
        grown = Thought(len(self.thoughts), parent, text, above.depth + 1, value, finished)
        self.thoughts.append(grown)
        above.children.append(grown.index)
        return grown

    def path(self, index: int) -> Iterator[Thought]:
        """A thought and those above it, up to the root."""
        while index >= 0:
            yield self.thoughts[index]
            index = self.thoughts[index].parent

    def text(self, index: int) -> str:
        """The answer up to a thought."""
        return "".join(reversed([thought.text for thought in self.path(index)]))

    def best_first(self, indices: Sequence[int]) -> list[int]:
        """Thoughts by falling value; equal ones in an order that the seed gives."""
        return [indices[place] for place in order([self.thoughts[index].value for index in indices], self.seed)]

    @property
    def finished(self) -> list[int]:
        return [thought.index for thought in self.thoughts if thought.finished]

    @property
    def leaves(self) -> list[int]:
        """Thoughts that could still be expanded: neither finished nor expanded yet."""
        return [thought.index for thought in self.thoughts if not thought.finished and not thought.children]

    def back_up(self, index: int, value: float) -> None:
        """Count a value at a thought and at all above it."""
        for thought in self.path(index):
            thought.visits += 1
            thought.total += value

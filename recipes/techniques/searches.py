"""Searches over the steps of an answer, each an algorithm that asks and is told: beam, A*, MCTS and others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar, Literal

from ...errors import InputError
from ...orchestrator.wording import derive_seed
from ..prompt import render
from ..settings import at_least
from .tree import ROOT, Thought, Tree
from .tree_search import TreeSearch


@dataclass(frozen=True, slots=True, kw_only=True)
class Beam(TreeSearch):
    """The `beams` best answers so far go on, all side by side, until they are finished; with one beam it is step-level
    greedy search. A finished answer keeps its place among the beams."""

    kind: ClassVar[str] = "beam"

    beams: int = 3

    def __post_init__(self) -> None:
        TreeSearch.__post_init__(self)
        at_least(1, beams=self.beams)

    def ask(self, tree: Tree) -> list[int]:
        tree.front = tree.best_first(tree.front)[: self.beams]
        return [index for index in tree.front if not tree[index].finished]

    def tell(self, tree: Tree, grown: Sequence[Thought]) -> None:
        tree.front = [index for index in tree.front if tree[index].finished] + [thought.index for thought in grown]


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeOfThoughts(TreeSearch):
    """Tree of Thoughts (Yao et al., arXiv:2305.10601). In `breadth` the `keep` best of each level go on; in `depth` the
    best child goes on, one below `least` is not gone on from, and the search ends at a finished answer that is worth
    `enough`, or goes back to the next best."""

    kind: ClassVar[str] = "tree_of_thoughts"

    first: Literal["breadth", "depth"] = "breadth"
    keep: int = 5
    least: float = 0.3
    enough: float = 0.9

    def ask(self, tree: Tree) -> list[int]:
        if self.first == "breadth":
            return tree.best_first([index for index in tree.front if not tree[index].finished])[: self.keep]
        if any(tree[index].value >= self.enough for index in tree.finished):
            return []
        while tree.front:
            index = tree.front.pop()
            if index == ROOT or (not tree[index].finished and tree[index].value >= self.least):
                return [index]
        return []

    def tell(self, tree: Tree, grown: Sequence[Thought]) -> None:
        new = tree.best_first([thought.index for thought in grown])
        tree.front = new if self.first == "breadth" else [*tree.front, *reversed(new)]


@dataclass(frozen=True, slots=True, kw_only=True)
class AStar(TreeSearch):
    """A* over partial answers: f = g + h, with h = 1 − value, and g the sum of the rises of h on the way.

    f is never less than its parent's. The thoughts of least f are expanded, `at_once` of them side by side, until the
    least is a finished answer.
    """

    kind: ClassVar[str] = "a_star"

    at_once: int = 1

    def __post_init__(self) -> None:
        TreeSearch.__post_init__(self)
        at_least(1, at_once=self.at_once)

    def ask(self, tree: Tree) -> list[int]:
        cheapest = self.rank(tree, [*tree.leaves, *tree.finished])
        if not cheapest or tree[cheapest[0]].finished:
            return []
        return [index for index in cheapest if not tree[index].finished][: self.at_once]

    def tell(self, tree: Tree, grown: Sequence[Thought]) -> None:
        for thought in grown:
            parent = tree[thought.parent]
            rise = 0.0 if parent.index == ROOT else max(0.0, parent.value - thought.value)
            thought.total = parent.total + rise
            thought.cost = max(parent.cost, thought.total + 1.0 - thought.value)

    def rank(self, tree: Tree, indices: Sequence[int]) -> list[int]:
        return sorted(indices, key=lambda index: (tree[index].cost, derive_seed(tree.seed, "tie", index)))


@dataclass(frozen=True, slots=True, kw_only=True)
class MonteCarlo(TreeSearch):
    """Monte Carlo tree search with PUCT (Silver et al., 2017), from the root down by the greatest
    Q + c · P · √N / (1 + n), to a leaf, which is expanded. Its children's values come back up; a finished leaf's own
    does.

    P is a child's share of its siblings' values. The search ends after `expansions`, or when so many walks, and
    as many again, have led to finished answers only.
    """

    kind: ClassVar[str] = "mcts"

    explore: float = 1.4

    def ask(self, tree: Tree) -> list[int]:
        for _ in range(2 * self.expansions):
            index = self._leaf(tree)
            if not tree[index].finished:
                return [index]
            tree.back_up(index, tree[index].value)
        return []

    def tell(self, tree: Tree, grown: Sequence[Thought]) -> None:
        for thought in grown:
            tree.back_up(thought.index, thought.value)

    def _leaf(self, tree: Tree) -> int:
        index = ROOT
        while tree[index].children:
            children = tree[index].children
            weight = sum(tree[child].value for child in children)
            scores = {child: self._score(tree, index, child, weight, len(children)) for child in children}
            index = max(children, key=lambda child: (scores[child], -derive_seed(tree.seed, "tie", child)))
        return index

    def _score(self, tree: Tree, parent: int, child: int, weight: float, count: int) -> float:
        thought = tree[child]
        prior = thought.value / weight if weight else 1.0 / count
        mean = thought.total / thought.visits if thought.visits else 0.0
        return mean + self.explore * prior * math.sqrt(tree[parent].visits) / (1 + thought.visits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Particles(TreeSearch):
    """Particle filtering (Puri et al., arXiv:2502.01618): `particles` answers grow a step at a time, and are drawn anew
    after each one by weights, the softmax of their values' log-odds. A finished one is drawn as it is.

    The draw is systematic, from the run's seed. A final draw is not made: the best finished answer stands first.
    """

    kind: ClassVar[str] = "particles"

    particles: int = 8

    def __post_init__(self) -> None:
        TreeSearch.__post_init__(self)
        at_least(1, particles=self.particles)
        if self.expansions < self.particles:
            raise InputError(f"expansions={self.expansions} are too few for one step of {self.particles} particles")

    @property
    def steps(self) -> int:
        return 1

    def ask(self, tree: Tree) -> list[int]:
        if tree.expansions + self.particles > self.expansions:
            return []
        drawn = self._draw(tree)
        tree.front = [index for index in drawn if tree[index].finished]
        return [index for index in drawn if not tree[index].finished]

    def tell(self, tree: Tree, grown: Sequence[Thought]) -> None:
        tree.front += [thought.index for thought in grown]

    def _draw(self, tree: Tree) -> list[int]:
        """As many as there are particles, each as often as its weight says, one offset for all (systematic)."""
        odds = [_odds(tree[index].value) if index != ROOT else 1.0 for index in tree.front]
        offset = Random(derive_seed(tree.seed, "draw", tree.expansions)).random()
        share, reached, drawn = sum(odds) / self.particles, 0.0, list[int]()
        for index, weight in zip(tree.front, odds, strict=True):
            reached += weight
            while len(drawn) < self.particles and (len(drawn) + offset) * share < reached:
                drawn.append(index)
        return drawn + [tree.front[-1]] * (self.particles - len(drawn))


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveBranching(TreeSearch):
    """AB-MCTS (Inoue et al., arXiv:2503.04412): thoughts are whole answers, and a child is its parent's, improved.

    At each thought Thompson sampling decides between a new child and each child that there is: Beta distributions of
    the values seen there, from an even prior. The draws are from the run's seed. One answer an expansion.
    """

    kind: ClassVar[str] = "ab_mcts"

    step: Sequence[str | int] = ()
    depth: int = 1_000
    max_tokens: int = 512

    @property
    def steps(self) -> int:
        return 1

    def ask(self, tree: Tree) -> list[int]:
        random, index = Random(derive_seed(tree.seed, "draw", tree.expansions)), ROOT
        while True:
            children = tree[index].children
            arms = [(index, [tree[child].value for child in children])]
            arms += [(child, self._below(tree, child)) for child in children]
            drawn = [random.betavariate(1 + sum(seen), 1 + len(seen) - sum(seen)) for _, seen in arms]
            chosen = drawn.index(max(drawn))
            if chosen == 0:
                return [index]
            index = arms[chosen][0]

    def tell(self, tree: Tree, grown: Sequence[Thought]) -> None:
        """The values in the tree are all that is drawn from."""

    def between(self, tree: Tree, index: int) -> str:
        return render("techniques/improve")

    def text(self, tree: Tree, index: int) -> str:
        return tree[index].text

    def before(self, tree: Tree, index: int) -> str:
        return ""

    def _below(self, tree: Tree, index: int) -> list[float]:
        """The values of a thought and of all below it."""
        return [tree[index].value] + [value for child in tree[index].children for value in self._below(tree, child)]


def _odds(value: float) -> float:
    """Odds of a probability, held away from 0 and 1."""
    held = min(1.0 - 1e-6, max(1e-6, value))
    return held / (1.0 - held)

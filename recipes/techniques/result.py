"""What flows through a chain of techniques: a task, the candidates for its answer, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ...engines import Message
from ...orchestrator.wording import derive_seed
from ...usage import Usage


@dataclass(frozen=True, slots=True)
class Candidate:
    """A proposed answer. `model` is the role that wrote it, `score` what the last stage that judged gave it, `critique`
    what a critic said of it; a stage that writes anew leaves neither behind."""

    text: str
    score: float = 0.0
    critique: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """A task and its candidates, the best first; those that a stage has put out are `rejected`, with their scores.

    `history` is the conversation before the task, and `tests` are the unit tests that a stage has written. `usage` is
    what all stages so far have used, one after the other; it does not tell results apart.
    """

    task: str
    history: tuple[Message, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    rejected: tuple[Candidate, ...] = ()
    tests: tuple[str, ...] = ()
    usage: Usage = field(default=Usage(), compare=False)

    @property
    def answer(self) -> str:
        """The best candidate's text; empty where there is none."""
        return self.candidates[0].text if self.candidates else ""

    @property
    def messages(self) -> list[Message]:
        """The conversation, the task as the user's last message: a new list each time."""
        return [*self.history, Message("user", self.task)]

    def keep(self, order: Sequence[int], count: int = 0) -> Result:
        """The candidates in this order, the first `count` of them (0: all); the others are rejected."""
        ordered = [self.candidates[index] for index in order]
        kept = ordered[:count] if count else ordered
        left = [candidate for index, candidate in enumerate(self.candidates) if index not in set(order)]
        return replace(self, candidates=tuple(kept), rejected=(*self.rejected, *ordered[len(kept) :], *left))

    def scored(self, scores: Sequence[float]) -> Result:
        """Each candidate with its score, in the order that they are in."""
        pairs = zip(self.candidates, scores, strict=True)
        return replace(self, candidates=tuple(replace(candidate, score=score) for candidate, score in pairs))

    def best_first(self, seed: int, count: int = 0) -> Result:
        """The candidates by falling score; equal ones in an order that the seed gives."""
        return self.keep(order([candidate.score for candidate in self.candidates], seed), count)


def order(scores: Sequence[float], seed: int) -> list[int]:
    """The places of scores from the greatest to the least; equal ones stand in an order that the seed gives."""
    return sorted(range(len(scores)), key=lambda index: (-scores[index], derive_seed(seed, "tie", index)))


def best(items: Sequence[int], score: Callable[[int], float], seed: int) -> int:
    """The item of the greatest score; of equal ones that which the seed gives."""
    return items[order([score(item) for item in items], seed)[0]]

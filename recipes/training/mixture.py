"""The training mixture: which skill gets which share of the tokens, and how its documents are drawn."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tokenizers import Tokenizer

from . import countdown, facts_tasks, formats
from .formats import Document
from .model import NOT_LEARNT

LONGEST = 1000
SHARES: Mapping[str, float] = {
    "tree": 0.29,
    "hybrid": 0.23,
    "serial_search": 0.13,
    "calls": 0.17,
    "countdown_serial": 0.05,
    "countdown_parallel_2": 0.025,
    "countdown_parallel_3": 0.055,
    "countdown_parallel_4": 0.05,
}


@dataclass(frozen=True, slots=True)
class Example:
    """A tokenised document: token ids, and for each the next token if it is to be learnt."""

    tokens: list[int]
    targets: list[int]


def draw(skill: str, rng: random.Random, *, small: bool = False) -> Document:
    """A document of one skill; `small` ones come first in training, because copying forms sooner on them."""
    if skill == "countdown_serial":
        return countdown.serial_document(*countdown.task(rng, 3))
    if skill == "countdown_parallel_2":
        return countdown.parallel_document(*countdown.substate(rng, 2))
    if skill == "countdown_parallel_3":
        below = rng.random() < 0.6
        return countdown.parallel_document(*(countdown.substate(rng, 3) if below else countdown.task(rng, 3)))
    if skill == "countdown_parallel_4":
        return countdown.parallel_document(*countdown.task(rng, 4))
    style = facts_tasks.SMALL if small else facts_tasks.Style()
    drawers: dict[str, Callable[[facts_tasks.Problem], Document]] = {
        "tree": formats.tree,
        "hybrid": formats.queries,
        "serial_search": formats.serial_queries,
        "calls": formats.calls,
    }
    return drawers[skill](facts_tasks.problem(rng, style))


def encode(tokenizer: Tokenizer, document: Document) -> Example:
    """Tokenise each piece on its own, as the runtime does, and mask what the model is given."""
    tokens: list[int] = []
    learnt: list[bool] = []
    for piece in document:
        ids = tokenizer.encode(piece.text).ids
        tokens += ids
        learnt += [piece.learnt] * len(ids)
    following = zip(tokens[1:], learnt[1:], strict=True)
    return Example(tokens, [token if is_learnt else NOT_LEARNT for token, is_learnt in following] + [NOT_LEARNT])


class Stream:
    """An endless stream of batches in which each skill gets its share of the tokens."""

    def __init__(self, tokenizer: Tokenizer, shares: Mapping[str, float], seed: int) -> None:
        self.tokenizer = tokenizer
        self.shares = shares
        self.rng = random.Random(seed)
        self.owed = dict.fromkeys(shares, 0.0)

    def batch(self, tokens: int, *, small: bool = False) -> list[Example]:
        """About `tokens` tokens of examples, at least one, shortest first."""
        examples: list[Example] = []
        while not examples:
            for skill, share in self.shares.items():
                self.owed[skill] += share * tokens
                examples += self._owed(skill, small)
        return sorted(examples, key=lambda example: len(example.tokens))

    def _owed(self, skill: str, small: bool) -> Iterator[Example]:
        while self.owed[skill] > 0:
            example = encode(self.tokenizer, draw(skill, self.rng, small=small))
            if len(example.tokens) <= LONGEST:
                self.owed[skill] -= len(example.tokens)
                yield example


def share(examples: list[Example], rank: int, ranks: int) -> list[Example]:
    """One rank's part of a batch, such that all ranks have about the same work; shortest first."""
    parts: list[list[Example]] = [[] for _ in range(ranks)]
    work = [0.0] * ranks
    for example in reversed(examples):
        lightest = work.index(min(work))
        parts[lightest].append(example)
        work[lightest] += len(example.tokens) * (1 + len(example.tokens) / 1000)
    return parts[rank][::-1]


def micro_batches(examples: list[Example], tokens: int) -> Iterator[list[Example]]:
    """Neighbours in length together, so that little is padding; at most about `tokens` tokens each."""
    group: list[Example] = []
    for example in examples:
        if group and len(example.tokens) * (len(group) + 1) > tokens:
            yield group
            group = []
        group.append(example)
    if group:
        yield group

"""Needle threading: chains of keys and values through a long haystack (Roberts et al., arXiv:2411.05000).

A line says "The value of KEY is VALUE."; a value may be the key of another line. `single` asks where one chain ends,
`multi` where each of several ends, `branched` where the longest chain ends where keys have several values.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from ..errors import InputError
from .settings import at_least

Kind: TypeAlias = Literal["single", "multi", "branched"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Line: TypeAlias = tuple[str, str]

_LINE = re.compile(r"The value of ([0-9a-f]{8}) is ([0-9a-f]{8})\.")
_LONGEST_BRANCH = 3
_LINES_OF_A_PARAGRAPH = 10
_LINES_OF_A_FILE = 200
_ABOUT = (
    'Each line of the notes says "The value of KEY is VALUE.", and a value may be the key of other lines. '
    "Begin with {starts} and go on from value to key until a value is the key of no line."
)
_ASKS: dict[Kind, str] = {
    "single": "Which value is the last?",
    "multi": "Which value is the last of each? Give them in this order, separated by commas.",
    "branched": "A key may have several values: follow each. Which value ends the longest chain?",
}


@dataclass(frozen=True, slots=True)
class NeedleTask:
    """A question on a haystack, and the values that it asks for."""

    kind: Kind
    question: str
    answers: tuple[str, ...]
    lines: tuple[Line, ...]

    @property
    def text(self) -> str:
        """The haystack, in paragraphs."""
        shown = [f"The value of {key} is {value}." for key, value in self.lines]
        starts = range(0, len(shown), _LINES_OF_A_PARAGRAPH)
        return "\n\n".join("\n".join(shown[start : start + _LINES_OF_A_PARAGRAPH]) for start in starts)

    def write(self, folder: Path) -> None:
        """The haystack as files in a folder, for a tool to search."""
        for number, start in enumerate(range(0, len(self.lines), _LINES_OF_A_FILE), 1):
            part = NeedleTask(self.kind, "", (), self.lines[start : start + _LINES_OF_A_FILE])
            (folder / f"notes-{number:03}.txt").write_text(part.text + "\n", encoding="utf-8")

    def score(self, answer: str) -> float:
        """The share of the values that the answer gives, each in its place."""
        given = re.findall(r"[0-9a-f]{8}", answer)
        right = [one == other for one, other in zip(given, self.answers, strict=False)]
        return right.count(True) / len(self.answers)


def needle_task(
    kind: Kind, *, tokens: int, hops: int, width: int = 3, seed: int = 0, count: Callable[[str], int]
) -> NeedleTask:
    """A task on a haystack of about so many tokens, as `count` counts them.

    Chains are `hops` lines long. `width` is the number of chains of `multi`, and of the values of each key on the
    longest chain of `branched` but the last; all but one of these end after at most three lines. Raises InputError
    where the chains alone are longer than the haystack.
    """
    if kind not in KINDS:
        raise InputError(f"kind '{kind}' of needle threading is unknown; known: {', '.join(KINDS)}")
    at_least(1, hops=hops, width=width)
    rng, names = random.Random(f"{kind} {tokens} {hops} {width} {seed}"), _Names()
    starts, answers, needles = _needles(kind, rng, names, hops, width)
    size = tokens * 100 // count("The value of 01234567 is 89abcdef.\n" * 100)
    if len(needles) > size:
        raise InputError(f"{len(needles)} lines of chains don't fit a haystack of {tokens} tokens; use fewer hops")
    straw = [(names.new(rng), names.new(rng)) for _ in range(size - len(needles))]
    lines = [*needles, *straw]
    rng.shuffle(lines)
    shown = f"key {starts[0]}" if len(starts) == 1 else f"each of the keys {', '.join(starts)}"
    return NeedleTask(kind, f"{_ABOUT.format(starts=shown)} {_ASKS[kind]}", tuple(answers), tuple(lines))


def values_of(key: str, text: str) -> list[str]:
    """The values that a text gives for a key, in order."""
    return list(dict.fromkeys(value for found, value in _LINE.findall(text) if found == key))


class _Names:
    """Names of eight hexadecimal digits, none of them twice."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def new(self, rng: random.Random) -> str:
        while (name := f"{rng.getrandbits(32):08x}") in self._used:
            pass
        self._used.add(name)
        return name

    def chain(self, rng: random.Random, start: str, hops: int) -> list[Line]:
        keys = [start, *(self.new(rng) for _ in range(hops))]
        return list(pairwise(keys))


def _needles(
    kind: Kind, rng: random.Random, names: _Names, hops: int, width: int
) -> tuple[Sequence[str], Sequence[str], list[Line]]:
    """Where the chains start, where those asked for end, and their lines."""
    starts = [names.new(rng) for _ in range(width if kind == "multi" else 1)]
    chains = [names.chain(rng, start, hops) for start in starts]
    needles = [line for chain in chains for line in chain]
    if kind == "branched":
        for done, (key, _) in enumerate(chains[0][:-1]):  # a branch of the last key would be as long as the chain
            for _ in range(width - 1):
                needles += names.chain(rng, key, rng.randint(1, min(_LONGEST_BRANCH, hops - done - 1)))
    return starts, [chain[-1][1] for chain in chains], needles

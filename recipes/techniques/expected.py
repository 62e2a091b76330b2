"""What a chain of techniques will find and use, as far as it can be told before a token is spent."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ...usage import Usage

CHARACTERS_PER_TOKEN = 4
TASK = 32
"""Tokens of a task that is not known yet."""
NOTHING = Usage()


@dataclass(frozen=True, slots=True)
class Expected:
    """What there is at a point of a chain.

    A task of `task` tokens, `candidates` of at most `length` tokens each, with a critique of `critique` tokens, and
    `tests` unit tests. `calls` and `usage` are the generations up to here.
    """

    task: int = TASK
    candidates: int = 0
    length: int = 0
    critique: int = 0
    tests: int = 0
    calls: int = 0
    usage: Usage = NOTHING

    @staticmethod
    def of_text(text: str) -> int:
        """About how many tokens a text has."""
        return math.ceil(len(text) / CHARACTERS_PER_TOKEN)

    @property
    def shown(self) -> int:
        """Tokens of the task and of all candidates with their critiques."""
        return self.task + self.candidates * (self.length + self.critique)

    def ask(self, prompt: int, tokens: int, count: int = 1, *, samples: int = 1) -> Expected:
        """After `count` prompts side by side, each encoded once and answered in so many samples."""
        if not count:
            return self
        used = Usage(
            prompt=prompt * count,
            prefilled=prompt * count,
            generated=tokens * count * samples,
            steps=tokens,
            critical_path=prompt + tokens,
        )
        return replace(self, calls=self.calls + count * samples, usage=self.usage + used)

    def holding(self, candidates: int, length: int) -> Expected:
        """With new candidates in place of those before: nothing is known of them yet."""
        return replace(self, candidates=candidates, length=length, critique=0)

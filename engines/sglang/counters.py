"""Counters: what an SGLang server has counted since it started, from its `/metrics` (Prometheus' text format)."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Self

_LINE = re.compile(r"(sglang:\w+)(?:\{[^}]*\})?\s+(\S+)")
_NAMES = {
    "sglang:num_running_reqs": "running",
    "sglang:num_queue_reqs": "waiting",
    "sglang:prompt_tokens_total": "prompt",
    "sglang:generation_tokens_total": "generated",
    "sglang:cached_tokens_total": "found",
}


@dataclass(frozen=True, slots=True)
class Counters:
    """`running` and `waiting` requests now; else sums, over all replicas of the server, for all who use it.

    `prompt` tokens sent and `generated` ones (end-of-sequence tokens too), of requests that have ended; prompt tokens
    `found` in the prefix cache. The difference of two tells what came between them.
    """

    running: int = 0
    waiting: int = 0
    prompt: int = 0
    generated: int = 0
    found: int = 0

    @classmethod
    def read(cls, text: str) -> Self:
        """From the text of `/metrics`; what it leaves out is 0."""
        sums = dict.fromkeys(_NAMES.values(), 0.0)
        for line in text.splitlines():
            found = _LINE.match(line)
            if found and found[1] in _NAMES:
                sums[_NAMES[found[1]]] += float(found[2])
        return cls(**{name: round(value) for name, value in sums.items()})

    def __sub__(self, earlier: Counters) -> Counters:
        return Counters(**{one.name: getattr(self, one.name) - getattr(earlier, one.name) for one in fields(Counters)})

    @property
    def encoded(self) -> int:
        """Prompt tokens that were not in the cache."""
        return self.prompt - self.found

    @property
    def hit_rate(self) -> float:
        """The share of prompt tokens that were in the cache; 0 where none was sent."""
        return self.found / self.prompt if self.prompt else 0.0

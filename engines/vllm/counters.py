"""Counters: what a vLLM server has counted since it started, from its `/metrics` (Prometheus' text format)."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Self

_LINE = re.compile(r"(vllm:\w+)(?:\{[^}]*\})?\s+(\S+)")
_NAMES = {
    "vllm:num_requests_running": "running",
    "vllm:num_requests_waiting": "waiting",
    "vllm:prompt_tokens_total": "prompt",
    "vllm:generation_tokens_total": "generated",
    "vllm:prefix_cache_queries_total": "looked_up",
    "vllm:prefix_cache_hits_total": "found",
    "vllm:num_preemptions_total": "preempted",
}


@dataclass(frozen=True, slots=True)
class Counters:
    """`running` and `waiting` requests now; else sums, over all replicas of the server, for all who use it.

    `prompt` tokens sent and `generated` ones (end-of-sequence tokens too); prompt tokens `looked_up` in the prefix
    cache and those `found` there; requests `preempted`. The difference of two tells what came between them.
    """

    running: int = 0
    waiting: int = 0
    prompt: int = 0
    generated: int = 0
    looked_up: int = 0
    found: int = 0
    preempted: int = 0

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
        """The share of prompt tokens that were in the cache; 0 where none was looked up."""
        return self.found / self.looked_up if self.looked_up else 0.0

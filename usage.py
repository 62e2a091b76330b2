"""Usage: the one accounting record (DESIGN.md §7), additive over scopes."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Usage:
    """What a scope (a generate call, a node, a run) has used.

    Token counts: `prompt` given by the caller (forced text and tool results included), `generated` sampled,
    `prefilled` encoded by a forward pass as prompt, `cached` prompt tokens whose K/V was already there,
    `recomputed` encoded again, `pruned` dropped from a view, `live` held by the scope's context at its end,
    `peak_live` the most it held. `steps` are sequential generated tokens along the longest chain of the scope,
    `critical_path` the longest causally dependent chain of tokens. `calls` are tool calls, `seconds` wall time,
    `cost` money in the price table's currency.
    """

    prompt: int = 0
    generated: int = 0
    prefilled: int = 0
    cached: int = 0
    recomputed: int = 0
    pruned: int = 0
    live: int = 0
    peak_live: int = 0
    steps: int = 0
    critical_path: int = 0
    calls: int = 0
    seconds: float = 0.0
    cost: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        """The usage of two scopes one after the other."""
        return self._combine(other, sequential=True)

    def __or__(self, other: Usage) -> Usage:
        """The usage of two scopes side by side: `steps`, `critical_path` and `seconds` are the longer one's."""
        return self._combine(other, sequential=False)

    def _combine(self, other: Usage, *, sequential: bool) -> Usage:
        chain = {"steps", "critical_path", "seconds"}
        values = {}
        for field in fields(Usage):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            longest = not sequential if field.name in chain else sequential and field.name == "peak_live"
            values[field.name] = max(mine, theirs) if longest else mine + theirs
        return Usage(**values)

    @property
    def parallelism(self) -> float:
        """Generated tokens per sequential step; 1.0 for a single thread."""
        return self.generated / self.steps if self.steps else 1.0

    def as_dict(self) -> dict[str, float]:
        return {field.name: getattr(self, field.name) for field in fields(Usage)}

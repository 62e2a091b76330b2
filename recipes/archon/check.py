"""What `plait archon check` says of a file: whether it can be run, with how many calls, and what is odd about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import ConfigError, PlaitError
from ...orchestrator import Price
from ..techniques import Expected, Stage
from .build import NO_PRICES, expect_layer, price_of, since, stage_of
from .config import FIELDS, Config, read_config
from .rules import violations

NEED_CANDIDATES = frozenset({"critic", "ranker", "fuser", "verifier", "unit_test_evaluator"})


@dataclass(frozen=True, slots=True)
class Report:
    """A file's report.

    `calls` are those of a full run, without early stops and retries; `candidates` what leaves the last layer; `tokens`
    what may be generated at most, and `cost` what that and the prompts cost. `error` names what is wrong, at `line` and
    `column` where it has a place.
    """

    file: str
    ok: bool
    name: str = ""
    calls: int = 0
    candidates: int = 0
    tokens: int = 0
    cost: float = 0.0
    warnings: tuple[str, ...] = ()
    violations: tuple[str, ...] = ()
    error: str = ""
    line: int = 0
    column: int = 0
    models: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        if not self.ok:
            return {"file": self.file, "ok": False, "error": self.error, "line": self.line, "column": self.column}
        return {
            "file": self.file,
            "ok": True,
            "name": self.name,
            "calls": self.calls,
            "candidates": self.candidates,
            "tokens": self.tokens,
            "cost": self.cost,
            "models": list(self.models),
            "warnings": list(self.warnings),
            "violations": list(self.violations),
        }

    def describe(self) -> str:
        if not self.ok:
            return f"{self.file}: {self.error}"
        cost = f", {self.cost:.4g} for them and the prompts" if self.cost else ""
        lines = [
            f"{self.file}: {self.calls} calls, {self.candidates} candidates out, at most {self.tokens:,} tokens{cost}",
            *(f"  warning: {warning}" for warning in self.warnings),
            *(f"  breaks a rule: {violation}" for violation in self.violations),
        ]
        return "\n".join(lines)


def check_file(file: str | Path, *, prices: Mapping[str, Price] = NO_PRICES) -> Report:
    """A file's report; what is wrong with it is told in it, not raised. `prices` are by model."""
    try:
        config = read_config(Path(file))
    except ConfigError as error:
        return Report(str(file), ok=False, error=str(error), line=error.line, column=error.column)
    except PlaitError as error:
        return Report(str(file), ok=False, error=str(error))
    told, idle = expect(config), tuple(_idle(config))
    return Report(
        str(file),
        ok=True,
        name=config.name,
        calls=told.calls,
        candidates=told.candidates,
        tokens=told.usage.generated,
        cost=_cost(config, prices),
        warnings=(*config.warnings, *idle),
        violations=tuple(violations(config)),
        models=tuple(filter(None, config.models)),
    )


def expect(config: Config) -> Expected:
    """What an architecture will give and use. Components of the user's own count as none."""
    return [after for _, after in _walk(config)][-1]


def _walk(config: Config) -> Iterator[tuple[Expected, Expected]]:
    """What is expected before and after each layer."""
    told = Expected()
    for layer in config.layers:
        stages: list[Stage] = [stage_of(component) for component in layer if component.type in FIELDS]
        before, told = told, expect_layer(stages, told) if stages else told
        yield before, told


def _cost(config: Config, prices: Mapping[str, Price]) -> float:
    """What all components cost at most, each at its model's price."""
    return sum(
        price_of(component, prices).of(since(before.usage, stage_of(component).foresee(before).usage))
        for layer, (before, _) in zip(config.layers, _walk(config), strict=True)
        for component in layer
        if component.type in FIELDS
    )


def _idle(config: Config) -> Iterator[str]:
    """Components that have nothing to work on."""
    for number, (layer, (before, _)) in enumerate(zip(config.layers, _walk(config), strict=True), 1):
        kinds = sorted({component.type for component in layer} & NEED_CANDIDATES)
        if kinds and not before.candidates:
            yield f"layer {number} holds {', '.join(kinds)} before there are candidates: nothing is done there"

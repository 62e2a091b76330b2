"""Archon as a graph: layers of components as layers of stages, all components of a layer side by side (2024)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, TypeAlias

from ...engines import Message
from ...errors import InputError
from ...orchestrator import Builder, Graph, Price, Scope, graph
from ...usage import Usage
from ..techniques import (
    Critique,
    Expected,
    Fuse,
    Generate,
    JudgeTests,
    Rank,
    Result,
    Stage,
    Verify,
    WriteTests,
)
from ..techniques.chain import begin, foreseen
from .config import Component, Config, read_config
from .rules import violations

Custom: TypeAlias = Callable[..., Any]
"""A component of the user's: `(result) -> result`, or async `(scope, result) -> result`."""

ONE_ENGINE: Mapping[str, str] = MappingProxyType({"*": ""})
NO_PRICES: Mapping[str, Price] = MappingProxyType({})
NO_CUSTOM: Mapping[str, Custom] = MappingProxyType({})
TESTS = 5
"""How many unit tests are written where a configuration sets no cap."""


def archon(
    config: Config | str | Path,
    *,
    roles: Mapping[str, str] = ONE_ENGINE,
    components: Mapping[str, Custom] = NO_CUSTOM,
    prices: Mapping[str, Price] = NO_PRICES,
    strict: bool = False,
) -> Graph[Result]:
    """A graph that takes a task (and a conversation before it) through a configuration's layers (arXiv:2409.15254).

    `roles` says which role of the run's engine (see `engines.Roles`) plays a model; "*" stands for all others, and by
    default the run's engine plays all. `components` are component types of your own. `prices`, by model ("*" for all
    others), are for plans; a run's are its budget's. With `strict` an architecture that breaks the paper's rules is
    refused. Raises ConfigError, InputError.
    """
    found = config if isinstance(config, Config) else read_config(config, custom=components)
    if strict and (broken := violations(found)):
        raise InputError(f"architecture '{found.name}' breaks the rules: {'; '.join(broken)}")
    layers = [[stage_of(component, roles, components) for component in layer] for layer in found.layers]

    @graph(name="archon")
    def build(g: Builder, task: str, history: tuple[Message, ...] = ()) -> Result:
        result, expected = g.function(begin, task=task, history=history), Expected()
        for number, layer in enumerate(layers, 1):
            parts: list[Result] = []
            for stage, component in zip(layer, found.layers[number - 1], strict=True):
                place = f"_{len(parts) + 1}" if len(layer) > 1 else ""
                after = stage.foresee(expected)
                cost = price_of(component, prices).of(since(expected.usage, after.usage))
                told = replace(foreseen(expected, after), cost=cost)
                name = f"layer_{number}_{stage.kind}{place}"
                parts.append(g.drive(stage, given=result, name=name, foreseen=told))
            expected = expect_layer(layer, expected)
            kinds = [stage.kind for stage in layer]
            result = (
                g.function(merge, before=result, parts=parts, kinds=kinds, name=f"layer_{number}")
                if len(parts) > 1
                else parts[0]
            )
        return result

    return build


def stage_of(
    component: Component, roles: Mapping[str, str] = ONE_ENGINE, components: Mapping[str, Custom] = NO_CUSTOM
) -> Stage:
    """The stage of a component. Raises InputError for a model that nobody plays, and for a type that is not given."""
    if component.type in components:
        return Own(own=components[component.type], name=component.type, settings=component)
    model = roles.get(component.model, roles.get("*"))
    if model is None:
        raise InputError(
            f"no engine plays model '{component.model}'; the table has {', '.join(roles) or 'none'}: add the model, "
            "or '*' for all others"
        )
    asked: dict[str, Any] = {
        "model": model,
        "max_tokens": component.max_tokens,
        "temperature": component.temperature,
    }
    early = component.first_k or int(component.first_pass)
    match component.type:
        case "generator":
            return Generate(samples=component.samples, anew=True, no_system=component.no_system, **asked)
        case "critic":
            return Critique(**asked)
        case "ranker":
            return Rank(least=1, top_k=component.top_k, use_critiques=component.use_critiques, **asked)
        case "fuser":
            return Fuse(samples=component.samples, short=component.length_control, **asked)
        case "verifier":
            return Verify(first_k=component.first_k, **asked)
        case "unit_test_generator":
            return WriteTests(cap=component.unit_test_cap or TESTS, **asked)
        case "unit_test_evaluator":
            return JudgeTests(top_k=component.top_k, first_k=early, **asked)
    raise InputError(f"component '{component.type}' is not given; pass components={{'{component.type}': function}}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Own(Stage):
    """A component of the user's. A function of one argument gets the result, of two the scope too; `settings` are its
    entry in the configuration, for a function that takes `settings=`."""

    kind: ClassVar[str] = "custom"

    own: Custom
    name: str
    settings: Component

    async def work(self, scope: Scope, given: Result) -> Result:
        parameters = inspect.signature(self.own).parameters
        options = {"settings": self.settings} if "settings" in parameters else {}
        takes_scope = len(parameters) - len(options) > 1
        done = self.own(scope, given, **options) if takes_scope else self.own(given, **options)
        done = await done if inspect.isawaitable(done) else done
        if not isinstance(done, Result):
            raise InputError(f"component '{self.name}' gave {done!r:.60}; it must give a Result")
        return done

    def foresee(self, given: Expected) -> Expected:
        return given


def price_of(component: Component, prices: Mapping[str, Price]) -> Price:
    """What a component's model costs; nothing where the table does not say."""
    return prices.get(component.model, prices.get("*", Price()))


# ---- layers

WRITES_CANDIDATES = ("generate", "rank", "fuse", "verify", "judge_tests", "custom")


def merge(before: Result, parts: Sequence[Result], kinds: Sequence[str]) -> Result:
    """What a layer gives: all candidates that its components wrote, in their order, or else those before it.

    Critiques of candidates that are no longer there are gone with them. Tests are those that were written, or else
    those before.
    """
    writers = [part for part, kind in zip(parts, kinds, strict=True) if kind in WRITES_CANDIDATES]
    critics = [part for part, kind in zip(parts, kinds, strict=True) if kind == "critique"]
    tests = [test for part, kind in zip(parts, kinds, strict=True) if kind == "write_tests" for test in part.tests]
    used = Usage()
    for part in parts:
        used = used | since(before.usage, part.usage)
    merged = replace(before, tests=tuple(tests) or before.tests, usage=before.usage + used)
    if writers:
        candidates = tuple(candidate for part in writers for candidate in part.candidates)
        return replace(merged, candidates=candidates, rejected=writers[0].rejected)
    said = [[part.candidates[place].critique for part in critics] for place in range(len(before.candidates))]
    critiques = ["\n".join(filter(None, of_one)) for of_one in said]
    pairs = zip(before.candidates, critiques, strict=True)
    return replace(merged, candidates=tuple(replace(one, critique=text or one.critique) for one, text in pairs))


def expect_layer(layer: Sequence[Stage], before: Expected) -> Expected:
    """What a layer is expected to give and use."""
    told = [stage.foresee(before) for stage in layer]
    writers = [each for each, stage in zip(told, layer, strict=True) if stage.kind in WRITES_CANDIDATES]
    used = Usage()
    for each in told:
        used = used | since(before.usage, each.usage)
    return replace(
        before,
        candidates=sum(each.candidates for each in writers) if writers else before.candidates,
        length=max((each.length for each in writers), default=before.length),
        critique=0 if len(layer) > 1 and writers else max(each.critique for each in told),
        tests=max(each.tests for each in told),
        calls=before.calls + sum(each.calls - before.calls for each in told),
        usage=before.usage + used,
    )


def since(before: Usage, after: Usage) -> Usage:
    """What was used between two points of one chain."""
    values = {field.name: getattr(after, field.name) - getattr(before, field.name) for field in fields(Usage)}
    return Usage(**{**values, "peak_live": after.peak_live})

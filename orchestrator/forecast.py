"""Forecasts: what a plan is expected to use, before a token is spent, to be read beside what a run has used."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args, get_origin

from ..engines.speed import Speed
from ..errors import ToolError
from ..tools import Tool, render
from ..usage import Usage
from .checks import ordered
from .compound import Branch, Loop, Select, Subgraph, Team, graphs_in
from .graph import Argument, Call, Drive, Edge, Fixed, Foreseen, Graph, Items, Map, Node, Think
from .meter import START, Clock
from .prefixes import Prefix, find_prefixes, prefix_key

CHARACTERS_PER_TOKEN = 4
"""Of English text under the usual tokenizers; no tokenizer is asked."""
UNKNOWN = 32
"""Tokens for a value that is known only when it is there: what a tool or a function gives, an input not given yet."""
ROLE = 4
"""Tokens that a chat template puts around a message."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run is expected to use. Generations are taken at their `max_tokens`, loops at their bound.

    `nodes` are the written nodes of the graph by name. `unforeseen` says, a line each, what could not be foretold.
    `usage.seconds` is 0 where the engine's speed is not known.
    """

    usage: Usage
    nodes: Mapping[str, Usage]
    unforeseen: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        told: dict[str, Any] = {"usage": _counts(self.usage), "unforeseen": list(self.unforeseen)}
        return {**told, "seconds": round(self.usage.seconds, 3)} if self.usage.seconds else told


def forecast(graph: Graph[Any], values: Mapping[str, Any], speed: Speed | None = None) -> Forecast:
    """What a run with these inputs is expected to use; inputs that are not given count as UNKNOWN. At a known speed
    that is also what it takes at least."""
    shared = {prefix.key: prefix for prefix in find_prefixes(graph)}
    teller = _Teller(shared)
    usage, nodes = teller.graph(graph, {name: size_of(value) for name, value in values.items()}, values)
    if speed is not None:
        usage = replace(usage, seconds=speed.seconds(usage))
    return Forecast(usage, nodes, tuple(dict.fromkeys(teller.unforeseen)))


def tokens_of(text: str) -> int:
    """About how many tokens a text has."""
    return math.ceil(len(text) / CHARACTERS_PER_TOKEN)


def size_of(value: object) -> int:
    """About how many tokens a value has in a prompt."""
    try:
        return tokens_of(render(value))
    except ToolError:
        return UNKNOWN


def _counts(usage: Usage) -> dict[str, float]:
    told = ("prompt", "generated", "prefilled", "cached", "steps", "critical_path", "calls", "cost")
    return {name: value for name, value in usage.as_dict().items() if name in told}


@dataclass(slots=True)
class _Teller:
    """Goes through graphs in order; `begun` are the shared prefixes that are encoded by then."""

    shared: Mapping[str, Prefix]
    begun: set[str] = field(default_factory=set)
    unforeseen: list[str] = field(default_factory=list)

    def graph(
        self, graph: Graph[Any], sizes: Mapping[str, int], values: Mapping[str, Any]
    ) -> tuple[Usage, dict[str, Usage]]:
        """The usage of a graph whose inputs have these sizes in tokens, and of its nodes."""
        found: dict[str, Usage] = {}
        size = dict(sizes)
        clocks: dict[str, Clock] = {}
        for node in ordered(graph):
            start = START
            for source in node.sources:
                start = start.latest(clocks[source])
            usage = found[node.name] = self.node(graph, node, size, values)
            clocks[node.name] = Clock(start.steps + usage.steps, start.tokens + usage.critical_path)
            size.setdefault(node.name, self.size(node))
        end = START
        for clock in clocks.values():
            end = end.latest(clock)
        return _sum(found.values(), end), found

    def node(self, graph: Graph[Any], node: Node, size: Mapping[str, int], values: Mapping[str, Any]) -> Usage:
        match node:
            case Think():
                return self.thought(node, self.prompt(node, node, size), node.samples, not node.after)
            case Team():
                prompts = [self.prompt(member, node, size) for member in node.members]
                parts = [self.thought(m, p, 1, False) for m, p in zip(node.members, prompts, strict=True)]
                return _sum(parts, _longest(parts))
            case Call():
                return Usage(calls=1, cost=node.tool.cost)
            case Map() | Select():
                return self.each(node, size, values)
            case Subgraph() | Branch() | Loop():
                return self.inner(node, size)
            case Drive(foreseen=Foreseen() as told):
                return Usage(
                    prompt=told.prompt,
                    prefilled=told.prompt,
                    generated=told.generated,
                    steps=told.steps,
                    critical_path=told.critical_path,
                    cost=told.cost,
                )
            case Drive():
                self.unforeseen.append(f"what {node.name} grows")
        return Usage()

    def thought(self, node: Think, prompt: int, samples: int, begins: bool) -> Usage:
        """A prompt encoded once, and all samples of what is written on it."""
        cached = self.cached(node) if begins else 0
        longest = _longest_text(node)
        return Usage(
            prompt=prompt,
            prefilled=max(0, prompt - cached),
            cached=min(prompt, cached),
            generated=longest * samples,
            steps=longest,
            critical_path=prompt + longest,
        )

    def cached(self, node: Think) -> int:
        """Tokens of a shared prefix that another thought has encoded before."""
        key = prefix_key(node)
        if key not in self.shared:
            return 0
        if key not in self.begun:
            self.begun.add(key)
            return 0
        prefix = self.shared[key]
        return (tokens_of(prefix.system) + ROLE if prefix.system else 0) + tokens_of(prefix.text)

    def prompt(self, thought: Think, node: Node, size: Mapping[str, int]) -> int:
        """Tokens of what is said to a thought."""
        fixed = sum(len(text) for text, _ in thought.template.pieces)
        filled = sum(_size(node.arguments[name], size) for _, name in thought.template.pieces if name)
        system = tokens_of(thought.system) + ROLE if thought.system else 0
        return system + math.ceil(fixed / CHARACTERS_PER_TOKEN) + filled + ROLE

    def each(self, node: Map | Select, size: Mapping[str, int], values: Mapping[str, Any]) -> Usage:
        """What a target is expected to use on every item."""
        count = _length(node.arguments[node.over], values)
        target = node.target if isinstance(node, Map) else node.by
        if count is None:
            self.unforeseen.append(f"one for each item of {node.name}")
            count = 1
        if isinstance(target, Tool):
            return Usage(calls=count, cost=target.cost * count)
        if not isinstance(target, Graph):
            return Usage()
        sizes = {name: UNKNOWN if name == node.over else _size(arg, size) for name, arg in node.arguments.items()}
        parts = [self.graph(target, sizes, {})[0] for _ in range(min(count, 2))]
        rest = max(0, count - len(parts))
        return _sum([*parts, *[_times(parts[-1], rest)] * bool(rest)], _longest(parts)) if parts else Usage()

    def inner(self, node: Node, size: Mapping[str, int]) -> Usage:
        """The graphs in a node: the dearest of a branch's arms, a loop's body as often as it may run."""
        sizes = {name: _size(argument, size) for name, argument in node.arguments.items()}
        if isinstance(node, Loop):
            rounds = [self.graph(node.body, sizes, {})[0] for _ in range(2)]
            if node.at_most == 1:
                return rounds[0]
            again = _times(rounds[1], node.at_most - 1)
            steps, path = rounds[1].steps * (node.at_most - 1), rounds[1].critical_path * (node.at_most - 1)
            return _sum([rounds[0], again], Clock(rounds[0].steps + steps, rounds[0].critical_path + path))
        told = [self.graph(graph, sizes, {})[0] for _, graph in graphs_in(node)]
        return max(told, key=lambda usage: (usage.critical_path, usage.calls))

    def size(self, node: Node) -> int:
        """About how many tokens a node's value has in a prompt."""
        match node:
            case Think():
                return _longest_text(node) * node.samples
            case Team():
                return sum(map(_longest_text, node.members))
        return UNKNOWN


def _longest_text(node: Think) -> int:
    """Tokens that one answer may have."""
    if get_origin(node.returns) is Literal:
        return min(node.max_tokens, max(tokens_of(str(option)) for option in get_args(node.returns)))
    return node.max_tokens


def _size(argument: Argument, size: Mapping[str, int]) -> int:
    match argument:
        case Edge():
            return UNKNOWN if argument.path else size[argument.node]
        case Fixed():
            return size_of(argument.value)
        case Items():
            return sum(_size(item, size) for item in argument.items)


def _length(argument: Argument, values: Mapping[str, Any]) -> int | None:
    """How many items a list has, where that is known."""
    value = argument.value if isinstance(argument, Fixed) else None
    if isinstance(argument, Items):
        return len(argument.items)
    if isinstance(argument, Edge) and not argument.path:
        value = values.get(argument.node)
    return len(value) if hasattr(value, "__len__") else None


def _longest(parts: list[Usage]) -> Clock:
    return Clock(max(part.steps for part in parts), max(part.critical_path for part in parts))


def _sum(parts: Iterable[Usage], end: Clock) -> Usage:
    """Counts added up, with the longest chain as it is known."""
    total: Mapping[str, float] = dict.fromkeys(_counts(Usage()), 0)
    for part in parts:
        total = {name: value + getattr(part, name) for name, value in total.items()}
    return Usage(**{**total, "steps": end.steps, "critical_path": end.tokens})  # type: ignore[arg-type]


def _times(usage: Usage, count: int) -> Usage:
    return Usage(**{name: value * count for name, value in _counts(usage).items()})  # type: ignore[arg-type]

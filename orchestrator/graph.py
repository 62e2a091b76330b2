"""The reasoning graph: an immutable value of typed nodes and edges (DESIGN.md §6)."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeAlias, TypeVar

from ..engines.base import GREEDY, Grammar, Sampling, Stop
from ..tools import Retry, Tool
from ..tools.retry import NEVER
from .budget import UNBOUNDED, Budget
from .joins import Join, all_of
from .limits import UNLIMITED, Limits
from .types import name_of

if TYPE_CHECKING:
    from pathlib import Path

    from ..engines.base import Engine
    from .events import Event
    from .journal import Journal
    from .past import Past
    from .question import Answer
    from .run import Run
    from .template import Template

T = TypeVar("T")

NO_SOURCE: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Where:
    """The line of the user's code that made a node."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


# ---- what flows into a node


@dataclass(frozen=True, slots=True)
class Edge:
    """The value of another node, or a field of it."""

    node: str
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fixed:
    """A Python value given as it is."""

    value: object


@dataclass(frozen=True, slots=True)
class Items:
    """A list written out, with references among its items."""

    items: tuple[Argument, ...]


Argument: TypeAlias = Edge | Fixed | Items

Target: TypeAlias = "Tool | Graph[Any] | Callable[..., Any]"
"""What can be applied to a value: a tool, a graph, or a Python function."""


def edges_of(argument: Argument) -> Iterator[Edge]:
    """The edges in an argument."""
    match argument:
        case Edge():
            yield argument
        case Items(items):
            for item in items:
                yield from edges_of(item)


def value_of(argument: Argument, values: Mapping[str, Any]) -> Any:
    """What an argument stands for, given the values of the nodes."""
    if isinstance(argument, Edge):
        value = values[argument.node]
        for name in argument.path:
            value = getattr(value, name)
        return value
    if isinstance(argument, Fixed):
        return argument.value
    return [value_of(item, values) for item in argument.items]


# ---- nodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What all nodes have: a name, the type of the value, where it was written, arguments, and limits of its own.

    `after` names the node whose context this one continues; `needs` are the capabilities it asks of an engine.
    """

    kind: ClassVar[str] = "node"

    name: str
    where: Where
    type: Any
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    after: str = ""
    timeout: float = math.inf
    retry: Retry = NEVER
    needs: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return self.name

    @property
    def sources(self) -> set[str]:
        """The names of the nodes that this one waits for."""
        found = {edge.node for argument in self.arguments.values() for edge in edges_of(argument)}
        return found | {self.after} if self.after else found


@dataclass(frozen=True, slots=True, kw_only=True)
class Input(Node):
    """A value that the caller gives; `default` is `inspect.Parameter.empty` where there is none."""

    kind: ClassVar[str] = "input"
    default: Any = inspect.Parameter.empty


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant(Node):
    """A value that is the same in every run."""

    kind: ClassVar[str] = "constant"
    value: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Think(Node):
    """A generation: the template with its values as the user's message, then `samples` answers."""

    kind: ClassVar[str] = "think"
    template: Template
    system: str = ""
    returns: Any = str
    grammar: Grammar | None = None
    max_tokens: int = 512
    stop: tuple[Stop, ...] = ()
    sampling: Sampling = GREEDY
    samples: int = 1
    join: Join = all_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Node):
    """A tool call."""

    kind: ClassVar[str] = "call"
    tool: Tool


@dataclass(frozen=True, slots=True, kw_only=True)
class Map(Node):
    """A target applied to every element of the list in the argument `over`, at most `cap` at once."""

    kind: ClassVar[str] = "map"
    target: Target
    over: str
    cap: int
    join: Join = all_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Function(Node):
    """A Python function; a plain one runs in the event loop and should be quick."""

    kind: ClassVar[str] = "function"
    function: Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What a driver will do at most, where who wrote it can tell: generations, tokens with their chains, and money."""

    generations: int = 0
    prompt: int = 0
    generated: int = 0
    steps: int = 0
    critical_path: int = 0
    cost: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Drive(Node):
    """A driver: an async function of a Scope that grows nodes while it runs."""

    kind: ClassVar[str] = "drive"
    driver: Callable[..., Any]
    foreseen: Foreseen | None = field(default=None, compare=False)


# ---- the graph


@dataclass(frozen=True, slots=True, eq=False)
class Graph(Generic[T]):
    """Nodes in the order in which they were written, and the argument that is the result.

    Made by `@plait.graph`; checked when it is made. Raises GraphError.
    """

    name: str
    nodes: tuple[Node, ...]
    result: Argument
    returns: Any
    where: Where
    _by_name: Mapping[str, Node] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        from .checks import check_graph

        object.__setattr__(self, "_by_name", {node.name: node for node in self.nodes})
        check_graph(self)

    def __getitem__(self, name: str) -> Node:
        return self._by_name[name]

    def find(self, name: str) -> Node | None:
        """The node of that name, if there is one."""
        return self._by_name.get(name)

    @property
    def inputs(self) -> tuple[Input, ...]:
        return tuple(node for node in self.nodes if isinstance(node, Input))

    async def run(
        self,
        *inputs: object,
        engine: Engine | str | None = "local",
        seed: int = 0,
        limits: Limits = UNLIMITED,
        answer: Answer | None = None,
        listeners: Sequence[Callable[[Event], None]] = (),
        journal: Journal | Past | str | Path | None = None,
        cache: str = "",
        source: Mapping[str, Any] = NO_SOURCE,
        budget: Budget = UNBOUNDED,
    ) -> T:
        """Run the graph and give its value. An engine given by name is opened and closed by the run.

        `answer` is called with each question that the graph asks a person, `listeners` with every event. `journal` (a
        Journal, or its file) records the run; what `Journal.resume`, `fork` and `replay` give has it go on from an
        earlier one, whose inputs and seed it then has. `cache` names a scope in the journal: what another run in it has
        recorded of the same, with the same inputs, is taken from there. `source` is noted in the record. `budget` ends
        the run with the best answer that its driver has offered, else with an error whose cause is a BudgetError.
        Raises InputError, GraphError, JournalError, NodeError.
        """
        from .run import Options, run_graph

        options = Options(engine, seed, limits, answer, listeners, journal, cache, source, budget)
        return await run_graph(self, inputs, options)

    def run_sync(
        self,
        *inputs: object,
        engine: Engine | str | None = "local",
        seed: int = 0,
        limits: Limits = UNLIMITED,
        answer: Answer | None = None,
        listeners: Sequence[Callable[[Event], None]] = (),
        journal: Journal | Past | str | Path | None = None,
        cache: str = "",
        source: Mapping[str, Any] = NO_SOURCE,
        budget: Budget = UNBOUNDED,
    ) -> T:
        """`run` for code without an event loop."""
        from .run import Options, run_graph
        from .sync import wait

        options = Options(engine, seed, limits, answer, listeners, journal, cache, source, budget)
        return wait(lambda: run_graph(self, inputs, options))

    def stream(
        self,
        *inputs: object,
        engine: Engine | str | None = "local",
        seed: int = 0,
        limits: Limits = UNLIMITED,
        answer: Answer | None = None,
        listeners: Sequence[Callable[[Event], None]] = (),
        journal: Journal | Past | str | Path | None = None,
        cache: str = "",
        source: Mapping[str, Any] = NO_SOURCE,
        budget: Budget = UNBOUNDED,
    ) -> AbstractAsyncContextManager[Run[T]]:
        """`async with graph.stream(…) as run: async for event in run: …`, then `run.value`, `run.usage`.

        Leaving the block early cancels the run.
        """
        from .run import Options, stream_graph

        options = Options(engine, seed, limits, answer, listeners, journal, cache, source, budget)
        return stream_graph(self, inputs, options)

    def as_dict(self, registry: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The graph as JSON values, functions, tools and types by their names in `registry`, or as module and name.

        What has no such form (a function in a function, an open file) is shown as text; `to_json` refuses it.
        """
        from .names import Names
        from .written import write_graph

        return write_graph(self, Names(registry))

    def to_json(self, registry: Mapping[str, Any] | None = None) -> str:
        """The graph as JSON text that `from_json` reads back equal. Raises GraphError for one that has no such text."""
        from .reading import checked_json

        return checked_json(self, registry or {})

    @staticmethod
    def from_json(text: str, *, registry: Mapping[str, Any] | None = None, modules: Collection[str] = ()) -> Graph[Any]:
        """The graph that a text holds, checked as if it were written anew. Raises GraphError that names the place.

        Functions, tools and types are looked up in `registry`, then imported from `modules` and what stands in them;
        nothing else is imported, so that a text from elsewhere runs no code that you did not name.
        """
        from .names import Names
        from .reading import read_json

        return read_json(text, Names(registry, modules))

    def mermaid(self) -> str:
        """The graph as a Mermaid flowchart."""
        from .drawing import mermaid

        return mermaid(self)

    def dot(self) -> str:
        """The graph as a Graphviz digraph."""
        from .drawing import dot

        return dot(self)

    def __repr__(self) -> str:
        takes = ", ".join(f"{node.name}: {name_of(node.type)}" for node in self.inputs)
        return f"<Graph {self.name}({takes}) -> {name_of(self.returns)}, {len(self.nodes)} nodes>"

"""The composer: the builder's methods for nodes that hold graphs or other nodes, and for the one that asks a person."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast, overload

from typing_extensions import TypeVar

from ..engines.base import GREEDY, Layout, Sampling, Stop, Teamwork
from ..errors import GraphError
from ..tools import Retry, Tool
from ..tools.retry import NEVER
from .arms import check_arms
from .compound import CONDITION, Arm, Ask, Branch, Gather, Loop, Select, Subgraph, Team
from .format import asked_of
from .graph import Graph, Target, Think
from .joins import AllOf, AllSettled, AnyOf, Join, KOf, Settled, all_of
from .ref import Ref, describe_node
from .signature import parameters_of, return_type
from .template import read_template
from .types import element, fits, name_of
from .types import join as union
from .writing import Writer, name_of_target

T = TypeVar("T")
S = TypeVar("S", default=str)


class Composer(Writer):
    """Writes nodes that hold graphs.

    Where a graph is asked for, a builder function may stand (`lambda g, draft: g.think("Improve: {draft}",
    draft=draft)`): its inputs are named after the values that it is given, and typed by them where it has no hints.
    An input that the inner graph continues with `after=` must be given a thought: its context flows in with it.
    """

    def subgraph(
        self,
        graph: Graph[T] | Callable[..., T],
        /,
        *inputs: object,
        name: str = "",
        timeout: float = math.inf,
        **values: object,
    ) -> T:
        """Another graph as a node. Its nodes' paths begin with this node's: "name/inner"."""
        where = self._where()
        plain = name_of_target(graph)
        name = self._free_name(name or ("subgraph" if plain == "lambda" else plain), where, given=bool(name))
        owner = f"subgraph node '{name}' ({where})"
        values = self._by_position(owner, graph, inputs) | values
        inner = self._inner(graph, name, values)
        self._check_arguments(owner, parameters_of(inner), values)
        node = Subgraph(
            name=name,
            where=where,
            type=inner.returns,
            arguments=self._arguments(values),
            timeout=timeout,
            graph=inner,
        )
        return cast(T, self._add(node))

    def branch(
        self,
        condition: object,
        arms: Mapping[Any, Graph[T] | Callable[..., T]],
        /,
        *,
        otherwise: Graph[T] | Callable[..., T] | None = None,
        name: str = "",
        **values: object,
    ) -> T:
        """The graph whose key equals the condition; `otherwise` for all other values. Only that one runs.

        The keys must cover all values of the condition's type, or `otherwise` must be given. An arm takes those of
        `values` that it names. The type of the value is the union of the arms'.
        """
        where = self._where()
        name = self._free_name(name or "branch", where, given=bool(name))
        owner = f"branch node '{name}' ({where})"
        check_arms(owner, self._type_of(condition), self._describe(condition), list(arms), otherwise is not None)
        made = [Arm(value, self._arm(name, f"arm {value!r} of {owner}", arm, values)) for value, arm in arms.items()]
        rest = None if otherwise is None else self._arm(name, f"arm 'otherwise' of {owner}", otherwise, values)
        graphs = [arm.graph for arm in made] + ([rest] if rest else [])
        for given, value in values.items():
            if not any(graph.find(given) for graph in graphs):
                raise GraphError(f"{owner} was given '{given}' ({self._describe(value)}), which none of its arms takes")
        node = Branch(
            name=name,
            where=where,
            type=union([graph.returns for graph in graphs]),
            arguments=self._arguments({CONDITION: condition, **values}),
            arms=tuple(made),
            otherwise=rest,
        )
        return cast(T, self._add(node))

    def loop(
        self,
        body: Graph[T] | Callable[..., T],
        start: T,
        /,
        *,
        at_most: int,
        until: Graph[bool] | Callable[..., bool | Awaitable[bool]] | None = None,
        name: str = "",
        timeout: float = math.inf,
        **others: object,
    ) -> T:
        """The body on `start`, then on its own result, until `until` says so of a result, at most `at_most` times.

        The carried value is the body's first input that `others` does not give. Gives the last result, whether or not
        `until` was met.
        """
        where = self._where()
        name = self._free_name(name or "loop", where, given=bool(name))
        owner = f"loop node '{name}' ({where})"
        if at_most < 1:
            raise GraphError(f"{owner} runs its body at_most={at_most} times; use 1 or more")
        parameters = self._input_names(body)
        carried = next((parameter for parameter in parameters if parameter not in others), "")
        if not carried:
            raise GraphError(f"{owner}: no input of '{name_of_target(body)}' is left for the value that it carries")
        values = {carried: start, **others}
        inner = self._inner(body, name, values)
        self._check_arguments(owner, parameters_of(inner), values)
        self._check_carried(owner, inner, carried)
        if until is not None:
            self._check_until(owner, until, inner)
        node = Loop(
            name=name,
            where=where,
            type=inner.returns,
            arguments=self._arguments(values),
            timeout=timeout,
            body=inner,
            carried=carried,
            at_most=at_most,
            until=until,
        )
        return cast(T, self._add(node))

    def select(
        self,
        candidates: Sequence[T],
        /,
        *,
        by: Graph[Any] | Callable[..., object],
        join: AllOf | KOf = all_of,
        name: str = "",
        **others: object,
    ) -> T:
        """The candidate to which `by` (a tool, graph or function that gives a number) gives the greatest score.

        A candidate is the first argument that `others` does not give. Of thoughts the winner's context can be
        continued. With `join=k_of(n)` the first n are enough, and the others are cancelled: samples of a thought while
        they are written, other candidates while they are judged.
        """
        where = self._where()
        name = self._free_name(name or "select", where, given=bool(name))
        owner = f"select node '{name}' ({where})"
        over, score = self._check_each(owner, by, candidates, others)
        if not fits(score, float):
            raise GraphError(
                f"{owner}: '{name_of_target(by)}' gives {name_of(score)}, but a score is a number: int, float or bool"
            )
        if join != all_of and self._narrow(owner, candidates, join):
            join = all_of
        node = Select(
            name=name,
            where=where,
            type=element(self._type_of(candidates)),
            arguments=self._arguments({over: candidates, **others}),
            by=by,
            over=over,
            join=join,
        )
        return cast(T, self._add(node))

    @overload
    def gather(self, items: Sequence[T], /, *, join: AllOf | KOf = all_of, name: str = "") -> list[T]: ...
    @overload
    def gather(self, items: Sequence[T], /, *, join: AnyOf, name: str = "") -> T: ...
    @overload
    def gather(self, items: Sequence[T], /, *, join: AllSettled, name: str = "") -> list[Settled[T]]: ...
    def gather(self, items: Sequence[Any], /, *, join: Join = all_of, name: str = "") -> Any:
        """Wait for several nodes as the join says. What only a loser needs is cancelled with it.

        The failure of a node that only one item needs is the item's; of one that others need too, the run's.
        """
        where = self._where()
        name = self._free_name(name or "gather", where, given=bool(name))
        owner = f"gather node '{name}' ({where})"
        if isinstance(items, Ref):
            raise GraphError(f"{owner} was given {self._describe(items)}; write the items out: g.gather([a, b, …])")
        if not items:
            raise GraphError(f"{owner} was given no items; write them out: g.gather([a, b, …])")
        join.check(len(items), owner)
        node = Gather(
            name=name,
            where=where,
            type=join.type(union([self._type_of(item) for item in items])),
            arguments={str(index): self._argument(item) for index, item in enumerate(items)},
            join=join,
        )
        return self._add(node)

    def team(
        self,
        templates: Sequence[str] | Mapping[str, str],
        /,
        *,
        layout: Layout | Teamwork = "combined",
        returns: type[S] = str,  # type: ignore[assignment]
        after: object = "",
        name: str = "",
        system: str = "",
        max_tokens: int = 512,
        stop: Sequence[Stop] = (),
        sampling: Sampling = GREEDY,
        timeout: float = math.inf,
        **values: object,
    ) -> list[S]:
        """Thoughts that see each other while they are written, one for each template; a mapping names the members.

        A value must stand in one of the templates. The engine must offer the layout; see `Teamwork` for the layouts
        and for how steps are told apart.
        """
        where = self._where()
        name = self._free_name(name or "team", where, given=bool(name))
        owner = f"team node '{name}' ({where})"
        named = dict(templates) if isinstance(templates, Mapping) else _numbered(templates)
        if not named:
            raise GraphError(f"{owner} has no members; give it a template for each")
        teamwork = Teamwork(layout=layout) if isinstance(layout, str) else layout
        grammar, needs = asked_of(returns, owner)
        parsed = {member: read_template(template, owner) for member, template in named.items()}
        self._check_fields(owner, [field for template in parsed.values() for field in template.fields], values)
        members = [
            Think(
                name=member,
                where=where,
                type=returns,
                template=template,
                system=system,
                returns=returns,
                grammar=grammar,
                max_tokens=max_tokens,
                stop=tuple(stop),
                sampling=sampling,
            )
            for member, template in parsed.items()
        ]
        node = Team(
            name=name,
            where=where,
            type=list[returns],  # type: ignore[valid-type]
            arguments=self._arguments(values),
            after=self._parent(after),
            timeout=timeout,
            needs=(f"team:{teamwork.layout}", *needs),
            members=tuple(members),
            teamwork=teamwork,
        )
        return cast(list[S], self._add(node))

    def ask(
        self,
        template: str,
        /,
        *,
        returns: type[S] = str,  # type: ignore[assignment]
        name: str = "",
        timeout: float = math.inf,
        retry: Retry = NEVER,
        **values: object,
    ) -> S:
        """A question to a person, whom the run asks through its `answer=`; the answer is checked against the type."""
        where = self._where()
        name = self._free_name(name or "ask", where, given=bool(name))
        owner = f"ask node '{name}' ({where})"
        node = Ask(
            name=name,
            where=where,
            type=returns,
            arguments=self._arguments(values),
            timeout=timeout,
            retry=retry,
            template=self._template(template, owner, values),
        )
        return cast(S, self._add(node))

    # ---- inner graphs

    def _inner(self, graph: Graph[Any] | Callable[..., Any], name: str, values: Mapping[str, object]) -> Graph[Any]:
        """A graph as it is, or made of a builder function whose inputs are typed by what they are given."""
        from .declare import build_graph  # which makes builders

        if isinstance(graph, Graph):
            return graph
        self._input_names(graph)
        kinds = {given: self._type_of(value) for given, value in values.items()}
        plain = name_of_target(graph)
        return build_graph(graph, name if plain == "lambda" else plain, self._known(), kinds)

    def _input_names(self, graph: Graph[Any] | Callable[..., Any]) -> list[str]:
        """What a graph takes, or the graph that a builder function makes."""
        if isinstance(graph, Graph):
            return [node.name for node in graph.inputs]
        if isinstance(graph, Tool | Ref) or not callable(graph):
            raise GraphError(
                f"{graph!r} at {self._where()} is no graph; give a graph, or a function of a builder: "
                "lambda g, x: g.call(tool, x=x)"
            )
        return [parameter.name for parameter in parameters_of(graph, self._known())[1:]]

    def _arm(
        self, name: str, owner: str, arm: Graph[Any] | Callable[..., Any], values: Mapping[str, object]
    ) -> Graph[Any]:
        if isinstance(arm, Ref):
            raise GraphError(
                f"{owner} is {self._describe(arm)}, which would run whichever arm is taken; "
                "write it inside: lambda g, x: g.think('… {x}', x=x)"
            )
        inner = self._inner(arm, name, values)
        taken = {name: value for name, value in values.items() if inner.find(name) in inner.inputs}
        self._check_arguments(owner, parameters_of(inner), taken)
        return inner

    def _by_position(self, owner: str, graph: Any, inputs: Sequence[object]) -> dict[str, object]:
        names = self._input_names(graph)
        if len(inputs) > len(names):
            shown = ", ".join(names) or "nothing"
            raise GraphError(f"{owner} was given {len(inputs)} inputs; it takes {shown}")
        return dict(zip(names, inputs, strict=False))

    def _check_carried(self, owner: str, body: Graph[Any], carried: str) -> None:
        taken = next(parameter for parameter in parameters_of(body) if parameter.name == carried)
        if not fits(body.returns, taken.type):
            raise GraphError(
                f"graph '{body.name}' ({body.where}) gives {name_of(body.returns)}, "
                f"but its input '{carried}', which {owner} carries, takes {name_of(taken.type)}"
            )

    def _check_until(self, owner: str, until: Target, body: Graph[Any]) -> None:
        self._check_target(owner, until)
        shown = f"'{name_of_target(until)}', which ends {owner},"
        parameters = parameters_of(until, self._known())
        first = next(iter(parameters), None)
        if first is None or any(parameter.required for parameter in parameters[1:]):
            raise GraphError(f"{shown} must take one argument, the value that is carried")
        if not first.rest and not fits(body.returns, first.type):
            raise GraphError(
                f"graph '{body.name}' ({body.where}) gives {name_of(body.returns)}, "
                f"but argument '{first.name}' of {shown} takes {name_of(first.type)}"
            )
        said = return_type(until, self._known())
        if not fits(said, bool):
            raise GraphError(f"{shown} gives {name_of(said)}, but whether to end is a bool")

    def _narrow(self, owner: str, candidates: object, join: Join) -> bool:
        """Let a thought that writes samples for this node alone stop at the join; False for other candidates."""
        if not isinstance(candidates, Ref) or not isinstance(candidates._node, Think):
            return False
        thought = candidates._node
        reader = next((node for node in self._nodes if thought.name in node.sources), None)
        if reader is not None:
            raise GraphError(
                f"{owner} lets {describe_node(thought)} stop at {join}, but {describe_node(reader)} reads its samples "
                "too; give join= to the thought instead"
            )
        if thought.join != all_of:
            raise GraphError(
                f"{owner} and {describe_node(thought)} both say how many samples are enough; give one join="
            )
        join.check(thought.samples, owner)
        self._replace(thought, join)
        return True

    def _replace(self, thought: Think, join: Join) -> None:
        """Put the thought anew, with a join of its own."""
        place = next(place for place, node in enumerate(self._nodes) if node.name == thought.name)
        self._nodes[place] = replace(thought, join=join)


def _numbered(templates: Sequence[str]) -> dict[str, str]:
    return {str(number): template for number, template in enumerate(templates, 1)}

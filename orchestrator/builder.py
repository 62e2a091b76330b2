"""The builder: what a graph function writes its nodes with, each checked against its ends as it is written."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Concatenate, Literal, cast, overload

from typing_extensions import TypeVar

from ..engines.base import GREEDY, Sampling, Stop
from ..errors import GraphError
from ..tools import Retry, Tool
from ..tools.retry import NEVER
from .format import grammar_of
from .graph import Argument, Call, Constant, Drive, Fixed, Function, Items, Map, Node, Think, Where
from .ref import Ref, describe, edge_of
from .scope import Scope
from .signature import NO_NAMES, Parameter, parameters_of, return_type
from .source import caller, local_names
from .template import read_template
from .types import element, fits, join, name_of, of_value

T = TypeVar("T")
S = TypeVar("S", default=str)


class Builder:
    """Writes the nodes of one graph.

    Every method gives a symbolic reference, typed as the value that it stands for: pass it to other nodes or return
    it. Plain values may stand wherever a reference may. `name`, `retry` and `timeout` (seconds) are the node's own.
    Raises GraphError, which names both ends and their lines.
    """

    def __init__(self, name: str, names: Mapping[str, Any] = NO_NAMES) -> None:
        self._name = name
        self._enclosing = names
        self._nodes: list[Node] = []
        self._names: set[str] = set()
        self._numbers: dict[str, int] = {}

    @overload
    def think(  # type: ignore[overload-overlap]
        self,
        template: str,
        /,
        *,
        returns: type[S] = str,  # type: ignore[assignment]
        after: object = "",
        name: str = "",
        system: str = "",
        max_tokens: int = 512,
        stop: Sequence[Stop] = (),
        sampling: Sampling = GREEDY,
        samples: Literal[1] = 1,
        retry: Retry = NEVER,
        timeout: float = math.inf,
        **values: object,
    ) -> S: ...
    @overload
    def think(
        self,
        template: str,
        /,
        *,
        returns: type[S] = str,  # type: ignore[assignment]
        after: object = "",
        name: str = "",
        system: str = "",
        max_tokens: int = 512,
        stop: Sequence[Stop] = (),
        sampling: Sampling = GREEDY,
        samples: int,
        retry: Retry = NEVER,
        timeout: float = math.inf,
        **values: object,
    ) -> list[S]: ...
    def think(
        self,
        template: str,
        /,
        *,
        returns: Any = str,
        after: object = "",
        name: str = "",
        system: str = "",
        max_tokens: int = 512,
        stop: Sequence[Stop] = (),
        sampling: Sampling = GREEDY,
        samples: int = 1,
        retry: Retry = NEVER,
        timeout: float = math.inf,
        **values: object,
    ) -> Any:
        """A generation. Values flow in braces; `after` (a thought, or its name) continues that thought's context.

        `returns=str` is the text as it comes; a Literal of strings is a choice; any other type is asked for as JSON
        under a grammar and parsed. With `samples` above 1 the value is the list of them.
        """
        where = caller()
        name = self._free_name(name or "think", where, given=bool(name))
        owner = f"think node '{name}' ({where})"
        parsed = read_template(template, owner)
        self._check_fields(owner, parsed.fields, values)
        grammar = grammar_of(returns, owner)
        needs = (f"grammar:{type(grammar).__name__}",) if grammar else ()
        if samples < 1:
            raise GraphError(f"{owner} asks for samples={samples}; use 1 or more")
        node = Think(
            name=name,
            where=where,
            type=list[returns] if samples > 1 else returns,
            arguments=self._arguments(values),
            after=self._parent(after),
            timeout=timeout,
            retry=retry,
            needs=needs,
            template=parsed,
            system=system,
            returns=returns,
            grammar=grammar,
            max_tokens=max_tokens,
            stop=tuple(stop),
            sampling=sampling,
            samples=samples,
        )
        return self._add(node)

    def call(self, tool: Tool[..., T], /, *, name: str = "", **arguments: object) -> T:
        """A tool call; the tool's own timeout, retry policy and cap hold."""
        where = caller()
        if not isinstance(tool, Tool):
            raise GraphError(f"g.call at {where} was given {tool!r}, which is no tool; use @plait.tool or g.function")
        name = self._free_name(name or tool.name, where, given=bool(name))
        owner = f"call node '{name}' ({where})"
        self._check_arguments(owner, parameters_of(tool), arguments)
        node = Call(name=name, where=where, type=tool.returns, arguments=self._arguments(arguments), tool=tool)
        return cast(T, self._add(node))

    @overload
    def map(
        self, target: Tool[..., T], items: object, /, *, name: str = "", cap: int = 0, **others: object
    ) -> list[T]: ...
    @overload
    def map(
        self, target: Callable[..., Awaitable[T]], items: object, /, *, name: str = "", cap: int = 0, **others: object
    ) -> list[T]: ...
    @overload
    def map(
        self, target: Callable[..., T], items: object, /, *, name: str = "", cap: int = 0, **others: object
    ) -> list[T]: ...
    def map(self, target: Any, items: object, /, *, name: str = "", cap: int = 0, **others: object) -> Any:
        """A tool or function applied to every element of a list, all at once under the tool's cap (and `cap`, if any).

        An element is the first argument that `others` does not give. One failure cancels the rest and names the item.
        """
        where = caller()
        plain = getattr(target, "name", "") if isinstance(target, Tool) else getattr(target, "__name__", "map")
        name = self._free_name(name or plain.strip("<>"), where, given=bool(name))
        owner = f"map node '{name}' ({where})"
        parameters = parameters_of(target, self._known())
        over = next((parameter.name for parameter in parameters if parameter.name not in others), "")
        if not over:
            raise GraphError(f"{owner}: no argument of '{plain}' is left for the elements")
        kind = element(self._type_of(items))
        if kind is None:
            raise GraphError(
                f"{owner} maps over {self._describe(items)} of type {self._shown(items)}, which is no list"
            )
        self._check_arguments(owner, parameters, {over: _Element(kind, self._describe(items)), **others})
        returns = target.returns if isinstance(target, Tool) else return_type(target, self._known())
        node = Map(
            name=name,
            where=where,
            type=list[returns],  # type: ignore[valid-type]
            arguments=self._arguments({over: items, **others}),
            target=target,
            over=over,
            cap=cap,
        )
        return self._add(node)

    @overload
    def function(
        self,
        function: Callable[..., Awaitable[T]],
        /,
        *,
        name: str = "",
        retry: Retry = NEVER,
        timeout: float = math.inf,
        **values: object,
    ) -> T: ...
    @overload
    def function(
        self,
        function: Callable[..., T],
        /,
        *,
        name: str = "",
        retry: Retry = NEVER,
        timeout: float = math.inf,
        **values: object,
    ) -> T: ...
    def function(
        self,
        function: Any,
        /,
        *,
        name: str = "",
        retry: Retry = NEVER,
        timeout: float = math.inf,
        **values: object,
    ) -> Any:
        """A Python function. A plain one runs in the event loop: what blocks belongs in an async function or a tool."""
        where = caller()
        plain = getattr(function, "__name__", "function").strip("<>")
        name = self._free_name(name or plain, where, given=bool(name))
        self._check_arguments(f"function node '{name}' ({where})", parameters_of(function, self._known()), values)
        node = Function(
            name=name,
            where=where,
            type=return_type(function, self._known()),
            arguments=self._arguments(values),
            timeout=timeout,
            retry=retry,
            function=function,
        )
        return self._add(node)

    def drive(
        self,
        driver: Callable[Concatenate[Scope, ...], Awaitable[T]],
        /,
        *,
        name: str = "",
        needs: Sequence[str] = (),
        retry: Retry = NEVER,
        timeout: float = math.inf,
        **values: object,
    ) -> T:
        """A driver: `async def drive(scope, **values)` that thinks, calls and grows nodes while it runs.

        `needs` are capabilities of the engine that it can't do without, such as "prune:exact" or "score".
        """
        where = caller()
        plain = getattr(driver, "__name__", "drive")
        name = self._free_name(name or plain, where, given=bool(name))
        owner = f"drive node '{name}' ({where})"
        parameters = parameters_of(driver, self._known())
        if not parameters:
            raise GraphError(f"{owner}: driver '{plain}' takes no argument; its first one must be the scope")
        self._check_arguments(owner, parameters[1:], values)
        node = Drive(
            name=name,
            where=where,
            type=return_type(driver, self._known()),
            arguments=self._arguments(values),
            timeout=timeout,
            retry=retry,
            needs=tuple(needs),
            driver=driver,
        )
        return cast(T, self._add(node))

    def constant(self, value: T, /, *, name: str = "") -> T:
        """A named value that is the same in every run."""
        where = caller()
        name = self._free_name(name or "constant", where, given=bool(name))
        return cast(T, self._add(Constant(name=name, where=where, type=of_value(value), value=value)))

    # ---- parts

    def _known(self) -> Mapping[str, Any]:
        """Names that annotations may use beside those of their module."""
        return {**self._enclosing, **local_names()}

    def _add(self, node: Node) -> Ref:
        self._nodes.append(node)
        return Ref(self, node, node.type)

    def _free_name(self, name: str, where: Where, *, given: bool) -> str:
        """A given name must be free; one that we make up gets a number."""
        if "/" in name:
            raise GraphError(f"node name '{name}' ({where}) holds '/', which separates names in paths")
        if given and name in self._names:
            other = next(node for node in self._nodes if node.name == name)
            raise GraphError(
                f"graph '{self._name}': two nodes are called '{name}' ({other.where} and {where}); "
                "give one of them another name="
            )
        free = name
        while free in self._names:
            self._numbers[name] = self._numbers.get(name, 1) + 1
            free = f"{name}_{self._numbers[name]}"
        self._names.add(free)
        return free

    def _parent(self, after: object) -> str:
        if isinstance(after, str):
            return after
        if isinstance(after, Ref):
            self._check_own(after)
            return after._node.name
        raise GraphError(f"after={after!r} at {caller()} is no thought; pass what g.think gave, or its name")

    def _arguments(self, values: Mapping[str, object]) -> dict[str, Argument]:
        return {name: self._argument(value) for name, value in values.items()}

    def _argument(self, value: object) -> Argument:
        if isinstance(value, Ref):
            self._check_own(value)
            return edge_of(value)
        if isinstance(value, list | tuple) and any(isinstance(item, Ref | list | tuple) for item in value):
            return Items(tuple(self._argument(item) for item in value))
        return Fixed(value)

    def _check_own(self, ref: Ref) -> None:
        if ref._builder is not self:
            raise GraphError(
                f"{describe(ref)} belongs to graph '{ref._builder._name}' "
                f"and can't be used in '{self._name}' ({caller()})"
            )

    def _check_fields(self, owner: str, fields: Sequence[str], values: Mapping[str, object]) -> None:
        missing = [name for name in fields if name not in values]
        if missing:
            given = ", ".join(values) or "none"
            raise GraphError(
                f"the template of {owner} holds '{{{missing[0]}}}' but no such value was given; given: {given}"
            )
        for name, value in values.items():
            if name not in fields:
                shown = ", ".join(fields) or "none"
                raise GraphError(
                    f"{owner} was given '{name}' ({self._describe(value)}), which its template does not hold; "
                    f"its fields: {shown}"
                )

    def _check_arguments(self, owner: str, parameters: Sequence[Parameter], values: Mapping[str, object]) -> None:
        known = {parameter.name: parameter for parameter in parameters if not parameter.rest}
        takes_any = any(parameter.rest for parameter in parameters)
        for name, value in values.items():
            if name in known:
                self._check_type(owner, known[name], value)
            elif not takes_any:
                shown = ", ".join(known) or "none"
                raise GraphError(f"{owner} has no argument '{name}' (given {self._describe(value)}); it takes: {shown}")
        for parameter in known.values():
            if parameter.required and parameter.name not in values:
                raise GraphError(
                    f"{owner} lacks argument '{parameter.name}' of type {name_of(parameter.type)}; "
                    f"given: {', '.join(values) or 'none'}"
                )

    def _check_type(self, owner: str, parameter: Parameter, value: object) -> None:
        given = self._type_of(value)
        if not fits(given, parameter.type):
            raise GraphError(
                f"{self._describe(value)} gives {name_of(given)}, "
                f"but argument '{parameter.name}' of {owner} takes {name_of(parameter.type)}"
            )

    def _type_of(self, value: object) -> Any:
        if isinstance(value, _Element):
            return value.type
        if isinstance(value, Ref):
            return value._type
        if isinstance(value, list | tuple) and any(isinstance(item, Ref) for item in value):
            return list[join([self._type_of(item) for item in value])]  # type: ignore[misc]
        return of_value(value)

    def _shown(self, value: object) -> str:
        return name_of(self._type_of(value))

    def _describe(self, value: object) -> str:
        if isinstance(value, _Element):
            return f"an element of {value.source}"
        if isinstance(value, Ref):
            return describe(value)
        return f"the value {value!r:.60}"


class _Element:
    """Stands for an element of a list while a map's arguments are checked."""

    def __init__(self, type_: Any, source: str) -> None:
        self.type = type_
        self.source = source

"""The builder: what a graph function writes its nodes with, each checked against its ends as it is written."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Concatenate, Literal, cast, overload

from typing_extensions import TypeVar

from ..engines.base import GREEDY, Sampling, Stop
from ..errors import GraphError
from ..tools import Retry, Tool
from ..tools.retry import NEVER
from .composer import Composer
from .format import asked_of
from .graph import Call, Constant, Drive, Foreseen, Function, Graph, Map, Think
from .joins import AllOf, AllSettled, AnyOf, Join, KOf, Settled, all_of
from .scope import Scope
from .signature import parameters_of, return_type
from .types import fill, of_value
from .writing import name_of_target

T = TypeVar("T")
S = TypeVar("S", default=str)


class Builder(Composer):
    """Writes the nodes of one graph.

    Every method gives a symbolic reference, typed as the value that it stands for: pass it to other nodes or return
    it. Plain values may stand wherever a reference may. `name`, `retry` and `timeout` (seconds) are the node's own.
    Raises GraphError, which names both ends and their lines.
    """

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
        temperature: float = 0.0,
        samples: Literal[1] = 1,
        join: AllOf | AnyOf = all_of,
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
        temperature: float = 0.0,
        samples: int,
        join: AllOf | KOf = all_of,
        retry: Retry = NEVER,
        timeout: float = math.inf,
        **values: object,
    ) -> list[S]: ...
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
        temperature: float = 0.0,
        samples: int,
        join: AnyOf,
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
        temperature: float = 0.0,
        samples: int,
        join: AllSettled,
        retry: Retry = NEVER,
        timeout: float = math.inf,
        **values: object,
    ) -> list[Settled[S]]: ...
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
        temperature: float = 0.0,
        samples: int = 1,
        join: Join = all_of,
        retry: Retry = NEVER,
        timeout: float = math.inf,
        **values: object,
    ) -> Any:
        """A generation. Values flow in braces; `after` (a thought, or its name) continues that thought's context.

        `returns=str` is the text as it comes; a Literal of strings is a choice; any other type is asked for as JSON
        under a grammar and parsed. With `samples` above 1 the value is what `join` makes of them: a list, or the first.
        `temperature` is short for `sampling=Sampling(temperature=…)`.
        """
        where = self._where()
        name = self._free_name(name or "think", where, given=bool(name))
        owner = f"think node '{name}' ({where})"
        parsed = self._template(template, owner, values)
        grammar, needs = asked_of(returns, owner)
        if samples < 1:
            raise GraphError(f"{owner} asks for samples={samples}; use 1 or more")
        join.check(samples, owner)
        node = Think(
            name=name,
            where=where,
            type=join.type(returns) if samples > 1 or join != all_of else returns,
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
            sampling=replace(sampling, temperature=temperature) if temperature else sampling,
            samples=samples,
            join=join,
        )
        return self._add(node)

    def call(self, tool: Tool[..., T], /, *, name: str = "", **arguments: object) -> T:
        """A tool call; the tool's own timeout, retry policy and cap hold."""
        where = self._where()
        if not isinstance(tool, Tool):
            raise GraphError(f"g.call at {where} was given {tool!r}, which is no tool; use @plait.tool or g.function")
        name = self._free_name(name or tool.name, where, given=bool(name))
        owner = f"call node '{name}' ({where})"
        variables = self._check_arguments(owner, parameters_of(tool), arguments)
        returns = fill(tool.returns, variables)
        node = Call(name=name, where=where, type=returns, arguments=self._arguments(arguments), tool=tool)
        return cast(T, self._add(node))

    @overload
    def map(
        self,
        target: Callable[..., Awaitable[T]],
        items: object,
        /,
        *,
        name: str = "",
        cap: int = 0,
        join: AllOf | KOf = all_of,
        **others: object,
    ) -> list[T]: ...
    @overload
    def map(
        self,
        target: Graph[T] | Callable[..., T],
        items: object,
        /,
        *,
        name: str = "",
        cap: int = 0,
        join: AllOf | KOf = all_of,
        **others: object,
    ) -> list[T]: ...
    @overload
    def map(
        self,
        target: Callable[..., Awaitable[T]],
        items: object,
        /,
        *,
        name: str = "",
        cap: int = 0,
        join: AnyOf,
        **others: object,
    ) -> T: ...
    @overload
    def map(
        self,
        target: Graph[T] | Callable[..., T],
        items: object,
        /,
        *,
        name: str = "",
        cap: int = 0,
        join: AnyOf,
        **others: object,
    ) -> T: ...
    @overload
    def map(
        self,
        target: Callable[..., Awaitable[T]],
        items: object,
        /,
        *,
        name: str = "",
        cap: int = 0,
        join: AllSettled,
        **others: object,
    ) -> list[Settled[T]]: ...
    @overload
    def map(
        self,
        target: Graph[T] | Callable[..., T],
        items: object,
        /,
        *,
        name: str = "",
        cap: int = 0,
        join: AllSettled,
        **others: object,
    ) -> list[Settled[T]]: ...
    def map(
        self, target: Any, items: object, /, *, name: str = "", cap: int = 0, join: Join = all_of, **others: object
    ) -> Any:
        """A tool, graph or function applied to every element of a list, all at once under the caps of target and node.

        An element is the first argument that `others` does not give. `join` says how many must succeed: by default all,
        so that one failure cancels the rest and names the item; with `settled` failures are values.
        """
        where = self._where()
        name = self._free_name(name or name_of_target(target), where, given=bool(name))
        over, returns = self._check_each(f"map node '{name}' ({where})", target, items, others)
        node = Map(
            name=name,
            where=where,
            type=join.type(returns),
            arguments=self._arguments({over: items, **others}),
            target=target,
            over=over,
            cap=cap,
            join=join,
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
        where = self._where()
        name = self._free_name(name or name_of_target(function), where, given=bool(name))
        owner = f"function node '{name}' ({where})"
        variables = self._check_arguments(owner, parameters_of(function, self._known()), values)
        node = Function(
            name=name,
            where=where,
            type=fill(return_type(function, self._known()), variables),
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
        foreseen: Foreseen | None = None,
        retry: Retry = NEVER,
        timeout: float = math.inf,
        **values: object,
    ) -> T:
        """A driver: `async def drive(scope, **values)` that thinks, calls and grows nodes while it runs.

        `needs` are capabilities of the engine that it can't do without, such as "prune:exact" or "score"; `foreseen`
        is what it will do at most, for plans and forecasts, where that is known.
        """
        where = self._where()
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
            foreseen=foreseen,
        )
        return cast(T, self._add(node))

    def constant(self, value: T, /, *, name: str = "") -> T:
        """A named value that is the same in every run."""
        where = self._where()
        name = self._free_name(name or "constant", where, given=bool(name))
        return cast(T, self._add(Constant(name=name, where=where, type=of_value(value), value=value)))

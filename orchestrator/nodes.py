"""What each kind of written node does when it runs."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio

from ..engines.base import Context, Generation, Message
from ..errors import NodeTimeoutError
from ..tools import Tool
from .format import parse
from .graph import Call, Drive, Function, Map, Node, Think
from .scope import Scope, run_in
from .together import together


@dataclass(frozen=True, slots=True)
class Done:
    """A node's value, and the context that others may continue."""

    value: Any
    context: Context | None = None


def runs_in_place(node: Node) -> bool:
    """Whether a node is a plain function without limits of its own: the queue runs it with no task and no wait."""
    return (
        isinstance(node, Function)
        and not inspect.iscoroutinefunction(node.function)
        and not inspect.iscoroutinefunction(getattr(node.function, "__call__", None))  # noqa: B004
        and node.timeout == math.inf
        and not node.retry.on
    )


async def run_node(node: Node, scope: Scope, values: Mapping[str, Any], parent: Context | None) -> Done:
    """Run a node under its timeout and its retry policy. Raises what it raises, and NodeTimeoutError."""
    attempt = partial(_run, node, scope, values, parent)
    if node.timeout == math.inf:
        return await node.retry.call(attempt)
    with anyio.move_on_after(node.timeout):
        return await node.retry.call(attempt)
    raise NodeTimeoutError(
        f"it took longer than its timeout of {node.timeout:g} seconds; raise timeout= at {node.where} if it needs more"
    )


async def _run(node: Node, scope: Scope, values: Mapping[str, Any], parent: Context | None) -> Done:
    match node:
        case Think():
            return await _think(node, scope, values, parent)
        case Call():
            return Done(await scope.invoke(node.tool, values))
        case Map():
            return Done(await _map(node, scope, values))
        case Function():
            return Done(await _apply(node.function, values))
        case Drive():
            return Done(await node.driver(scope, **values))
    raise TypeError(f"a {node.kind} node can't be run")


async def _think(node: Think, scope: Scope, values: Mapping[str, Any], parent: Context | None) -> Done:
    messages = [Message("system", node.system)] if node.system else []
    messages.append(Message("user", node.template.fill(values)))
    context = await (scope.start(messages) if parent is None else scope.extend(parent, messages))
    try:
        if node.samples == 1:
            written = await _generate(node, context, scope)
            return Done(parse(node.returns, written, node.max_tokens), written.context)
        titles = [f"sample {index + 1}" for index in range(node.samples)]
        return Done(await scope.gather([(title, partial(_sample, node, context)) for title in titles], kind="sample"))
    finally:
        context.release()


async def _sample(node: Think, context: Context, scope: Scope) -> Any:
    written = await _generate(node, context, scope)
    written.context.release()
    return parse(node.returns, written, node.max_tokens)


async def _generate(node: Think, context: Context, scope: Scope) -> Generation:
    return await scope.generate(
        context, max_tokens=node.max_tokens, stop=node.stop, grammar=node.grammar, sampling=node.sampling
    )


async def _map(node: Map, scope: Scope, values: Mapping[str, Any]) -> list[Any]:
    others = {name: value for name, value in values.items() if name != node.over}
    jobs = [partial(_map_item, node, scope, {node.over: item, **others}) for item in values[node.over]]
    return await together(jobs, at_once=_at_once(node, scope))


def _at_once(node: Map, scope: Scope) -> int:
    """No more tasks than calls that may be in flight: the others would only wait. 0 for no limit."""
    caps = [node.cap, scope.cap(node.target) if isinstance(node.target, Tool) else 0]
    return min((cap for cap in caps if cap), default=0)


async def _map_item(node: Map, scope: Scope, values: dict[str, Any]) -> Any:
    if isinstance(node.target, Tool):
        return await scope.call(node.target, values)
    name = getattr(node.target, "__name__", "item")
    return await run_in(scope.grow("function", name), lambda _: _apply(node.target, values))


async def _apply(function: Callable[..., Any], values: Mapping[str, Any]) -> Any:
    value = function(**values)
    return await value if inspect.isawaitable(value) else value

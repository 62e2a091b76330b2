"""What each kind of written node does when it runs."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from ..engines.base import Context, Generation, Member, Message
from ..errors import BudgetError, InputError, NodeTimeoutError
from ..tools import Tool
from .compound import CONDITION, Ask, Branch, Loop, Select, Subgraph, Team
from .contexts import Held
from .format import parse
from .graph import Call, Drive, Function, Graph, Map, Node, Target, Think
from .joins import all_of, any_of, settled
from .prefixes import prefix_key
from .scope import MISSING, Scope, run_in
from .signature import takes_by_place

if TYPE_CHECKING:
    from .compile import Plan


@dataclass(frozen=True, slots=True)
class Done:
    """A node's value, and the contexts that others may continue, given away with one hold on each."""

    value: Any
    context: Held = None


@dataclass(frozen=True, slots=True)
class Inside:
    """What a node has beside its values.

    `parent` is the context that it continues, `contexts` those that came with its arguments, `keeps` says whether
    others read its own; `plans` are those of the graphs that it holds, and `run` runs one in a scope.
    """

    parent: Context | None
    contexts: Mapping[str, Held]
    keeps: bool
    plans: Mapping[str, Plan]
    run: Callable[[Plan, Scope, Mapping[str, Any], Mapping[str, Held]], Awaitable[Done]]


def runs_in_place(node: Node) -> bool:
    """Whether a node is a plain function without limits of its own: the queue runs it with no task and no wait."""
    return (
        isinstance(node, Function)
        and not inspect.iscoroutinefunction(node.function)
        and not inspect.iscoroutinefunction(getattr(node.function, "__call__", None))  # noqa: B004
        and node.timeout == math.inf
        and not node.retry.on
    )


async def run_node(node: Node, scope: Scope, values: Mapping[str, Any], inside: Inside) -> Done:
    """Run a node under its timeout and its retry policy. Raises what it raises, and NodeTimeoutError."""
    attempt = partial(_run, node, scope, values, inside)
    budget = scope.seconds_left
    if node.timeout == budget == math.inf:
        return await node.retry.call(attempt)
    with anyio.move_on_after(min(node.timeout, budget)):
        return await node.retry.call(attempt)
    if budget < node.timeout:
        return Done(scope.settle_for_offer(scope.out_of_time()))
    raise NodeTimeoutError(
        f"it took longer than its timeout of {node.timeout:g} seconds; raise timeout= at {node.where} if it needs more"
    )


async def _run(node: Node, scope: Scope, values: Mapping[str, Any], inside: Inside) -> Done:
    match node:
        case Think():
            return await _think(node, scope, values, inside)
        case Call():
            return Done(await scope.invoke(node.tool, values))
        case Map():
            return Done(await _map(node, scope, values, inside))
        case Function():
            return Done(await _once(scope, node, node.type, values, partial(_apply, node.function, values)))
        case Drive():
            return await _drive(node, scope, values)
        case Subgraph():
            return await inside.run(inside.plans["graph"], scope, values, inside.contexts)
        case Branch():
            return await _branch(node, scope, values, inside)
        case Loop():
            return await _loop(node, scope, values, inside)
        case Select():
            return await _select(node, scope, values, inside)
        case Team():
            return await _team(node, scope, values, inside)
        case Ask():
            return Done(await scope.ask(node.template.fill(values), node.type))
    raise TypeError(f"a {node.kind} node can't be run")


# ---- thoughts


async def _think(node: Think, scope: Scope, values: Mapping[str, Any], inside: Inside) -> Done:
    context = await _begin(node, scope, values, inside.parent)
    try:
        if node.samples == 1 and node.join == all_of:
            written = await _generate(node, context, scope)
            return Done(parse(node.returns, written, node.max_tokens), scope.hold(written.context))
        return await _samples(node, scope, context, inside.keeps)
    finally:
        context.release()


async def _samples(node: Think, scope: Scope, context: Context, keeps: bool) -> Done:
    """Several answers from one context; those that the join leaves out are cancelled."""
    children = [(f"sample {index + 1}", partial(_sample, node, context, keeps)) for index in range(node.samples)]
    pairs = await scope.gather(children, kind="sample", join=node.join)
    if node.join == settled:
        return Done([replace(one, value=one.value and one.value[0]) for one in pairs])
    if node.join == any_of:
        value, kept = pairs
        return Done(value, scope.hold(kept))
    contexts = tuple(kept for _, kept in pairs if kept is not None)
    return Done([value for value, _ in pairs], scope.hold(contexts))


async def _sample(node: Think, context: Context, keeps: bool, scope: Scope) -> tuple[Any, Context | None]:
    written = await _generate(node, context, scope)
    value = parse(node.returns, written, node.max_tokens)
    if keeps:
        return value, written.context
    written.context.release()
    return value, None


async def _begin(node: Think, scope: Scope, values: Mapping[str, Any], parent: Context | None) -> Context:
    """The context in which a thought is written: its parent's, or a new one, and its own messages."""
    messages = [Message("system", node.system)] if node.system else []
    messages.append(Message("user", node.template.fill(values)))
    if parent is not None:
        return await scope.extend(parent, messages)
    async with scope.behind_first(prefix_key(node)):
        return await scope.start(messages)


async def _generate(node: Think, context: Context, scope: Scope) -> Generation:
    return await scope.generate(
        context, max_tokens=node.max_tokens, stop=node.stop, grammar=node.grammar, sampling=node.sampling
    )


async def _team(node: Team, scope: Scope, values: Mapping[str, Any], inside: Inside) -> Done:
    contexts = [await _begin(thought, scope, values, inside.parent) for thought in node.members]
    try:
        members = [
            Member(
                context=context,
                name=thought.name,
                max_tokens=thought.max_tokens,
                stop=thought.stop,
                grammar=thought.grammar,
                sampling=thought.sampling,
            )
            for thought, context in zip(node.members, contexts, strict=True)
        ]
        written = await scope.team(members, node.teamwork)
        thoughts = zip(node.members, written, strict=True)
        value = [parse(thought.returns, text, thought.max_tokens) for thought, text in thoughts]
        return Done(value, scope.hold(tuple(text.context for text in written)))
    finally:
        for context in contexts:
            context.release()


# ---- many at once


async def _map(node: Map, scope: Scope, values: Mapping[str, Any], inside: Inside) -> Any:
    others = {name: value for name, value in values.items() if name != node.over}
    apply = _applier(node.target, node.over)
    jobs = [partial(_each, apply, scope, {node.over: item, **others}, inside) for item in values[node.over]]
    return await scope.joined(jobs, node.join, at_once=_at_once(node, scope))


def _at_once(node: Map, scope: Scope) -> int:
    """No more tasks than calls that may be in flight: the others would only wait. 0 for no limit."""
    caps = [node.cap, scope.cap(node.target) if isinstance(node.target, Tool) else 0]
    return min((cap for cap in caps if cap), default=0)


def _applier(target: Target, over: str) -> Target:
    """The target, called by name even where it takes its item by place, as `len` does."""
    if isinstance(target, Tool | Graph) or not takes_by_place(target, over):
        return target

    def by_place(**values: Any) -> Any:
        return target(values.pop(over), **values)

    by_place.__name__ = getattr(target, "__name__", "item")
    return by_place


async def _each(target: Target, scope: Scope, values: Mapping[str, Any], inside: Inside) -> Any:
    """A target applied to one item, as a child node."""
    if isinstance(target, Tool):
        return await scope.call(target, values)
    if isinstance(target, Graph):
        graph = scope.grow("graph", target.name)
        return await run_in(graph, partial(_run_plan, inside.plans["each"], values, inside))
    child = scope.grow("function", getattr(target, "__name__", "item"))
    return await run_in(child, lambda child: _once(child, target, None, values, partial(_apply, target, values)))


async def _run_plan(plan: Plan, values: Mapping[str, Any], inside: Inside, scope: Scope) -> Any:
    """The value of a graph whose context nobody continues."""
    return (await inside.run(plan, scope, values, {})).value


async def _select(node: Select, scope: Scope, values: Mapping[str, Any], inside: Inside) -> Done:
    candidates = list(values[node.over])
    if not candidates:
        raise InputError("there are no candidates to select from")
    others = {name: value for name, value in values.items() if name != node.over}
    by = _applier(node.by, node.over)
    jobs = [partial(_score, by, scope, {node.over: item, **others}, inside, i) for i, item in enumerate(candidates)]
    scores = await scope.joined(jobs, node.join)
    _, best = max(scores, key=lambda scored: (scored[0], -scored[1]))
    scope.emit("scores", {str(index): score for score, index in scores})
    held = inside.contexts.get(node.over)
    return Done(candidates[best], scope.hold(held[best]) if isinstance(held, tuple) else None)


async def _score(by: Target, scope: Scope, values: Mapping[str, Any], inside: Inside, index: int) -> tuple[float, int]:
    return await _each(by, scope, values, inside), index


# ---- one graph or another, again and again


async def _branch(node: Branch, scope: Scope, values: Mapping[str, Any], inside: Inside) -> Done:
    condition = values[CONDITION]
    for index, arm in enumerate(node.arms):
        if arm.value == condition and type(arm.value) is type(condition):
            return await _take(inside.plans[f"arm {index}"], arm.label, scope, values, inside)
    if node.otherwise is None:
        raise InputError(f"{condition!r} is none of its arms: {', '.join(repr(arm.value) for arm in node.arms)}")
    return await _take(inside.plans["otherwise"], "otherwise", scope, values, inside)


async def _take(plan: Plan, label: str, scope: Scope, values: Mapping[str, Any], inside: Inside) -> Done:
    """Run a graph on those of the values that it names, in a child node."""
    taken = {node.name: values[node.name] for node in plan.graph.inputs if node.name in values}
    with scope.grow("arm" if scope.kind == "branch" else "round", label) as child:
        done = await inside.run(plan, child, taken, inside.contexts)
        child.finish(done.value)
    return done


async def _loop(node: Loop, scope: Scope, values: Mapping[str, Any], inside: Inside) -> Done:
    done = Done(None)
    try:
        for number in range(1, node.at_most + 1):
            last, done = done, await _take(inside.plans["body"], f"round {number}", scope, values, inside)
            scope.drop(last.context)
            if node.until is not None and await _ends(node.until, scope, done.value, inside):
                return done
            values = {**values, node.carried: done.value}
            inside = replace(inside, contexts={**inside.contexts, node.carried: done.context})
    except BaseException:
        scope.drop(done.context)
        raise
    if node.until is not None:
        scope.emit("bound", {"at_most": node.at_most})
    return done


async def _ends(until: Target, scope: Scope, value: Any, inside: Inside) -> bool:
    if isinstance(until, Graph):
        (name,) = (node.name for node in until.inputs[:1])
        child = scope.grow("graph", until.name)
        return bool(await run_in(child, partial(_run_plan, inside.plans["until"], {name: value}, inside)))
    if isinstance(until, Tool):
        return bool(await scope.call(until, {until.signature.arguments[0]: value}))
    said = until(value)
    return bool(await said if inspect.isawaitable(said) else said)


async def _drive(node: Drive, scope: Scope, values: Mapping[str, Any]) -> Done:
    """A driver's value; where a budget ends it, the best answer that it has offered."""
    try:
        return Done(await _once(scope, node, node.type, values, partial(node.driver, scope, **values)))
    except BudgetError as error:
        return Done(scope.settle_for_offer(error))


async def _once(
    scope: Scope, definition: object, returns: Any, values: Mapping[str, Any], function: Callable[[], Awaitable[Any]]
) -> Any:
    """What a function gives, unless a journal has it."""
    value = scope.recall(definition, returns, values)
    return await function() if value is MISSING else value


async def _apply(function: Callable[..., Any], values: Mapping[str, Any]) -> Any:
    value = function(**values)
    return await value if inspect.isawaitable(value) else value

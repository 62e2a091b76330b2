"""Adaptive Parallel Reasoning: threads spawn children that see a message only, and go on with what they give (2025)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeAlias

from ..engines import Context, Generation, Grammar
from ..errors import BudgetError, FormatError
from ..orchestrator import Builder, Graph, Scope, graph
from .prompt import conversation
from .settings import at_least
from .token_map import TokenMap

SPAWN, SPAWN_END = "<spawn>", "</spawn>"
JOIN, JOIN_END = "<join>", "</join>"
RETURN, RETURN_END = "<ret>", "</ret>"
NONE = "none"
"""What stands for the result of a child that no budget was left for."""

Join: TypeAlias = Literal["exact", "shift", "keep"]


@dataclass(frozen=True, slots=True)
class Spawn:
    """A child that a thread asks for: its title, and the message that is all it sees."""

    title: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpawnFormat:
    """How threads write what they spawn and read what they join.

    `read` gets a thread's message and the text of its spawn, and gives the children; `write` gets the children and
    their results, in spawn order, and gives the text of the join. `grammar` holds a thread until it spawns or returns,
    `after_join` from then on.
    """

    prompt: str
    read: Callable[[str, str], Sequence[Spawn]]
    write: Callable[[Sequence[Spawn], Sequence[str]], str]
    grammar: Grammar | None = None
    after_join: Grammar | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpawnLimits:
    """Budgets of a thread and those below it. Slots of children that no budget is left for read "none".

    `max_children` of one spawn run, `max_depth` levels below this thread, `max_calls` threads below it in all, which
    children share evenly, so that who runs never hangs on who is faster. A thread spawns at most `max_spawns` times.
    """

    max_tokens: int
    max_children: int
    max_depth: int
    max_calls: int
    max_spawns: int
    join: Join

    def __post_init__(self) -> None:
        at_least(1, max_tokens=self.max_tokens, max_children=self.max_children, max_spawns=self.max_spawns)
        at_least(0, max_depth=self.max_depth, max_calls=self.max_calls)


def apr(
    *,
    max_tokens: int = 1024,
    max_children: int = 10,
    max_depth: int = 3,
    max_calls: int = 100,
    max_spawns: int = 8,
    join: Join = "exact",
) -> Graph[str]:
    """A graph that solves a task with threads that spawn and join (arXiv:2504.15466).

    On a join the spawn's text is replaced in the parent by the children's results, in spawn order; what a child wrote
    to get there never enters the parent. `join` says how later tokens would be treated ("exact" or "shift"; a spawn
    stands last, so both cost nothing), or "keep"s the spawn's text. Two children with one message are two children.
    For the budgets see SpawnLimits. A child's fault is the run's: it is never read as "none".
    """
    limits = SpawnLimits(
        max_tokens=max_tokens,
        max_children=max_children,
        max_depth=max_depth,
        max_calls=max_calls,
        max_spawns=max_spawns,
        join=join,
    )

    async def solve(scope: Scope, task: str) -> str:
        return await spawn_and_join(scope, task, LINES, limits)

    @graph(name="apr")
    def build(g: Builder, task: str) -> str:
        return g.drive(solve, task=task, needs=needs(join))

    return build


def needs(join: Join) -> list[str]:
    """What an engine must be able to do for a join."""
    return [] if join == "keep" else [f"prune:{join}"]


async def spawn_and_join(scope: Scope, message: str, form: SpawnFormat, limits: SpawnLimits) -> str:
    """One thread to its end, with all below it; what it returns."""
    result, _ = await _thread(scope, message, form, limits)
    return result


async def _thread(scope: Scope, message: str, form: SpawnFormat, limits: SpawnLimits) -> tuple[str, int]:
    """What a thread returns, and how many threads below it have run."""
    context, grammar, left = await scope.start(conversation(form.prompt, message)), form.grammar, limits.max_calls
    for _ in range(limits.max_spawns + 1):
        written, tokens = await _write(scope, context, grammar, limits.max_tokens)
        if written.stop != SPAWN_END:
            return between(written.text, RETURN, RETURN_END), limits.max_calls - left
        spawns = form.read(message, between(written.text, SPAWN, SPAWN_END))
        results, ran = await _run(scope, spawns, form, replace(limits, max_calls=left))
        joined = f"{JOIN}{form.write(spawns, results)}{JOIN_END}"
        context = await _join(scope, written, tokens, joined, limits.join)
        grammar, left = form.after_join, left - ran
    raise BudgetError(f"a thread spawned more than max_spawns={limits.max_spawns} times")


async def _child(scope: Scope, message: str, form: SpawnFormat, limits: SpawnLimits) -> tuple[str, int]:
    """As `_thread`, in a node whose value is the result."""
    result, ran = await _thread(scope, message, form, limits)
    scope.finish(result)
    return result, ran


async def _write(
    scope: Scope, context: Context, grammar: Grammar | None, max_tokens: int
) -> tuple[Generation, TokenMap]:
    """Write until a thread spawns or returns."""
    tokens = TokenMap(context.length)
    allowed = scope.supported(grammar) if grammar else None
    stops = [SPAWN_END, RETURN_END]
    async with scope.stream(context, max_tokens=max_tokens, stop=stops, grammar=allowed) as stream:
        async for chunk in stream:
            tokens.add(chunk.text, chunk.tokens)
    tokens.settle(stream.result.context.length)
    return stream.result, tokens


async def _run(scope: Scope, spawns: Sequence[Spawn], form: SpawnFormat, limits: SpawnLimits) -> tuple[list[str], int]:
    """The children's results, each in its slot, and how many threads have run."""
    count = min(len(spawns), limits.max_children, limits.max_calls) if limits.max_depth else 0
    if count < len(spawns):
        scope.emit("refused", f"{len(spawns) - count} of {len(spawns)} children: no budget is left for them")
    children = []
    for index, spawn in enumerate(spawns[:count]):
        share = (limits.max_calls - count + index) // count
        below = replace(limits, max_depth=limits.max_depth - 1, max_calls=share)
        children.append((spawn.title, partial(_child, message=spawn.message, form=form, limits=below)))
    ended = await scope.gather(children)
    results = [result for result, _ in ended] + [NONE] * (len(spawns) - count)
    return results, count + sum(ran for _, ran in ended)


async def _join(scope: Scope, written: Generation, tokens: TokenMap, joined: str, join: Join) -> Context:
    """The parent with the results in place of its spawn, or after it."""
    if join == "keep":
        return await scope.extend(written.context, joined)
    start = written.text.rindex(SPAWN)
    character, token = tokens.boundary(start)
    context = await scope.prune(written.context, token, written.context.length, mode=join)
    return await scope.extend(context, written.text[character:start] + joined)


def between(text: str, start: str, end: str) -> str:
    """What stands between the last `start` and the `end` of a text. Raises FormatError."""
    _, opened, rest = text.rpartition(start)
    if not opened or not rest.endswith(end):
        raise FormatError(f"a thread ended without {start}…{end}: {text[-200:]!r}")
    return rest.removesuffix(end)


# ---- messages and results, one a line


def _read_lines(message: str, spawned: str) -> list[Spawn]:
    lines = [line.strip() for line in spawned.splitlines() if line.strip()]
    if not lines:
        raise FormatError(f"{SPAWN}{spawned}{SPAWN_END} holds no message; write one a line")
    return [Spawn(line, line) for line in lines]


def _write_lines(spawns: Sequence[Spawn], results: Sequence[str]) -> str:
    return "\n" + "".join(f"{number}: {result.strip()}\n" for number, result in enumerate(results, 1))


LINES = SpawnFormat(prompt="apr", read=_read_lines, write=_write_lines)

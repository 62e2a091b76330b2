"""Multiverse: parts that don't depend on each other are outlined, written at once and merged (2025)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from ..engines import Context, Grammar, Regex, Stop
from ..errors import FormatError
from ..orchestrator import Builder, Graph, Scope, graph
from .blocks import Blocks, Outline
from .prompt import conversation
from .settings import at_least

GOAL_END, PATH_END, BLOCK_END = "</Goal>", "</Path>", "</Parallel>"
CONCLUSION, CONCLUSION_END = "<Conclusion>", "</Conclusion>"


def multiverse(
    *,
    max_tokens: int = 1024,
    max_paths: int = 16,
    max_depth: int = 5,
    held: int = 0,
    returns: Literal["answer", "trace"] = "answer",
) -> Graph[str]:
    """A graph that answers a task with parallel blocks.

    Where a goal ends, each of its outlines gets a thread on a fork of the context. The threads are written side by
    side; the context then takes them in where they stand (`splice` at "parallel": nothing moves), and the conclusion
    sees all of them. `max_tokens` bounds what a thread writes between two forks.

    | where the model | then |
    |---|---|
    | names an outline twice | the first gets a path |
    | leaves an outline out (1, 3) | those that are there get paths |
    | outlines nothing, or nests deeper than `max_depth` | the conclusion follows at once |
    | outlines more than `max_paths` | the first ones get paths |
    | ends a path without its end tag | what is open in it is closed; the others go on |
    | puts a tag where it can't stand | BlockError with line and column in that thread, and no more is generated |
    | ends in mid-block outside a path | FormatError that names what is open |

    What was mended is reported as an event "mended". `held` holds a model that doesn't know the tags to them by a
    grammar, with at most so many characters between two tags. `returns="trace"` gives everything that was written.
    """
    at_least(1, max_tokens=max_tokens, max_paths=max_paths)
    at_least(0, max_depth=max_depth, held=held)

    async def path(scope: Scope, context: Context, outline: Outline, depth: int) -> _Thread:
        opening = f"\n<Path>{outline.index}:"
        thread = _Thread(scope, await scope.extend(context, opening), Blocks.of_path(outline.index), opening)
        await write(thread, [PATH_END], depth, _path_grammar(outline.index, held, max_paths if depth else 0))
        if thread.blocks.open:
            scope.emit("mended", f"path {outline.index} ended inside {thread.blocks.open[-1]}; it was closed")
            await thread.insert(thread.blocks.closing)
        scope.finish(thread.text.removeprefix(opening))
        return thread

    async def write(thread: _Thread, stop: Sequence[str], depth: int, grammar: Grammar | None) -> None:
        """A thread to its end, with the blocks that it opens."""
        while await thread.generate(max_tokens, [GOAL_END, *stop], grammar) == GOAL_END:
            await fork(thread, depth)
            await thread.insert(f"\n{CONCLUSION}")
            grammar = _conclusion_grammar(held, PATH_END in stop)

    async def fork(thread: _Thread, depth: int) -> None:
        outlines = {outline.index: outline for outline in reversed(thread.blocks.outlines)}
        chosen = sorted(outlines.values(), key=thread.blocks.outlines.index)[: max_paths if depth else 0]
        if len(chosen) < len(thread.blocks.outlines):
            thread.scope.emit("mended", f"{len(chosen)} of {len(thread.blocks.outlines)} outlines get a path")
        if not chosen:
            return
        paths = [partial(path, context=thread.context, outline=outline, depth=depth - 1) for outline in chosen]
        titles = [f"{outline.index}: {outline.text}" for outline in chosen]
        threads = await thread.scope.gather(list(zip(titles, paths, strict=True)))
        await thread.merge(threads)

    async def solve(scope: Scope, task: str) -> str:
        thread = _Thread(scope, await scope.start(conversation("multiverse", task)), Blocks())
        await write(thread, [], max_depth, _root_grammar(held, max_paths))
        if thread.blocks.open:
            inside = ", ".join(f"<{tag}>" for tag in thread.blocks.open)
            raise FormatError(f"the trace ended inside {inside}; raise max_tokens={max_tokens}?")
        for fault in thread.blocks.faults:
            scope.emit("mended", str(fault))
        return thread.text if returns == "trace" else _answer(thread.text)

    @graph(name="multiverse")
    def build(g: Builder, task: str) -> str:
        return g.drive(solve, task=task, needs=["splice:exact"])

    return build


@dataclass(slots=True)
class _Thread:
    """One thread of a trace: what it attends to, and what it has written."""

    scope: Scope
    context: Context
    blocks: Blocks
    text: str = ""

    async def generate(self, max_tokens: int, stop: Sequence[str], grammar: Grammar | None) -> Stop | None:
        """Write on, read while it is written; at which tag it stopped."""
        grammar = self.scope.supported(grammar) if grammar else None
        async with self.scope.stream(self.context, max_tokens=max_tokens, stop=stop, grammar=grammar) as stream:
            async for chunk in stream:
                self._read(chunk.text)
        self.context = stream.result.context
        return stream.result.stop

    async def insert(self, text: str) -> None:
        self.context = await self.scope.extend(self.context, text)
        self._read(text)

    async def merge(self, threads: Sequence[_Thread]) -> None:
        """Take in threads that were forked here, side by side."""
        others = [thread.context for thread in threads]
        self.context = await self.scope.splice(self.context, others, at="parallel", mode="exact")
        for thread in threads:
            self._read(thread.text)

    def _read(self, text: str) -> None:
        self.blocks.feed(text)
        self.text += text


def _answer(trace: str) -> str:
    """What follows the last block, or else its conclusion."""
    before, _, after = trace.rpartition(BLOCK_END)
    return after.strip() or before.rpartition(CONCLUSION)[2].partition(CONCLUSION_END)[0].strip()


# ---- grammars for models that don't know the tags


def _root_grammar(held: int, paths: int) -> Regex | None:
    return Regex(_words(held) + _goal("", held, paths)) if held else None


def _path_grammar(index: str, held: int, paths: int) -> Regex | None:
    if not held:
        return None
    block = f"|{_goal(f'{index}.', held, paths)}" if paths else ""
    return Regex(f"{_words(held)}({PATH_END}{block})")


def _conclusion_grammar(held: int, in_path: bool) -> Regex | None:
    end = _words(held) + (PATH_END if in_path else "")
    return Regex(f"{_words(held)}{CONCLUSION_END}\n{BLOCK_END}{end}") if held else None


def _goal(prefix: str, held: int, paths: int) -> str:
    """A block up to the end of its goal, with outlines that count from 1."""
    outlines = ""
    for number in range(paths, 0, -1):
        index = f"{prefix}{number}".replace(".", r"\.")
        outlines = f"<Outline>{index}: {_words(held)}</Outline>\n" + (f"({outlines})?" if outlines else "")
    return f"<Parallel>\n<Goal>\n{outlines}{GOAL_END}"


def _words(held: int) -> str:
    return f"[^<]{{1,{held}}}"

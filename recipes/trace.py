"""A trace: one generation in pieces, with results inserted and finished parts dropped (TIM and TIMRUN, 2025)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..engines import GREEDY, Chunk, Context, Generation, Grammar, GrammarState, Sampling
from ..engines.base import Mode
from ..errors import FormatError, GrammarError
from ..orchestrator import Scope
from .formats import Move
from .subtasks import TextSpan
from .task_tree import TaskTree
from .token_map import TokenMap

ANSWER_END = '"}'
CUT = " … (cut: {length} characters in all)"


@dataclass(slots=True)
class Trace:
    """A task tree that is being written: its text, what it attends to, and where it stands in its grammar.

    The context and the grammar's state are values: what was written since they were last kept can be thrown away.
    """

    scope: Scope
    context: Context
    grammar: Grammar | GrammarState | None
    tree: TaskTree
    tokens: TokenMap = field(init=False)
    text: str = ""

    def __post_init__(self) -> None:
        self.tokens = TokenMap(self.context.length)

    async def write(
        self, *, max_tokens: int, stop: Sequence[str], sampling: Sampling
    ) -> tuple[Generation, list[Chunk], list[Move]]:
        """What comes next, and the moves in it; `keep` it or `rewind`. The tree reads it while it comes. Raises
        FormatError."""
        chunks: list[Chunk] = []
        moves: list[Move] = []
        stream = self.scope.stream(
            self.context, max_tokens=max_tokens, stop=stop, grammar=self.grammar, sampling=sampling
        )
        async with stream:
            async for chunk in stream:
                moves += self.tree.feed(chunk.text)
                chunks.append(chunk)
        return stream.result, chunks, moves

    def keep(self, written: Generation, chunks: Sequence[Chunk]) -> None:
        """Go on after what was written."""
        for chunk in chunks:
            self.tokens.add(chunk.text, chunk.tokens)
        self.context, self.grammar = written.context, written.grammar
        self.tokens.settle(self.context.length)
        self.text += written.text

    def rewind(self) -> None:
        """Throw away what was written and not kept."""
        self.tree = self.tree.rewound(self.text)

    async def insert(self, text: str) -> None:
        """Go on as if the text had been written."""
        before = self.context.length
        self.context = await self.scope.extend(self.context, text)
        if isinstance(self.grammar, GrammarState):
            self.grammar = self.grammar.force(text)
        self.tokens.add(text, self.context.length - before)
        self.tree.feed(text)
        self.text += text

    async def insert_result(self, result: str, room: int) -> None:
        """Go on after a tool's result, as it stands in a JSON string. One that may not fit `room` tokens is cut, with a
        mark; what fits is found by inserting it bit by bit, since only the engine can count."""
        if len(escaped(result).encode()) <= room:  # no token is less than a byte
            await self.insert(escaped(result))
            return
        mark = escaped(CUT.format(length=len(result)))
        end = self.context.length + room - len(mark.encode())
        while piece := _beginning(result, end - self.context.length):
            await self.insert(escaped(piece))
            result = result[len(piece) :]
        if end >= self.context.length:
            await self.insert(mark)

    async def prune(self, spans: Sequence[TextSpan], *, mode: Mode, minimum: int) -> None:
        """Attend no longer to the tokens that lie wholly in spans of the text, where that frees `minimum` or more."""
        for span in spans:
            start, stop = self.tokens.span(*span)
            if stop - start >= max(minimum, 1):
                self.context = await self.scope.prune(self.context, start, stop, mode=mode)
                self.tokens.drop(*span)

    async def force_answer(self, why: str, *, max_tokens: int, room: int) -> None:
        """Close what is open and ask for the answer, in `room` tokens. Raises FormatError, with `why`, where that isn't
        possible."""
        if not (self.tree.at_result or self.tree.at_conclusion) or len(self.tree.closing) >= room:
            raise FormatError(why)
        self.scope.emit("mended", f"{why}; open tasks were concluded 'unknown'")
        try:
            await self.insert(self.tree.closing)
        except (FormatError, GrammarError) as error:  # cut between a key and its value, or held more strictly
            raise FormatError(why) from error
        allowed = min(max_tokens, room - len(self.tree.closing))
        written, chunks, _ = await self.write(max_tokens=allowed, stop=[ANSWER_END], sampling=GREEDY)
        self.keep(written, chunks)
        if self.tree.answer is None:
            raise FormatError(f"{why}; and no answer came when asked for it ({written.finish})")


def escaped(text: str) -> str:
    """A text as it stands in a JSON string."""
    return json.dumps(text.encode("utf-8", "replace").decode(), ensure_ascii=False)[1:-1]


def _beginning(text: str, size: int) -> str:
    """As much of a text as surely fits so many bytes when it is escaped."""
    for count, character in enumerate(text):
        size -= len(escaped(character).encode())
        if size < 0:
            return text[:count]
    return text

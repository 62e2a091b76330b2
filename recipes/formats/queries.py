"""HybridDeepSearcher's turns: queries between tags, an answer in a box; calculations besides (2025)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...engines import Message, Regex
from ...errors import FormatError
from ..prompt import conversation
from .base import Answer, Format, Move, Result, ToolCall
from .ids import Ids
from .scan import TagReader

if TYPE_CHECKING:
    from ...tools import ToolBox

ASK, ASKED = "<|begin_search_queries|>", "<|end_search_queries|>"
RESULTS, RESULTS_END = "<|begin_search_results|>", "<|end_search_results|>"
CALCULATE, CALCULATED = "<|begin_calculation|>", "<|end_calculation|>"
VALUE, VALUE_END = "<|begin_calculation_result|>", "<|end_calculation_result|>"
ANSWER, ANSWER_END = "\\boxed{", "}"
NEXT = ";\n"
LOOKUP, CALCULATOR = "lookup", "calculate"

TURN = Regex(
    r"[^<\\]*("
    + r"<\|begin_search_queries\|>[^;<>\n]+(;\n[^;<>\n]+)*<\|end_search_queries\|>"
    + r"|<\|begin_calculation\|>[0-9a-z+\-*/(),. ]+<\|end_calculation\|>"
    + r"|\\boxed\{[^{}]*\})"
)


class Queries(Format):
    """Queries are calls of `lookup`, calculations of `calculate`. A repeated query is answered from the record."""

    name = "hybrid_search"
    stop = (ASKED, CALCULATED)
    force = ANSWER
    force_stop = (ANSWER_END,)
    repeats = True

    def __init__(self, prompt: str = "hybrid_search") -> None:
        self.prompt = prompt

    def opening(self, task: str, box: ToolBox) -> list[Message]:
        return conversation(self.prompt, task)

    def grammar(self, box: ToolBox) -> Regex:
        return TURN

    def parser(self, ids: Ids) -> QueriesParser:
        return QueriesParser(ids)

    def write(self, results: Sequence[Result]) -> str:
        found = [result for result in results if result.call.name == LOOKUP]
        values = [VALUE + result.text + VALUE_END for result in results if result.call.name != LOOKUP]
        lines = [f"\n{result.call.arguments['query']}: {result.text}" for result in found]
        return (RESULTS + "".join(lines) + RESULTS_END if lines else "") + "".join(values)

    def say(self, calls: Sequence[ToolCall]) -> str:
        """Queries that stand side by side, then calculations. Raises FormatError for calls of other tools."""
        queries = [str(call.arguments["query"]) for call in calls if call.name == LOOKUP]
        sums = [str(call.arguments["expression"]) for call in calls if call.name == CALCULATOR]
        if len(queries) + len(sums) != len(calls):
            raise FormatError(f"{self.name} calls nothing but {LOOKUP} and {CALCULATOR}")
        asked = ASK + NEXT.join(queries) + ASKED if queries else ""
        return asked + "".join(CALCULATE + expression + CALCULATED for expression in sums)

    def conclude(self, answer: str) -> str:
        return ANSWER + answer + ANSWER_END


class QueriesParser:
    """A query is complete where the next one begins, or at the tag."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        tags = {ASK: ASKED, CALCULATE: CALCULATED, ANSWER: ANSWER_END}
        self._reader = TagReader(tags, {ASK: NEXT})
        self._said = ""
        self._moved = False

    def feed(self, text: str) -> list[Move]:
        self._said = (self._said + text)[-200:]
        moves = [move for tag, inner in self._reader.feed(text) if (move := self._move(tag, inner)) is not None]
        self._moved = self._moved or bool(moves)
        return moves

    def end(self) -> list[Move]:
        said, moved, tag = self._said, self._moved, self._reader.tag
        if tag:
            raise FormatError(f"{tag} without what closes it: {said!r}")
        if not moved:
            raise FormatError(f"the turn holds no query, calculation or answer: {said!r}")
        return []

    def _move(self, tag: str, inner: str) -> Move | None:
        if tag == ANSWER:
            return Answer(inner)
        if tag == CALCULATE:
            return ToolCall(self._ids.next(), CALCULATOR, {"expression": inner})
        return ToolCall(self._ids.next(), LOOKUP, {"query": inner.strip()}) if inner.strip() else None

"""Hermes' tool calls, which Qwen writes too: `<tool_call>` blocks in a turn, `<tool_response>` blocks after it."""

from __future__ import annotations

from collections.abc import Sequence

from ...engines import Message
from ...errors import FormatError
from .base import ASK_FOR_ANSWER, Answer, Format, Move, Result, ToolCall, compact, read_call, spaced
from .ids import Ids
from .scan import TagReader

CALL, CALL_END = "<tool_call>", "</tool_call>"
THINK, THINK_END = "<think>", "</think>"


class Hermes(Format):
    """Any number of calls in a turn; a turn without a call is the answer. What is thought calls nothing."""

    name = "hermes"
    force = ASK_FOR_ANSWER

    def parser(self, ids: Ids) -> HermesParser:
        return HermesParser(ids)

    def write(self, results: Sequence[Result]) -> list[Message]:
        """One user's message, as the chat templates of these models put it."""
        shown = [compact({"name": result.call.name, "content": result.text}) for result in results]
        return [Message("user", "\n".join(f"<tool_response>\n{text}\n</tool_response>" for text in shown))]

    def say(self, calls: Sequence[ToolCall]) -> str:
        shown = [spaced({"name": call.name, "arguments": call.arguments}) for call in calls]
        return "\n".join(f"{CALL}\n{text}\n{CALL_END}" for text in shown)


class HermesParser:
    """A call is complete at its closing tag; one that the turn's end leaves open is read as it is."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._reader = TagReader({CALL: CALL_END, THINK: THINK_END})
        self._called = False

    def feed(self, text: str) -> list[Move]:
        calls: list[Move] = [read_call(self._ids, inner) for tag, inner in self._reader.feed(text) if tag == CALL]
        self._called = self._called or bool(calls)
        return calls

    def end(self) -> list[Move]:
        reader, called = self._reader, self._called
        if reader.tag == CALL:
            return [read_call(self._ids, reader.rest)]
        answer = (reader.outside + reader.rest * (not reader.tag)).strip()
        if called:
            return []
        if not answer:
            raise FormatError("a turn holds neither a call nor an answer")
        return [Answer(answer)]

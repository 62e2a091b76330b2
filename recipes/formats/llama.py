"""Llama's tool calls: a turn that begins with a JSON object is one, or several with semicolons between (Llama 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

from ...engines import Message
from ...errors import FormatError
from .base import ASK_FOR_ANSWER, Answer, Format, Move, Result, ToolCall, compact, read_call, read_json, spaced
from .ids import Ids
from .scan import ValueScanner

TAG = "<|python_tag|>"
BETWEEN = " \t\r\n;,"


class Llama(Format):
    """Calls are `{"name": …, "parameters": {…}}`; any other turn is the answer."""

    name = "llama"
    force = ASK_FOR_ANSWER

    def parser(self, ids: Ids) -> LlamaParser:
        return LlamaParser(ids)

    def write(self, results: Sequence[Result]) -> list[Message]:
        """One tool's message, a line for each call."""
        lines = [compact({"name": result.call.name, "result": result.text}) for result in results]
        return [Message("tool", "\n".join(lines))]

    def say(self, calls: Sequence[ToolCall]) -> str:
        return "; ".join(spaced({"name": call.name, "parameters": call.arguments}) for call in calls)


class LlamaParser:
    """A call is complete at its last bracket. Where the first object is no call, the turn is an answer in JSON."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._text = ""
        self._at = 0
        self._scanned = 0
        self._value: ValueScanner | None = None
        self._called = self._plain = False

    def feed(self, text: str) -> list[Move]:
        self._text += text
        calls: list[Move] = []
        while not self._plain and (call := self._next()) is not None:
            calls.append(call)
        return calls

    def end(self) -> list[Move]:
        called, text, cut = self._called, self._text.strip(), self._value is not None
        calls = [read_call(self._ids, self._text[self._at :], "parameters")] if cut and called else []
        if called:
            return list(calls)
        if not text.removeprefix(TAG).strip():
            raise FormatError("a turn holds neither a call nor an answer")
        return [Answer(text)]

    def _next(self) -> ToolCall | None:
        """The next call that is complete."""
        if self._value is None and not self._find():
            return None
        assert self._value is not None
        end = self._value.feed(self._text, self._scanned)
        if end < 0:
            self._scanned = len(self._text)
            return None
        written, self._at, self._value = self._text[self._at : end], end, None
        if not self._called and not _is_call(written):
            self._plain = True
            return None
        self._called = True
        return read_call(self._ids, written, "parameters")

    def _find(self) -> bool:
        """Go to the bracket that opens the next object. Text in its place ends the calls."""
        while self._at < len(self._text) and self._text[self._at] in BETWEEN:
            self._at += 1
        if not self._called and TAG.startswith(self._text[self._at :][: len(TAG)]):
            if len(self._text) - self._at < len(TAG):
                return False
            self._at += len(TAG)
            return self._find()
        if self._at == len(self._text):
            return False
        if self._text[self._at] != "{":
            self._plain = True
            return False
        self._value, self._scanned = ValueScanner(), self._at
        return True


def _is_call(text: str) -> bool:
    try:
        value = read_json(text)
    except ValueError:
        return False
    return isinstance(value, dict) and isinstance(value.get("name"), str)

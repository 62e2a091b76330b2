"""Divide-Then-Aggregate's steps: a thought, then a batch of function calls, or a Finish (DTA-Llama, 2025)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...engines import Lark
from ...errors import FormatError
from .base import Answer, Format, GiveUp, Move, Result, ToolCall, compact, read_json
from .ids import Ids
from .scan import ValueScanner

if TYPE_CHECKING:
    from ...tools import ToolBox

CALLS = "Function Call: "
FINISH = "Finish"


class Batches(Format):
    """`Function Call: [{"name", "arguments"}, …]`; `Finish` gives the answer, or gives up so that all begins anew."""

    name = "dta"
    turn = "step"
    stop = ("}]\n",)
    restarts = True

    def grammar(self, box: ToolBox) -> Lark:
        """A thought, then a batch of calls or a single Finish, as compact JSON."""
        calls = [_call_schema(tool["name"], tool["parameters"]) for tool in box.schemas()]
        answer = {"return_type": {"enum": ["give_answer", "give_up_and_restart"]}, "final_answer": {"type": "string"}}
        finish = _call_schema(
            FINISH, {"type": "object", "properties": answer, "required": list(answer), "additionalProperties": False}
        )
        return Lark(
            'start: "Thought: " /[^\\n]+/ "\\nFunction Call: " (calls "\\n" | finish)\n'
            f"calls: %json {_array({'anyOf': calls})}\n"
            f"finish: %json {_array(finish, maxItems=1)}\n"
        )

    def parser(self, ids: Ids) -> BatchesParser:
        return BatchesParser(ids)

    def write(self, results: Sequence[Result]) -> str:
        shown = [
            {"name": result.call.name, "arguments": result.call.arguments, "result": result.text} for result in results
        ]
        return f"Observation: {compact(shown)}\n"

    def say(self, calls: Sequence[ToolCall]) -> str:
        batch = [{"name": call.name, "arguments": call.arguments} for call in calls]
        return f"Thought: what is needed next\n{CALLS}{compact(batch)}\n"

    def conclude(self, answer: str) -> str:
        end = {"name": FINISH, "arguments": {"return_type": "give_answer", "final_answer": answer}}
        return f"Thought: all is known\n{CALLS}{compact([end])}"


class BatchesParser:
    """A call is complete at its last bracket. A step whose batch can't be read is no step."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._text = ""
        self._at = self._scanned = self._read = 0
        self._opened = self._closed = False
        self._fault: FormatError | None = None
        self._value: ValueScanner | None = None

    def feed(self, text: str) -> list[Move]:
        self._text += text
        moves: list[Move] = []
        try:
            while self._fault is None and (move := self._next()) is not None:
                moves.append(move)
        except FormatError as fault:
            self._fault = fault
        return moves

    def end(self) -> list[Move]:
        text, closed, fault = self._text, self._closed, self._fault
        if fault is not None:
            raise fault
        if not closed:
            raise _unreadable("the batch has no end", text)
        return []

    def _next(self) -> Move | None:
        """The next call that is complete. Raises FormatError where something else stands in its place."""
        if self._closed or (not self._opened and not self._open()):
            return None
        if self._value is None and not self._find():
            return None
        assert self._value is not None
        end = self._value.feed(self._text, self._scanned)
        if end < 0:
            self._scanned = len(self._text)
            return None
        written, self._at, self._value = self._text[self._at : end], end, None
        self._read += 1
        return self._move(written)

    def _open(self) -> bool:
        """Go behind the bracket that opens the batch."""
        start = self._text.find(CALLS, self._scanned)
        if start < 0:
            self._scanned = max(0, len(self._text) - len(CALLS))
            return False
        self._scanned, self._at = start, start + len(CALLS)
        self._skip("")
        if self._at == len(self._text):
            return False
        if self._text[self._at] != "[":
            raise _unreadable("expected a list of objects with name and arguments", self._text[: self._at + 1])
        self._at += 1
        self._opened = True
        return True

    def _find(self) -> bool:
        """Go to the bracket that opens the next call, or behind the one that closes the batch."""
        self._skip("," if self._read else "")
        if self._at == len(self._text):
            return False
        if self._text[self._at] == "]" and self._read:
            self._closed = True
            return False
        if self._text[self._at] != "{":
            raise _unreadable("expected a list of objects with name and arguments", self._text[: self._at + 1])
        self._value, self._scanned = ValueScanner(), self._at
        return True

    def _skip(self, also: str) -> None:
        while self._at < len(self._text) and self._text[self._at] in f" \t\r\n{also}":
            self._at += 1

    def _move(self, written: str) -> Move:
        try:
            call = read_json(written)
        except ValueError as error:
            raise _unreadable(str(error), written) from error
        if set(call) != {"name", "arguments"} or not isinstance(call["name"], str):
            raise _unreadable("expected a list of objects with name and arguments", written)
        if call["name"] == FINISH:
            return _finish(call["arguments"], written)
        return ToolCall(self._ids.next(), call["name"], call["arguments"])


def _finish(end: Any, written: str) -> Move:
    kind = end.get("return_type") if isinstance(end, dict) else None
    if kind == "give_up_and_restart":
        return GiveUp()
    if kind != "give_answer" or "final_answer" not in end:
        raise _unreadable("Finish takes return_type (give_answer, give_up_and_restart) and final_answer", written)
    return Answer(str(end["final_answer"]))


def _unreadable(why: str, text: str) -> FormatError:
    return FormatError(f"a step's function calls can't be read: {why}: {text[-200:]!r}")


def _call_schema(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    properties = {"name": {"const": name}, "arguments": arguments}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _array(items: dict[str, Any], **bounds: int) -> str:
    layout = {"x-guidance": {"whitespace_flexible": False}}
    return json.dumps({**layout, "type": "array", "items": items, "minItems": 1, **bounds})

"""OpenAI's tool calls, written out: a turn is an assistant's message as its API gives it, in JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ijson

from ...engines import JsonSchema, Message
from ...errors import FormatError
from .base import (
    ASK_FOR_ANSWER,
    REFERENCE,
    Answer,
    Format,
    Move,
    Result,
    ToolCall,
    as_call,
    check_depth,
    compact,
    read_arguments,
    read_json,
)
from .ids import Ids

if TYPE_CHECKING:
    from ...tools import ToolBox

_PIECES = re.compile(r"[^\]}]*[\]}]|[^\]}]+")


class OpenAI(Format):
    """`{"content": …, "tool_calls": [{"id", "type", "function": {"name", "arguments"}}]}`; no calls: the answer.

    The results follow as the API's tool messages, paired by `tool_call_id`. `arguments` is JSON in a string, as there;
    an object is taken too, which is how the grammar has it: a string can't be held to a schema.
    """

    name = "openai"
    force = ASK_FOR_ANSWER

    def grammar(self, box: ToolBox) -> JsonSchema:
        calls = [_call_schema(tool["name"], tool["parameters"]) for tool in box.schemas()]
        content = {"type": "string"}
        listed = {"type": "array", "items": {"anyOf": calls}} if calls else {"type": "array", "maxItems": 0}
        return JsonSchema(_record(content=content, tool_calls=listed))

    def parser(self, ids: Ids) -> OpenAIParser:
        return OpenAIParser(ids)

    def write(self, results: Sequence[Result]) -> list[Message]:
        shown = [{"role": "tool", "tool_call_id": result.call.id, "content": result.text} for result in results]
        return [Message("user", compact(shown))]

    def say(self, calls: Sequence[ToolCall]) -> str:
        return compact({"content": "", "tool_calls": [_entry(call) for call in calls]})

    def conclude(self, answer: str) -> str:
        return compact({"content": answer, "tool_calls": []})


class OpenAIParser:
    """A call is complete when its object is. A turn that doesn't begin with a bracket is a plain answer."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._text = ""
        self._found: list[Any] = []
        self._items = ijson.items_coro(_Appender(self._found), "tool_calls.item", use_float=True)
        self._sent = self._called = self._broken = False

    def feed(self, text: str) -> list[Move]:
        self._text += text
        if self._broken or not (self._sent or self._text.lstrip().startswith("{")):
            return []
        if not self._sent:
            text = self._text
        self._sent = True
        try:
            for piece in _PIECES.findall(text):  # what stands before a fault is read, wherever the text is cut
                self._items.send(piece.encode("utf-8", "replace"))
        except (ijson.JSONError, ValueError, StopIteration):
            self._broken = True  # the whole turn's error is said at its end
        calls: list[Move] = [self._read(value) for value in self._found]
        self._called = self._called or bool(calls)
        self._found.clear()
        return calls

    def end(self) -> list[Move]:
        text, called, sent = self._text, self._called, self._sent
        if not sent:
            return [_answer(text)]
        try:
            message = read_json(text)
        except ValueError as error:
            raise FormatError(f"a turn is no assistant's message in JSON: {error}: {text[-200:]!r}") from error
        if called:
            return []
        return [_answer(message.get("content"))]

    def _read(self, value: Any) -> ToolCall:
        """The call of one entry of `tool_calls`."""
        given = value.get("id") if isinstance(value, dict) else None
        id_ = self._ids.next(given if isinstance(given, str) else "")
        try:
            check_depth(value)
        except ValueError as error:
            return ToolCall(id_, "", None, f"the call can't be read: {error}")
        call = as_call(id_, value.get("function") if isinstance(value, dict) else value)
        if call.error or not isinstance(call.arguments, str):
            return call
        return read_arguments(id_, call.name, call.arguments or "{}")


def _entry(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


class _Appender:
    """What a parser of ijson sends its values to."""

    def __init__(self, values: list[Any]) -> None:
        self.send = values.append


def _answer(content: object) -> Answer:
    text = content.strip() if isinstance(content, str) else ""
    if not text:
        raise FormatError("a turn holds neither a call nor an answer")
    return Answer(text)


def _call_schema(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """A call's schema; any argument may be the result of another call instead of a value."""
    reference = _record(**{REFERENCE: {"type": "string"}})
    either = {key: {"anyOf": [schema, reference]} for key, schema in arguments.get("properties", {}).items()}
    function = _record(name={"const": name}, arguments={**arguments, "properties": either})
    return _record(id={"type": "string"}, type={"const": "function"}, function=function)


def _record(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }

"""Turns: a conversation as a chat server takes it, as an immutable value, with its tool calls written in the text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from ..errors import CapabilityError, ContextError
from .base import Message

Prefill: TypeAlias = Literal["refused", "continue_final_message", "prefix", "last_message"]
"""How a server is asked to go on within an assistant's turn: not at all (OpenAI), by the field of vLLM and SGLang, by
the mark of DeepSeek and Mistral, or by ending with that turn (Anthropic's models, some routers)."""

_CALL = re.compile(r"<tool_call>\n(.+)\n</tool_call>\n?")
_RESULTS = re.compile(r"\s*(?:<tool_response>\n(?:(?!</tool_response>).)*\n</tool_response>\s*)+", re.DOTALL)
_RESULT = re.compile(r"<tool_response>\n((?:(?!</tool_response>).)*)\n</tool_response>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that a model asks for. `arguments` are as it wrote them where they are no JSON object."""

    name: str
    arguments: Mapping[str, Any] | str


def read_calls(text: str) -> list[ToolCall]:
    """The tool calls in a generation's text, in order; none where it has none."""
    return [_read_call(found.group(1)) for found in _CALL.finditer(text)]


def write_call(name: str, arguments: str) -> str:
    """A tool call as it stands in a generation's text: one line of JSON between tags, as Hermes and Qwen write it."""
    try:
        value = json.loads(arguments or "{}")
    except ValueError:
        value = arguments
    if not isinstance(value, dict):
        value = arguments
    line = json.dumps({"name": name, "arguments": value}, ensure_ascii=False)
    return f"<tool_call>\n{line}\n</tool_call>\n"


@dataclass(frozen=True, slots=True)
class Turns:
    """Messages in order. With `open` the last one is the assistant's and may be gone on with."""

    messages: tuple[Message, ...]
    open: bool = False

    @property
    def text(self) -> str:
        """All of it; what is appended leaves what stood before as it was."""
        ends = ["\n"] * len(self.messages)
        if self.open:
            ends[-1] = ""
        shown = (f"<|{one.role}|>{one.content}{end}" for one, end in zip(self.messages, ends, strict=True))
        return "".join(shown) + ("" if self.open else "<|assistant|>")

    def add(self, messages: Sequence[Message]) -> Turns:
        """With further turns; an open one is closed."""
        return Turns((*self.messages, *messages)) if messages else self

    def say(self, text: str) -> Turns:
        """With text in the assistant's turn, which is opened if it is not."""
        if not self.open:
            return Turns((*self.messages, Message("assistant", text)), open=True)
        last = self.messages[-1]
        return Turns((*self.messages[:-1], replace(last, content=last.content + text)), open=True)

    def wire(self, prefill: Prefill, *, calls: bool) -> dict[str, Any]:
        """The fields of a request; with `calls` those in the assistant's text are sent as such. Raises CapabilityError
        where the server can't go on with an open turn, ContextError for a tool's result that answers no call."""
        sent = list(self._sent(calls))
        if not self.open:
            return {"messages": sent}
        match prefill:
            case "continue_final_message":
                return {"messages": sent, "continue_final_message": True, "add_generation_prompt": False}
            case "prefix":
                return {"messages": [*sent[:-1], {**sent[-1], "prefix": True}]}
            case "last_message":
                return {"messages": sent}
        raise CapabilityError(
            "a chat server is asked to go on within the assistant's turn, which OpenAI's protocol has no way for; "
            "extend the context with a message first, or open the engine with the prefill= that its server knows"
        )

    def _sent(self, with_calls: bool) -> Iterator[dict[str, Any]]:
        """Calls are numbered by their place, so that the same conversation is always sent the same. Their results are
        messages of the role `tool`, or one of the user's as Hermes and Qwen are shown them."""
        pending: list[str] = []
        for place, message in enumerate(self.messages):
            calls = read_calls(message.content) if with_calls and message.role == "assistant" else []
            if calls:
                ids = [f"call{place:03}{index:02}" for index in range(len(calls))]  # Mistral wants nine characters
                pending = [*ids]
                yield {
                    "role": "assistant",
                    "content": _CALL.sub("", message.content) or None,
                    "tool_calls": [_wire_call(*pair) for pair in zip(ids, calls, strict=True)],
                }
            elif message.role == "tool":
                if not pending:
                    raise ContextError(
                        f"the tool's result {message.content[:80]!r} answers no call of the assistant's last turn; "
                        "open the engine with the tools= that it may call, or send the result as a user's message"
                    )
                yield {"role": "tool", "tool_call_id": pending.pop(0), "content": message.content}
            elif pending and message.role == "user" and len(results := _read_results(message.content)) == len(pending):
                for id_, result in zip(pending, results, strict=True):
                    yield {"role": "tool", "tool_call_id": id_, "content": result}
                pending = []
            else:
                yield {"role": message.role, "content": message.content}


def _read_call(line: str) -> ToolCall:
    try:
        value = json.loads(line)
        return ToolCall(str(value["name"]), value["arguments"])
    except (ValueError, KeyError, TypeError):  # a model's own text that looks like a call
        return ToolCall("", line)


def _read_results(text: str) -> list[str]:
    """The results in a text that holds nothing else; none where it does."""
    if not _RESULTS.fullmatch(text):
        return []
    return [_content(found.group(1)) for found in _RESULT.finditer(text)]


def _content(text: str) -> str:
    """A result's own text, where the name of its tool stands beside."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value["content"] if isinstance(value, dict) and isinstance(value.get("content"), str) else text


def _wire_call(name: str, call: ToolCall) -> dict[str, Any]:
    arguments = call.arguments
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return {"id": name, "type": "function", "function": {"name": call.name, "arguments": arguments}}

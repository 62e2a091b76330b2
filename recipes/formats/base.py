"""The driver's interface: how one format is opened, read while it is written, answered, and ended."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

from ...engines import Grammar, Message, Prompt
from ...errors import FormatError
from ..prompt import render
from .ids import Ids

if TYPE_CHECKING:
    from ...tools import ToolBox


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that a model has written. `id` pairs it with its result: no two calls of a turn share one.

    `error` says what is wrong with a call that can't be read; its result then reads so.
    """

    id: str
    name: str
    arguments: Any
    error: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """A call and what the model is shown of its result."""

    call: ToolCall
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The model is done: this is its answer."""

    text: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The model is on a wrong track, and asks to start anew."""


ASK_FOR_ANSWER = (Message("user", "There are no calls left. Give the answer now, from what you know."),)
"""Forces an answer in formats of a conversation."""
REFERENCE = "$result"
"""`{"$result": ID}` among a call's arguments stands for the result of an earlier call, which this one waits for."""
DEEPEST = 64
"""How deep the JSON of a call may nest: what is deeper was not meant, and could not be shown again."""

Move: TypeAlias = ToolCall | Answer | GiveUp


class Parser(Protocol):
    """Reads one turn while it is written. What it finds doesn't depend on how the text is cut."""

    def feed(self, text: str) -> list[Move]:
        """The moves whose text has become complete. Nothing is found behind what the format has no place for."""
        ...

    def end(self) -> list[Move]:
        """The moves that the turn's end makes complete. Raises FormatError for a turn that is none."""
        ...


class Format:
    """One way in which models call tools.

    A generation ends at a string of `stop`, or where the model ends its turn, which the format calls a `turn`. `force`
    is what is inserted for an answer when no turns are left ("" where the format has no such text), `force_stop` what
    ends it. `repeats` says whether a repeated call is always answered from the record, or only that of an idempotent
    tool, `restarts` whether the model can ask to start anew.
    """

    name: ClassVar[str]
    turn: str = "turn"
    stop: tuple[str, ...] = ()
    force: Prompt = ""
    force_stop: tuple[str, ...] = ()
    repeats: bool = False
    restarts: bool = False

    def opening(self, task: str, box: ToolBox) -> list[Message]:
        """The conversation's beginning: what the model is told of the format and of the tools, and the task."""
        shown = render(self.name, tools=box.describe(), schemas=functions(box))
        return [Message("system", shown), Message("user", task)]

    def grammar(self, box: ToolBox) -> Grammar | None:
        """What holds a turn to the format; None for a format that is held by the model's training alone."""
        return None

    def parser(self, ids: Ids) -> Parser:
        """A parser for one turn, which gives the calls these `ids`."""
        raise FormatError(f"format '{self.name}' has no parser")

    def write(self, results: Sequence[Result]) -> Prompt:
        """The results of a turn, in the calls' order, as they stand in the context."""
        raise FormatError(f"format '{self.name}' takes no results")

    def say(self, calls: Sequence[ToolCall]) -> str:
        """A turn with these calls as a model writes it: what the parser reads back."""
        raise FormatError(f"format '{self.name}' can't be written")

    def conclude(self, answer: str) -> str:
        """A turn that gives the answer."""
        return answer


def spaced(value: object) -> str:
    """JSON as models write it by themselves."""
    return json.dumps(value, ensure_ascii=False)


def functions(box: ToolBox) -> list[str]:
    """The tools as chat templates show them: one JSON object each, in OpenAI's form."""
    return [compact({"type": "function", "function": schema}) for schema in box.schemas()]


def compact(value: object) -> str:
    """JSON without white space."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def read_json(text: str) -> Any:
    """A JSON value. Raises ValueError for a text that is none, and for one that nobody could show again."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"it nests deeper than {DEEPEST}") from None
    check_depth(value)
    return value


def check_depth(value: object) -> None:
    """Raise ValueError for lists and objects that nest too deeply to be handled further."""
    level, depth = [value], 0
    while level := [inner for outer in level for inner in _inside(outer)]:
        depth += 1
        if depth > DEEPEST:
            raise ValueError(f"it nests deeper than {DEEPEST}")


def _inside(value: object) -> Iterable[object]:
    return value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()


def read_call(ids: Ids, text: str, key: str = "arguments") -> ToolCall:
    """A call written as `{"name": …, KEY: {…}}`, perhaps with an `id` that it asks for; one that can't be read keeps
    what is wrong with it."""
    try:
        value = read_json(text)
    except ValueError as error:
        return ToolCall(ids.next(), "", None, f"the call is not JSON: {error}")
    wanted = value.get("id") if isinstance(value, dict) else None
    return as_call(ids.next(wanted if isinstance(wanted, str) else ""), value, key)


def read_arguments(id_: str, name: str, text: str) -> ToolCall:
    """A call whose arguments alone are JSON."""
    try:
        return ToolCall(id_, name, read_json(text))
    except ValueError as error:
        return ToolCall(id_, name, None, f"the arguments are not a JSON object: {error}")


def as_call(id_: str, value: object, key: str = "arguments") -> ToolCall:
    """A call from its JSON value."""
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return ToolCall(id_, "", None, f"a call is an object with 'name' and '{key}', not {value!r:.200}")
    return ToolCall(id_, value["name"], value.get(key, {}))

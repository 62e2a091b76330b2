"""TIM's task tree, read while it is written: JSON text in, grown nodes out (Thread Inference Model, TIMRUN)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import ijson

from ..errors import FormatError
from .findings import Findings
from .formats import Answer, Ids, Move, ToolCall
from .formats.base import check_depth
from .subtasks import TextSpan

if TYPE_CHECKING:
    from ..orchestrator import Scope


def task_tree_schema(tools: list[dict[str, Any]]) -> dict[str, Any]:
    """JSON Schema of a whole trace; `tools` holds each tool's `name` and the `parameters` schema of its arguments."""
    tooluse = [
        _record(tool_name={"const": tool["name"]}, parameters=tool["parameters"], tool_result={"type": "string"})
        for tool in tools
    ]
    text, tasks = {"type": "string"}, {"type": "array", "items": {"$ref": "#/$defs/task"}, "minItems": 1}
    kinds = [_record(thought=text, subtasks=tasks, conclusion=text), _record(thought=text, conclusion=text)]
    if tooluse:
        kinds.insert(0, _record(thought=text, tooluse={"anyOf": tooluse}, conclusion=text))
    return {"$defs": {"task": {"anyOf": kinds}}, **_record(reasoning=tasks, answer=text)}


def _record(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_UP_TO_BRACKET = re.compile(r"[^\[\]{}]*[\[\]{}]|[^\[\]{}]+")


@dataclass(slots=True)
class _Task:
    """A task that is open; `scope` is the parent's until the thought, its title, has been read."""

    scope: Scope
    thought: str | None = None
    tool: str = ""
    parameters: Any = None
    result: str = ""
    conclusion: str = ""


class OpenList(NamedTuple):
    """A list of tasks that goes on: where it starts, and up to where each task that is finished in it reaches."""

    start: int
    ends: list[int]


@dataclass(slots=True)
class TaskTree:
    """Opens a node when a task's thought is complete and closes it with its conclusion.

    It is the parser of TIM's format, and takes all text of the trace in order, tool results included. `finished` holds
    the lists of subtasks that ended since they were last taken: what stands between their brackets. `findings` are told
    what each task found.
    """

    root: Scope
    findings: Findings = field(default_factory=Findings)
    answer: str | None = None
    finished: list[TextSpan] = field(default_factory=list)
    _grown: list[Scope] = field(default_factory=list)
    _regrown: int = 0
    _characters: int = 0
    _lists: list[OpenList] = field(default_factory=list)
    _open: list[_Task] = field(default_factory=list)
    _places: list[str] = field(default_factory=list)
    _key: str = ""
    _value: Any = None
    _ids: Ids = field(default_factory=Ids)
    _moves: list[Move] = field(default_factory=list)
    _parser: Any = field(init=False)

    def __post_init__(self) -> None:
        self._parser = ijson.basic_parse_coro(self)

    def feed(self, text: str) -> list[Move]:
        """Read more of the trace: the calls whose results belong next, and the answer. Raises FormatError where it is
        not JSON, and no later than that: what was written since the trace was kept is then thrown away."""
        try:
            for piece in _UP_TO_BRACKET.findall(text):  # a bracket's event then comes when it has just been counted
                self._characters += len(piece)
                self._parser.send(piece.encode("utf-8", "replace"))
        except (ijson.JSONError, ValueError, StopIteration) as error:
            raise FormatError(f"the task tree is not JSON: {error}") from error
        moves, self._moves = self._moves, []
        return moves

    def end(self) -> list[Move]:
        """Nothing more becomes complete. Raises FormatError where no answer has been read."""
        if self.answer is None:
            raise FormatError("the task tree ended without an answer")
        return []

    @property
    def scope(self) -> Scope:
        """The node of the innermost open task."""
        return self._open[-1].scope if self._open else self.root

    def rewound(self, text: str) -> TaskTree:
        """The tree as it was after `text`, the trace's beginning, with the nodes that it had then; later ones are
        cancelled."""
        self.findings.clear()
        tree = TaskTree(self.root, self.findings, _grown=self._grown, _ids=self._ids)
        tree.feed(text)
        tree.take_finished()
        for scope in tree._grown[tree._regrown :]:
            scope.cancel()
        del tree._grown[tree._regrown :]
        return tree

    def take_finished(self) -> list[TextSpan]:
        """The lists that ended, in order; they are given once."""
        finished, self.finished = self.finished, []
        return finished

    def open_lists(self) -> list[OpenList]:
        """The lists that are not finished but hold tasks that are, the outermost first."""
        return [each for each in self._lists if each.ends]

    @property
    def in_parameters(self) -> bool:
        """Whether the text ends inside the arguments of a tool."""
        return self._value is not None

    @property
    def at_result(self) -> bool:
        """Whether the text ends where a tool's result has to be inserted."""
        return self._at("tooluse", "tool_result")

    @property
    def at_conclusion(self) -> bool:
        """Whether the text ends where a task's conclusion begins."""
        return self._at("task", "conclusion")

    @property
    def closing(self) -> str:
        """What closes all open tasks without a finding, up to where the answer begins: at a result or conclusion."""
        inner = '"},"conclusion":"unknown"}' if self.at_result else 'unknown"}'
        return inner + '],"conclusion":"unknown"}' * (len(self._open) - 1) + '],"answer":"'

    # ---- the parser's events, one by one

    def send(self, event: tuple[str, Any]) -> None:
        """Take one event of the JSON parser."""
        kind, value = event
        if kind == "number" and isinstance(value, Decimal):  # whole numbers come as such, of any size
            event = kind, float(value)
        self._take(*event)

    def _take(self, kind: str, value: Any) -> None:
        if self._value is not None:
            self._build(kind, value)
        elif kind == "map_key":
            self._key = value
            if value == "parameters":
                self._value = ijson.ObjectBuilder()
            elif value == "tool_result" and self._places[-1:] == ["tooluse"] and self._open and self._open[-1].tool:
                self._moves.append(self._call(self._open[-1]))
        elif kind in ("start_map", "start_array"):
            self._enter(kind)
        elif kind in ("end_map", "end_array"):
            self._leave(self._places.pop())
        elif kind == "string":
            self._text(value)
            self._key = ""

    def _call(self, task: _Task) -> ToolCall:
        """The call of a task whose result is next."""
        try:
            check_depth(task.parameters)
        except ValueError as error:
            return ToolCall(self._ids.next(), task.tool, None, f"the parameters can't be read: {error}")
        return ToolCall(self._ids.next(), task.tool, task.parameters)

    def _build(self, kind: str, value: Any) -> None:
        """Collect the parameters of a tool use, whatever their shape."""
        self._value.event(kind, value)
        self._places.extend(["parameters"] * kind.startswith("start"))
        if kind.startswith("end"):
            self._places.pop()
        if kind != "map_key" and self._places[-1] != "parameters":
            if not self._open:
                raise FormatError("the task tree has parameters outside a task")
            self._open[-1].parameters, self._value = self._value.value, None

    def _enter(self, kind: str) -> None:
        inside = self._places[-1] if self._places else ""
        place = "task" if kind == "start_map" and inside == "tasks" else "tasks" if kind == "start_array" else self._key
        self._places.append(place)
        self._key = ""
        if place == "task":
            self._open.append(_Task(self.scope))
            if self._lists[-1].ends:  # the comma between goes with the task before it
                self._lists[-1].ends[-1] = self._characters - 1
        elif place == "tasks":
            self._lists.append(OpenList(self._characters, []))

    def _leave(self, place: str) -> None:
        if place == "task":
            self._close(self._open.pop())
            self._lists[-1].ends.append(self._characters)
        elif place == "tasks":
            start, _ = self._lists.pop()
            if self._open:  # the list of all tasks isn't one of subtasks
                self.finished.append(TextSpan(start, self._characters - 1))

    def _at(self, place: str, key: str) -> bool:
        return self._value is None and self._places[-1:] == [place] and self._key == key

    def _grow(self, parent: Scope, thought: str) -> Scope:
        """A node for a task, or the one that it got before the tree was rewound."""
        if self._regrown == len(self._grown):
            self._grown.append(parent.grow("task", thought))
        self._regrown += 1
        return self._grown[self._regrown - 1]

    def _close(self, task: _Task) -> None:
        if task.thought is None:
            raise FormatError("a task of the task tree has no thought")
        task.scope.finish(task.conclusion)
        self.findings.add(task.thought, task.conclusion, task.result)

    def _text(self, value: str) -> None:
        match self._places[-1] if self._places else "", self._key:
            case "task", "thought" if self._open[-1].thought is None:
                task = self._open[-1]
                task.thought, task.scope = value, self._grow(task.scope, value)
            case "task", "conclusion":
                self._open[-1].conclusion = value
            case "tooluse", "tool_name":
                self._open[-1].tool = value
            case "tooluse", "tool_result" if self._open:
                self._open[-1].result = value
            case _, "answer":
                self.answer = value
                self._moves.append(Answer(value))

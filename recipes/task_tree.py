"""TIM's task tree, read while it is written: JSON text in, grown nodes out (Thread Inference Model, TIMRUN)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ijson

from ..errors import FormatError

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


@dataclass(slots=True)
class _Task:
    """A task that is open; `scope` is the parent's until the thought, its title, has been read."""

    scope: Scope
    thought: str | None = None
    tool: str = ""
    parameters: Any = None
    conclusion: str = ""


@dataclass(slots=True)
class TaskTree:
    """Opens a node when a task's thought is complete and closes it with its conclusion.

    Feed it all text of the trace in order, tool results included. `call` is the tool use that waits for its result.
    """

    root: Scope
    answer: str | None = None
    _open: list[_Task] = field(default_factory=list)
    _places: list[str] = field(default_factory=list)
    _key: str = ""
    _value: Any = None
    _parser: Any = field(init=False)

    def __post_init__(self) -> None:
        self._parser = ijson.basic_parse_coro(self)

    def feed(self, text: str) -> None:
        """Read more of the trace. Raises FormatError where it is not JSON."""
        try:
            self._parser.send(text.encode())
        except (ijson.JSONError, StopIteration) as error:
            raise FormatError(f"the task tree is not JSON: {error}") from error

    @property
    def scope(self) -> Scope:
        """The node of the innermost open task."""
        return self._open[-1].scope if self._open else self.root

    @property
    def call(self) -> tuple[str, Any]:
        """Tool name and parameters of the innermost open task."""
        if not self._open or not self._open[-1].tool:
            raise FormatError("the task tree asks for a tool's result outside a task that names the tool")
        return self._open[-1].tool, self._open[-1].parameters

    # ---- the parser's events, one by one

    def send(self, event: tuple[str, Any]) -> None:
        """Take one event of the JSON parser."""
        kind, value = event
        if self._value is not None:
            self._build(kind, value)
        elif kind == "map_key":
            self._key = value
            if value == "parameters":
                self._value = ijson.ObjectBuilder()
        elif kind in ("start_map", "start_array"):
            self._enter(kind)
        elif kind in ("end_map", "end_array"):
            if self._places.pop() == "task":
                self._close(self._open.pop())
        elif kind == "string":
            self._text(value)

    def _build(self, kind: str, value: Any) -> None:
        """Collect the parameters of a tool use, whatever their shape."""
        self._value.event(kind, value)
        self._places.extend(["parameters"] * kind.startswith("start"))
        if kind.startswith("end"):
            self._places.pop()
        if kind != "map_key" and self._places[-1] != "parameters":
            self._open[-1].parameters, self._value = self._value.value, None

    def _enter(self, kind: str) -> None:
        inside = self._places[-1] if self._places else ""
        place = "task" if kind == "start_map" and inside == "tasks" else "tasks" if kind == "start_array" else self._key
        self._places.append(place)
        if place == "task":
            self._open.append(_Task(self.scope))

    def _close(self, task: _Task) -> None:
        if task.thought is None:
            raise FormatError("a task of the task tree has no thought")
        task.scope.finish(task.conclusion)

    def _text(self, value: str) -> None:
        match self._places[-1] if self._places else "", self._key:
            case "task", "thought" if self._open[-1].thought is None:
                task = self._open[-1]
                task.thought, task.scope = value, task.scope.grow("task", value)
            case "task", "conclusion":
                self._open[-1].conclusion = value
            case "tooluse", "tool_name":
                self._open[-1].tool = value
            case _, "answer":
                self.answer = value

"""The trajectory: what an agent did for a task, one call after the other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from ...errors import DataError


@dataclass(frozen=True, slots=True)
class Step:
    """A call, why it was made, and what came of it. `result` is text, as the model saw it."""

    thought: str
    name: str
    arguments: Mapping[str, Any]
    result: str


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A task, the calls that were made for it, and the answer that was given.

    `edges` says which calls need which (see `CallGraph`; "" where nobody has said), `functions` describes the tools as
    a prompt lists them.
    """

    task: str
    steps: tuple[Step, ...]
    answer: str
    thought: str = ""
    """Why the answer is given."""
    edges: str = ""
    functions: str = ""

    @classmethod
    def read(cls, data: Any, where: str = "the trajectory") -> Self:
        """From plain data: `task`, `steps` (each `name`, `arguments`, `result` and `thought`), `answer`, and the other
        fields where there is something to say. Raises DataError that names what is wrong."""
        try:
            read = _Trajectory.model_validate(data)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"])) or "it"
            raise DataError(f"{where}: {place}: {first['msg']}") from error
        steps = tuple(Step(step.thought, step.name, step.arguments, step.result) for step in read.steps)
        return cls(read.task, steps, read.answer, read.thought, read.edges, read.functions)

    @classmethod
    def read_json(cls, text: str, where: str = "the trajectory") -> Self:
        """From JSON text. Raises DataError."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where} is no JSON: {error}") from error
        return cls.read(data, where)

    def as_json(self) -> str:
        """JSON text on one line; `read_json` gives the trajectory back."""
        return json.dumps(self.as_dict(), ensure_ascii=False)

    def as_dict(self) -> dict[str, Any]:
        """Plain data; `read` gives the trajectory back."""
        steps = [
            {"thought": step.thought, "name": step.name, "arguments": dict(step.arguments), "result": step.result}
            for step in self.steps
        ]
        return {
            "task": self.task,
            "functions": self.functions,
            "steps": steps,
            "thought": self.thought,
            "answer": self.answer,
            "edges": self.edges,
        }

    def text(self, *, cut: int = 500) -> str:
        """As a judge or an annotator reads it: the calls numbered from 1, then the answer; results cut."""
        lines = [
            f"{number}. {step.thought}\n   {step.name}({json.dumps(dict(step.arguments), ensure_ascii=False)})"
            f" gave {step.result[:cut]}"
            for number, step in enumerate(self.steps, 1)
        ]
        return "\n".join([*lines, f"{len(lines) + 1}. {self.thought}\n   the answer: {self.answer}"])


def read_trajectories(path: str | Path) -> Iterator[Trajectory]:
    """The trajectories of a JSONL file. Raises DataError with the line that can't be read."""
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read: {error}") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield Trajectory.read_json(line, f"{path}, line {number}")


class _Step(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    arguments: dict[str, Any]
    result: str
    thought: str = ""


class _Trajectory(BaseModel):
    model_config = ConfigDict(extra="forbid")
    task: str
    steps: list[_Step]
    answer: str
    thought: str = ""
    edges: str = ""
    functions: str = ""

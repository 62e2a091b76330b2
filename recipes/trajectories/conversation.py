"""Conversations in the training format: serial trajectories made parallel, and back (Divide-Then-Aggregate, 2025)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import DataError
from ..prompt import conversation
from .call_graph import CallGraph
from .trajectory import Step, Trajectory

THOUGHT, CALL, OBSERVATION = "Thought: ", "\nFunction Call: ", "Observation: "
FINISH = "Finish"


@dataclass(frozen=True, slots=True)
class Turn:
    """A message; `learnt` says whether a model is to learn to write it. Only the assistant's messages are."""

    role: str
    content: str
    learnt: bool = False

    def as_dict(self) -> dict[str, Any]:
        """As chat data: `weight` 1 for what counts in the loss, 0 for what is masked."""
        return {"role": self.role, "content": self.content, "weight": int(self.learnt)}


@dataclass(frozen=True, slots=True)
class Conversation:
    """A parallel conversation, and what it doesn't say of the serial one: the calls' numbers by turn, and their
    thoughts, which a turn's thought joins."""

    turns: tuple[Turn, ...]
    edges: str
    order: tuple[tuple[int, ...], ...]
    thoughts: tuple[str, ...]
    functions: str = ""

    def as_dict(self) -> dict[str, Any]:
        """A line of a training file."""
        return {
            "messages": [turn.as_dict() for turn in self.turns],
            "edges": self.edges,
            "order": [list(level) for level in self.order],
            "thoughts": list(self.thoughts),
            "functions": self.functions,
        }

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Conversation:
        """From a line of a training file. Raises DataError."""
        try:
            turns = tuple(Turn(each["role"], each["content"], bool(each["weight"])) for each in data["messages"])
            order = tuple(tuple(level) for level in data["order"])
            return cls(turns, data["edges"], order, tuple(data["thoughts"]), data.get("functions", ""))
        except (KeyError, TypeError) as error:
            raise DataError(f"no parallel conversation: {type(error).__name__} {error}") from error


def parallel(trajectory: Trajectory, *, graph: CallGraph | None = None) -> Conversation:
    """The trajectory with calls that don't need each other made in one turn: a turn a level of the graph.

    Without a graph the trajectory's own edges count or, where it has none, what arguments take from results
    (`by_values`). Raises DataError for a graph that doesn't fit, or in which a call needs one that was made after it.
    """
    size = len(trajectory.steps) + 1
    if graph is None:
        graph = CallGraph.parse(trajectory.edges, size) if trajectory.edges else by_values(trajectory)
    if graph.size != size:
        raise DataError(f"the graph has {graph.size} nodes; {size - 1} calls and an answer are {size}")
    for before, after in graph.edges:
        if before > after:
            raise DataError(f"edge {before}->{after}: call {after} was made before call {before}, and can't need it")
    turns = [
        Turn(message.role, message.content)
        for message in conversation("dta", trajectory.task, tools=trajectory.functions)
    ]
    *levels, _ = graph.levels
    for level in levels:
        steps = [trajectory.steps[number - 1] for number in level]
        calls = [_call(step.name, step.arguments) for step in steps]
        turns.append(_asked([step.thought for step in steps], calls, "\n"))
        results = [{**call, "result": step.result} for call, step in zip(calls, steps, strict=True)]
        turns.append(Turn("tool", f"{OBSERVATION}{_compact(results)}\n"))
    finish = {"return_type": "give_answer", "final_answer": trajectory.answer}
    turns.append(_asked([trajectory.thought], [_call(FINISH, finish)], ""))
    thoughts = (*(step.thought for step in trajectory.steps), trajectory.thought)
    return Conversation(tuple(turns), graph.text, tuple(levels), thoughts, trajectory.functions)


def serial(parallel: Conversation) -> Trajectory:
    """The serial trajectory that a conversation was made of. Raises DataError."""
    try:
        _, task, *turns = parallel.turns
        observed = [json.loads(turn.content.removeprefix(OBSERVATION)) for turn in turns if turn.role == "tool"]
        (finish,) = json.loads(turns[-1].content.rpartition(CALL)[2])
        steps = {
            number: Step(parallel.thoughts[number - 1], each["name"], each["arguments"], each["result"])
            for level, results in zip(parallel.order, observed, strict=True)
            for number, each in zip(level, results, strict=True)
        }
        ordered = tuple(steps[number] for number in range(1, len(steps) + 1))
        answer, thought = finish["arguments"]["final_answer"], parallel.thoughts[-1]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise DataError(f"no conversation of a trajectory: {type(error).__name__} {error}") from error
    return Trajectory(task.content, ordered, answer, thought, parallel.edges, parallel.functions)


def by_values(trajectory: Trajectory) -> CallGraph:
    """What arguments take from results: a call needs each earlier one whose result holds a word of its arguments that
    the task doesn't. Words such as "of" don't count. It finds too many edges rather than too few."""
    given = _words(trajectory.task)
    found: list[set[str]] = [_words(step.result) - given for step in trajectory.steps]
    edges = [
        (before + 1, after + 1)
        for after, step in enumerate(trajectory.steps)
        for before in range(after)
        if found[before] & _words(_compact(list(step.arguments.values())))
    ]
    return CallGraph.closed(len(trajectory.steps) + 1, edges)


def _asked(thoughts: Sequence[str], calls: Sequence[dict[str, Any]], end: str) -> Turn:
    """A turn of the assistant; a thought that several calls share is said once."""
    thought = " ".join(dict.fromkeys(" ".join(each.split()) for each in thoughts)).strip() or "go on"
    return Turn("assistant", f"{THOUGHT}{thought}{CALL}{_compact(calls)}{end}", learnt=True)


def _call(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "arguments": dict(arguments)}


def _words(text: str) -> set[str]:
    """The words and numbers of a text, but short ones in small letters."""
    split = "".join(letter if letter.isalnum() or letter == "." else " " for letter in text).split()
    return {word.strip(".").casefold() for word in split if len(word) > 3 or not word.isalpha() or not word.islower()}


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

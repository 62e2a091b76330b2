"""Trajectories of recorded runs: the calls that a run made, its answer, and where they stand in its recipe's format."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ...errors import DataError, InputError
from ...orchestrator import Journal
from ...orchestrator.transcript import Part, Transcript, transcripts
from ..formats.queries import (
    ANSWER,
    ANSWER_END,
    ASK,
    ASKED,
    CALCULATE,
    CALCULATED,
    CALCULATOR,
    LOOKUP,
    NEXT,
    RESULTS,
    RESULTS_END,
    VALUE,
    VALUE_END,
)
from .conversation import CALL, FINISH, OBSERVATION, THOUGHT
from .trajectory import Step, Trajectory


def trajectory_of(journal: Journal, run: str) -> Trajectory:
    """The trajectory of a run of `tim`, `dta`, `hybrid_search` or `serial_search`; of its last attempt, if there were
    several. Raises InputError for a run of anything else, DataError for one that has come to no answer."""
    record = journal.run(run)
    if record.graph not in _READERS:
        raise InputError(
            f"run {record.run} of '{record.graph}' can't be written as a trajectory; "
            f"runs of these recipes can: {', '.join(_READERS)}"
        )
    talks = transcripts(journal.records(record.run))
    tasks = [part.text for talk in talks for part in talk.parts if part.role == "user"]
    if record.state != "done" or not talks:
        raise DataError(f"run {record.run} has come to no answer, and makes no trajectory")
    main = [talk for talk in talks if talk.path.count("/") == min(each.path.count("/") for each in talks)]
    try:
        return _READERS[record.graph](tasks[0], _said(main[-1]))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise DataError(f"run {record.run} can't be read as one of '{record.graph}': {error}") from error


def _said(talk: Transcript) -> list[Part]:
    """What comes after the task."""
    return [part for part in talk.parts if part.role in ("assistant", "tool")]


def _tree(task: str, parts: Sequence[Part]) -> Trajectory:
    trace = json.loads("".join(part.text for part in parts))
    return Trajectory(task, tuple(_leaves(trace["reasoning"])), trace["answer"])


def _leaves(tasks: Sequence[Mapping[str, Any]]) -> Iterator[Step]:
    for task in tasks:
        if "tooluse" in task:
            use = task["tooluse"]
            yield Step(task["thought"], use["tool_name"], use["parameters"], use["tool_result"])
        yield from _leaves(task.get("subtasks", ()))


def _batches(task: str, parts: Sequence[Part]) -> Trajectory:
    steps: list[Step] = []
    thought, calls = "", "[]"
    for part in parts:
        if not part.written:
            results = json.loads(part.text.removeprefix(OBSERVATION))
            steps += [Step(thought, each["name"], each["arguments"], each["result"]) for each in results]
            continue
        head, _, calls = part.text.rpartition(CALL)
        thought = head.strip().removeprefix(THOUGHT.strip()).strip()
    (finish,) = (call for call in json.loads(calls) if call["name"] == FINISH)
    return Trajectory(task, tuple(steps), str(finish["arguments"]["final_answer"]), thought)


def _queries(task: str, parts: Sequence[Part]) -> Trajectory:
    steps: list[Step] = []
    asked: list[str] = []
    for part in parts:
        if part.written:
            asked = [query.strip() for query in _between(part.text, ASK, ASKED).split(NEXT) if query.strip()]
            expression = _between(part.text, CALCULATE, CALCULATED)
        elif VALUE in part.text:
            steps.append(Step("", CALCULATOR, {"expression": expression}, _between(part.text, VALUE, VALUE_END)))
        else:
            found = _between(part.text, RESULTS, RESULTS_END)
            steps += [Step("", LOOKUP, {"query": query}, text) for query, text in _results(asked, found)]
    answer = "".join(part.text for part in parts).rpartition(ANSWER)[2]
    return Trajectory(task, tuple(steps), answer.removesuffix(ANSWER_END))


def _results(asked: Sequence[str], found: str) -> Iterator[tuple[str, str]]:
    """The results of queries, in whose order they stand; a result may have several lines."""
    starts = [0]
    for query in asked:
        starts.append(found.index(f"\n{query}: ", starts[-1]))
    for query, start, stop in zip(asked, starts[1:], [*starts[2:], len(found)], strict=True):
        yield query, found[start + len(query) + 3 : stop]


def _between(text: str, start: str, end: str) -> str:
    found = re.search(re.escape(start) + "(.*?)" + re.escape(end), text, re.DOTALL)
    return found[1] if found else ""


_READERS: Mapping[str, Callable[[str, Sequence[Part]], Trajectory]] = {
    "tim": _tree,
    "dta": _batches,
    "hybrid_search": _queries,
    "serial_search": _queries,
}

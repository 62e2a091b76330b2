"""Divide-Then-Aggregate: each step divides the task into function calls that run at once, then aggregates (2025)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..engines import Lark
from ..errors import FormatError
from ..orchestrator import Builder, Graph, Scope, graph
from ..tools import Tool, ToolBox, default_tools
from .prompt import conversation

CALL = "Function Call: "
OBSERVATION_LIMIT = 1024
"""Characters of a result that the model sees (DTA-Llama cuts observations at 1,024)."""


def dta(
    tools: Sequence[Tool] | None = None, *, max_steps: int = 12, max_restarts: int = 2, max_tokens: int = 1024
) -> Graph[str]:
    """A graph that solves a task in batches of function calls; giving up starts anew, at most `max_restarts` times."""
    box = ToolBox(default_tools() if tools is None else tools)

    async def attempt(scope: Scope, task: str) -> str | None:
        context = await scope.start(conversation("dta", task, tools=box.describe()))
        for step in range(1, max_steps + 1):
            written = await scope.generate(
                context,
                title=f"step {step}",
                max_tokens=max_tokens,
                stop=["}]\n"],
                grammar=scope.supported(_step_grammar(box)),
            )
            calls = _calls(written.text)
            if calls[-1]["name"] == "Finish":
                end = calls[-1]["arguments"]
                return str(end["final_answer"]) if end["return_type"] == "give_answer" else None
            outcomes = await scope.settle([(box.get(call["name"]), call["arguments"]) for call in calls])
            results = [
                {**call, "result": outcome.text[:OBSERVATION_LIMIT]}
                for call, outcome in zip(calls, outcomes, strict=True)
            ]
            context = await scope.extend(written.context, f"Observation: {_compact(results)}\n")
        raise FormatError(f"no Finish within max_steps={max_steps}")

    async def divide_and_aggregate(scope: Scope, task: str) -> str:
        for number in range(max_restarts + 1):
            with scope.grow("attempt", f"attempt {number + 1}") as trial:
                answer = await attempt(trial, task)
            if answer is not None:
                return answer
        raise FormatError(f"gave up {max_restarts + 1} times (max_restarts={max_restarts})")

    @graph(name="dta")
    def build(g: Builder, task: str) -> str:
        return g.drive(divide_and_aggregate, task=task)

    return build


def _step_grammar(box: ToolBox) -> Lark:
    """One step: a thought, then a batch of calls or a single Finish, as compact JSON."""
    calls = [_call(tool["name"], tool["parameters"]) for tool in box.schemas()]
    answer = {"return_type": {"enum": ["give_answer", "give_up_and_restart"]}, "final_answer": {"type": "string"}}
    finish = _call(
        "Finish", {"type": "object", "properties": answer, "required": list(answer), "additionalProperties": False}
    )
    return Lark(
        'start: "Thought: " /[^\\n]+/ "\\nFunction Call: " (calls "\\n" | finish)\n'
        f"calls: %json {_array({'anyOf': calls})}\n"
        f"finish: %json {_array(finish, maxItems=1)}\n"
    )


def _call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    properties = {"name": {"const": name}, "arguments": arguments}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _array(items: dict[str, Any], **bounds: int) -> str:
    compact = {"x-guidance": {"whitespace_flexible": False}}
    return json.dumps({**compact, "type": "array", "items": items, "minItems": 1, **bounds})


def _calls(text: str) -> list[dict[str, Any]]:
    """The calls of a step, each with `name` and `arguments`."""
    _, _, batch = text.rpartition(CALL)
    try:
        calls = json.loads(batch)
        if not isinstance(calls, list) or not calls or not all({"name", "arguments"} == set(call) for call in calls):
            raise ValueError("expected a list of objects with name and arguments")
    except (ValueError, TypeError) as error:
        raise FormatError(f"a step's function calls can't be read: {error}: {text[-200:]!r}") from error
    return calls


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

"""The agent: any model with any tools, in whichever format the model calls them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ..engines.base import Templated
from ..orchestrator import Builder, Graph, Scope, graph
from ..tools import Tool, ToolBox, default_tools
from .formats import detect_format, find_format
from .settings import at_least
from .turns import OBSERVATION, Bounds, solve

FormatName = Literal["auto", "hermes", "llama", "openai", "react", "dta", "hybrid_search"]


def agent(
    tools: Sequence[Tool] | None = None,
    *,
    format: FormatName = "auto",  # noqa: A002
    max_turns: int = 30,
    max_tokens: int = 1024,
    observation: int = OBSERVATION,
    retries: int = 1,
    max_restarts: int = 2,
) -> Graph[str]:
    """A graph that solves a task with tools. All calls of a turn run side by side, each from when its text is complete.

    | format | how the model calls | of |
    |---|---|---|
    | hermes | `<tool_call>` blocks | Hermes, Qwen |
    | llama | JSON objects with `parameters` | Llama 3 |
    | openai | an assistant's message of OpenAI's API, in JSON | any that can be held to a grammar |
    | react | Thought, Action, Observation; one call a turn | any, the baseline |
    | dta | batches of function calls, Finish | Divide-Then-Aggregate, the embedded model |
    | hybrid_search | queries between tags | HybridDeepSearcher, the embedded model |
    | auto | as its chat template says that the model was trained; else openai, or react without grammars | |

    `tim`, in which one generation writes a tree of tasks, is a recipe of its own.

    | where | then |
    |---|---|
    | a tool raises, times out, doesn't exist, can't take its arguments, or returns what it doesn't promise | its result
      reads "error: …"; the other calls go on |
    | a call equals one of the same turn | it has that one's result, if the tool is idempotent; so has one that equals a
      call of an earlier turn which has not failed |
    | a result is longer than `observation` tokens | it is cut for the model, and whole in the journal |
    | an argument is `{"$result": "ID"}` | the call waits for the call of that id, and no other |
    | the run has a journal | calls with effects (of tools that are not idempotent, or need approval) wait until their
      turn is recorded |
    | the text breaks the format | it is written again, sampled, at most `retries` times; then FormatError |
    | the model gives up (dta) | all begins anew, at most `max_restarts` times |
    | there is no answer after `max_turns` | it is asked for; FormatError where none comes |
    """
    at_least(1, max_turns=max_turns, max_tokens=max_tokens, observation=observation)
    at_least(0, retries=retries, max_restarts=max_restarts)
    box = ToolBox(default_tools() if tools is None else tools)
    bounds = Bounds(max_turns, max_tokens, observation, retries, max_restarts)
    if format != "auto":
        find_format(format)

    async def work(scope: Scope, task: str) -> str:
        form = find_format(await _detected(scope) if format == "auto" else format)
        return await solve(scope, task, form, box, bounds)

    @graph(name="agent")
    def build(g: Builder, task: str) -> str:
        return g.drive(work, task=task)

    return build


async def _detected(scope: Scope) -> str:
    """The format that the engine's checkpoint was trained on, as far as it tells."""
    engine = scope.engine
    name = await scope.fact(
        "format",
        lambda: detect_format(
            engine.chat_template if isinstance(engine, Templated) else "",
            json="JsonSchema" in engine.capabilities.grammars,
        ),
    )
    scope.emit("format", name)
    return name

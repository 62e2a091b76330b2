"""TIM: one generation writes a tree of tasks; results are inserted and finished parts dropped in mid-text (2025)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

from ..engines import GREEDY, Generation, Grammar, JsonSchema, Sampling
from ..errors import CutError, FormatError, UnknownNameError
from ..orchestrator import Builder, Graph, Scope, graph
from ..tools import Tool, ToolBox, default_tools
from .prompt import conversation
from .settings import at_least
from .subtasks import SubtaskBuffer
from .task_tree import TaskTree, task_tree_schema
from .trace import Trace

RESULT = ('"tool_result":"', '"tool_result": "')
LIST_END = ('],"conclusion":"', '], "conclusion": "')
KEEP_ALL = 1_000
"""A buffer that nothing is pruned from. Models that weren't trained to do without finished lists, such as the embedded
one, answer best so."""
AGAIN = Sampling(temperature=0.7)
"""How text that broke the format is written anew: greedily it would break again."""


def tim(
    tools: Sequence[Tool] | None = None,
    *,
    max_tokens: int = 2048,
    buffer: int = KEEP_ALL,
    mode: Literal["exact", "shift", "none"] = "exact",
    minimum: int = 16,
    retries: int = 1,
    grammar: Grammar | None = None,
) -> Graph[str]:
    """A graph that answers a task with a task tree. `max_tokens` bounds what is generated between two tool calls.

    When a list of subtasks ends it is pushed on a stack; of more than `buffer` lists there, the earliest is pruned
    from the context, in `mode`, where that frees `minimum` tokens or more. TIM's buffers are 0, 1 and 2; by default
    all lists stay until the window is full. (With 0 a list is gone before the conclusion is drawn from it.) `grammar`
    stands in place of the task tree's schema, for one that is stricter; its state goes on over results and prunes.

    | where | then |
    |---|---|
    | a tool raises, times out, doesn't exist or can't take its arguments | its result reads "error: …" |
    | the text is no task tree, or ends too early | what was written since the last result or pruned list is thrown away
      and written again, sampled, at most `retries` times |
    | that fails, too, or the text is cut by `max_tokens` or by the window | all open tasks are concluded "unknown" from
      the last result or list on, and the answer is asked for |
    | the window is full, but finished lists are still attended to | they are pruned, whatever `buffer` says |
    | there is no result or list to go back to, or no answer even then | FormatError |

    What was mended is reported as an event "mended".
    """
    at_least(1, max_tokens=max_tokens)
    at_least(0, minimum=minimum, retries=retries, buffer=buffer)
    prunes = mode != "none" and buffer < KEEP_ALL
    stops = [*RESULT, *LIST_END] if prunes else RESULT
    box = ToolBox(default_tools() if tools is None else tools)

    async def grow_tree(scope: Scope, task: str) -> str:
        context = await scope.start(conversation("tim", task, tools=box.describe()))
        held = scope.supported(grammar or JsonSchema(task_tree_schema(box.schemas())))
        trace, lists, tries = Trace(scope, context, held, TaskTree(scope)), SubtaskBuffer(buffer), 0
        while trace.tree.answer is None:
            try:
                await step(trace, lists, AGAIN if tries else GREEDY)
                tries = 0
            except FormatError as error:
                trace.rewind()
                tries += 1
                if tries > retries or isinstance(error, CutError):
                    await trace.force_answer(str(error), max_tokens=max_tokens)
                else:
                    scope.emit("mended", f"{error}; it is written again")
        return trace.tree.answer

    async def step(trace: Trace, lists: SubtaskBuffer, sampling: Sampling) -> None:
        """Write up to the next tool result or finished list. Nothing is kept of what breaks the format."""
        written, chunks = await trace.write(max_tokens=max_tokens, stop=stops, sampling=sampling)
        can_prune = mode != "none" and mode in trace.scope.engine.capabilities.prune
        full = can_prune and written.finish == "window" and bool(lists.kept or trace.tree.finished)
        if not full:
            _check_end(trace.tree, written, max_tokens)
        call = trace.tree.call if written.stop in RESULT and not trace.tree.in_parameters else None
        trace.keep(written, chunks)
        if call:
            await trace.insert(await _call(trace.tree.scope, box, *call))
        old = [span for finished in trace.tree.take_finished() for span in lists.push(finished)]
        if mode != "none" and can_prune:
            await trace.prune(old + (lists.flush() if full else []), mode=mode, minimum=minimum)

    @graph(name="tim")
    def build(g: Builder, task: str) -> str:
        return g.drive(grow_tree, task=task, needs=[f"prune:{mode}"] if prunes else [])

    return build


def _check_end(tree: TaskTree, written: Generation, max_tokens: int) -> None:
    """Raise where the text has ended, or was cut, without an answer."""
    if written.stop is not None or tree.answer is not None:
        return
    why = f"the task tree ended without an answer ({written.finish})"
    if written.finish in ("length", "window"):
        raise CutError(f"{why}; raise max_tokens={max_tokens}?")
    raise FormatError(why)


async def _call(scope: Scope, box: ToolBox, name: str, parameters: Any) -> str:
    """A tool's result, or what went wrong, as it stands in a JSON string."""
    try:
        tool = box.get(name)
    except UnknownNameError as error:
        text = f"error: {error}"
    else:
        text = (await scope.settle([(tool, parameters)]))[0].text
    return json.dumps(text.encode("utf-8", "replace").decode(), ensure_ascii=False)[1:-1]

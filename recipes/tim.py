"""TIM: one generation writes a tree of tasks; results are inserted and finished parts dropped in mid-text (2025)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ..engines import GREEDY, Generation, Grammar, JsonSchema, Sampling
from ..errors import CutError, FormatError, InputError
from ..orchestrator import Builder, Graph, Scope, graph
from ..tools import Tool, ToolBox, default_tools
from .calls import Calls, calls_of
from .findings import RECALL, Findings, recall_from
from .formats import ToolCall
from .horizon import Horizon
from .prompt import conversation
from .settings import at_least
from .subtasks import SubtaskBuffer
from .task_tree import TaskTree, task_tree_schema
from .trace import Trace
from .turns import AGAIN, OBSERVATION

RESULT = ('"tool_result":"', '"tool_result": "')
LIST_END = ('],"conclusion":"', '], "conclusion": "')
KEEP_ALL = 1_000
"""A buffer that nothing is pruned from. Models that weren't trained to do without finished lists, such as the embedded
one, answer best so."""


def tim(
    tools: Sequence[Tool] | None = None,
    *,
    max_tokens: int = 2048,
    buffer: int = KEEP_ALL,
    mode: Literal["exact", "shift", "none"] = "exact",
    minimum: int = 16,
    live: int = 0,
    recall: bool = False,
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
    | a result is longer than 1,024 tokens | it is cut, with a mark; with `live` where it doesn't fit |
    | the window is full, but finished lists are still attended to | they are pruned, whatever `buffer` says |
    | `live` tokens are held, and nothing that is finished is left to prune | as if the text had been cut |
    | there is no result or list to go back to, or no answer even then | FormatError |

    What was mended is reported as an event "mended".
    """
    at_least(1, max_tokens=max_tokens)
    at_least(0, minimum=minimum, retries=retries, buffer=buffer, live=live)
    if live and mode == "none":
        raise InputError(f"live={live} can't be kept to with mode='none'; let it prune: mode='exact' or mode='shift'")
    prunes = mode != "none" and (buffer < KEEP_ALL or live > 0)
    stops = [*RESULT, *LIST_END] if buffer < KEEP_ALL and mode != "none" else RESULT
    own = ToolBox(default_tools() if tools is None else tools)

    async def grow_tree(scope: Scope, task: str) -> str:
        findings = Findings()
        box = ToolBox([*own, recall_from(findings)]) if recall else own
        context = await scope.start(conversation("tim", task, tools=box.describe()))
        held = scope.supported(grammar or JsonSchema(task_tree_schema(box.schemas())), in_pieces=True)
        trace = Trace(scope, context, held, TaskTree(scope, findings))
        horizon, tries = Horizon(live, SubtaskBuffer(buffer), mode, minimum), 0
        async with calls_of(box, observation=0 if live else OBSERVATION, fresh=[RECALL]) as calls:
            while trace.tree.answer is None:
                try:
                    await step(trace, horizon, calls, AGAIN if tries else GREEDY)
                    tries = 0
                except FormatError as error:
                    trace.rewind()
                    tries += 1
                    if tries > retries or isinstance(error, CutError):
                        if live:
                            await horizon.make_room(trace)
                        await trace.force_answer(str(error), max_tokens=max_tokens, room=horizon.room(trace))
                    else:
                        scope.emit("mended", f"{error}; it is written again")
        return trace.tree.answer

    async def step(trace: Trace, horizon: Horizon, calls: Calls, sampling: Sampling) -> None:
        """Write up to the next tool result or finished list. Nothing is kept of what breaks the format."""
        bound = min(max_tokens, horizon.room(trace))
        advice = (
            f"raise max_tokens={max_tokens}?" if bound == max_tokens else f"what is open fills live={live}; raise live"
        )
        if not bound:
            raise CutError(f"no token fits: {advice}")
        written, chunks, moves = await trace.write(max_tokens=bound, stop=stops, sampling=sampling)
        full = horizon.reached(trace, written, bound, max_tokens)
        if not full:
            _check_end(trace.tree, written, advice)
        stopped = written.stop in RESULT and not trace.tree.in_parameters
        asked = [move for move in moves if isinstance(move, ToolCall)]
        if stopped and not (asked and trace.tree.at_result):
            raise FormatError("the task tree asks for a tool's result outside a task that names the tool")
        trace.keep(written, chunks)
        if stopped:
            calls.begin(trace.tree.scope, asked[-1])
            result = (await calls.results(trace.tree.scope))[0].text
            full = full or len(result) > horizon.room(trace) // 2
            if full:
                await horizon.make_room(trace)
            await trace.insert_result(result, horizon.room(trace) // 2)
        await (horizon.make_room(trace) if full else horizon.take(trace))

    @graph(name="tim")
    def build(g: Builder, task: str) -> str:
        return g.drive(grow_tree, task=task, needs=[f"prune:{mode}"] if prunes else [])

    return build


def _check_end(tree: TaskTree, written: Generation, advice: str) -> None:
    """Raise where the text has ended, or was cut, without an answer."""
    if written.stop is not None or tree.answer is not None:
        return
    why = f"the task tree ended without an answer ({written.finish})"
    if written.finish in ("length", "window"):
        raise CutError(f"{why}; {advice}")
    raise FormatError(why)

"""TIM: one generation writes a tree of tasks; tool results are inserted where they belong (TIM and TIMRUN, 2025)."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ..engines import Grammar, GrammarState, JsonSchema
from ..errors import FormatError
from ..orchestrator import Builder, Graph, Scope, graph
from ..tools import Tool, ToolBox, default_tools
from .prompt import conversation
from .task_tree import TaskTree, task_tree_schema

RESULT = '"tool_result":"'


def tim(tools: Sequence[Tool] | None = None, *, max_tokens: int = 2048) -> Graph[str]:
    """A graph that answers a task with a task tree. `max_tokens` bounds what is generated between two tool calls."""
    box = ToolBox(default_tools() if tools is None else tools)

    async def grow_tree(scope: Scope, task: str) -> str:
        context = await scope.start(conversation("tim", task, tools=box.describe()))
        grammar: Grammar | GrammarState | None = scope.supported(JsonSchema(task_tree_schema(box.schemas())))
        tree = TaskTree(scope)
        while True:
            async with scope.stream(context, max_tokens=max_tokens, stop=[RESULT], grammar=grammar) as stream:
                async for chunk in stream:
                    tree.feed(chunk.text)
            written = stream.result
            if written.stop is None:
                break
            name, parameters = tree.call
            outcome = (await tree.scope.settle([(box.get(name), parameters)]))[0]
            result = json.dumps(outcome.text, ensure_ascii=False)[1:-1]
            tree.feed(result)
            context = await scope.extend(written.context, result)
            grammar = written.grammar and written.grammar.force(result)
        if tree.answer is None:
            raise FormatError(
                f"the task tree ended without an answer ({written.finish}); raise max_tokens={max_tokens}?"
            )
        return tree.answer

    @graph(name="tim")
    def build(g: Builder, task: str) -> str:
        return g.drive(grow_tree, task=task)

    return build

"""HybridDeepSearcher: each turn asks all independent queries at once; what depends on a result waits (2025)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..engines import Regex
from ..errors import FormatError
from ..orchestrator import Builder, Graph, Scope, graph
from ..tools import Tool, ToolBox, default_tools
from .prompt import conversation

ASK, ASKED = "<|begin_search_queries|>", "<|end_search_queries|>"
RESULTS, RESULTS_END = "<|begin_search_results|>", "<|end_search_results|>"
CALCULATE, CALCULATED = "<|begin_calculation|>", "<|end_calculation|>"
VALUE, VALUE_END = "<|begin_calculation_result|>", "<|end_calculation_result|>"
ANSWER, ANSWER_END = "\\boxed{", "}"

TURN = Regex(
    r"[^<\\]*("
    + r"<\|begin_search_queries\|>[^;<>\n]+(;\n[^;<>\n]+)*<\|end_search_queries\|>"
    + r"|<\|begin_calculation\|>[0-9a-z+\-*/(),. ]+<\|end_calculation\|>"
    + r"|\\boxed\{[^{}]*\})"
)


def hybrid_search(tools: Sequence[Tool] | None = None, *, max_turns: int = 10, max_tokens: int = 1024) -> Graph[str]:
    """A graph that answers a question with parallel queries, at most `max_turns` turns, then a forced answer."""
    return _search("hybrid_search", tools, max_turns, max_tokens)


def serial_search(tools: Sequence[Tool] | None = None, *, max_turns: int = 30, max_tokens: int = 1024) -> Graph[str]:
    """The baseline: the same format, one query a turn."""
    return _search("serial_search", tools, max_turns, max_tokens)


def _search(name: str, tools: Sequence[Tool] | None, max_turns: int, max_tokens: int) -> Graph[str]:
    box = ToolBox(default_tools() if tools is None else tools)

    async def search(scope: Scope, task: str) -> str:
        context = await scope.start(conversation(name, task))
        known: dict[str, str] = {}
        for turn in range(1, max_turns + 1):
            written = await scope.generate(
                context,
                title=f"turn {turn}",
                max_tokens=max_tokens,
                stop=[ASKED, CALCULATED],
                grammar=scope.supported(TURN),
            )
            if ANSWER in written.text:
                return _between(written.text, ANSWER, ANSWER_END)
            if ASKED in written.text:
                inserted = await _look_up(scope, box, _between(written.text, ASK, ASKED).split(";\n"), known)
            elif CALCULATED in written.text:
                inserted = await _calculate(scope, box, _between(written.text, CALCULATE, CALCULATED))
            else:
                raise FormatError(f"turn {turn} holds no query, calculation or answer: {written.text[-200:]!r}")
            context = await scope.extend(written.context, inserted)
        forced = await scope.generate(
            await scope.extend(context, ANSWER), title="forced answer", max_tokens=max_tokens, stop=[ANSWER_END]
        )
        return forced.text.removesuffix(ANSWER_END)

    @graph(name=name)
    def build(g: Builder, task: str) -> str:
        return g.drive(search, task=task)

    return build


async def _look_up(scope: Scope, box: ToolBox, queries: list[str], known: dict[str, str]) -> str:
    """Ask what was not asked before, all at once; a repeated query is answered from the run's record."""
    queries = [query.strip() for query in queries if query.strip()]
    new = [query for query in dict.fromkeys(queries) if query not in known]
    outcomes = await scope.settle([(box.get("lookup"), {"query": query}) for query in new])
    known.update((query, outcome.text) for query, outcome in zip(new, outcomes, strict=True))
    return RESULTS + "".join(f"\n{query}: {known[query]}" for query in queries) + RESULTS_END


async def _calculate(scope: Scope, box: ToolBox, expression: str) -> str:
    outcome = (await scope.settle([(box.get("calculate"), {"expression": expression})]))[0]
    return VALUE + outcome.text + VALUE_END


def _between(text: str, start: str, end: str) -> str:
    """What stands between the last `start` and the `end` after it."""
    found = re.search(re.escape(start) + r"((?:(?!" + re.escape(start) + r").)*?)" + re.escape(end), text, re.DOTALL)
    if not found:
        raise FormatError(f"{end} without {start} before it, or {start} without {end}: {text[-200:]!r}")
    return found[1]

"""TIM over a long horizon: context is bounded, what is out of sight can be recalled, and the accounts are right."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import plait
from plait.engines.local import LocalEngine
from plait.engines.scripted import ALL, ScriptedEngine, tokenise
from plait.errors import InputError, ToolError
from plait.recipes.findings import Findings
from plait.recipes.task_tree import TaskTree
from plait.recipes.tim import KEEP_ALL
from plait.recipes.trace import Trace
from plait.tools import Tool
from plait.usage import Usage

pytestmark = pytest.mark.anyio

LOOK_UPS = 497
EARLY, LATE = 7, 461
WINDOW, LIVE = 2048, 1000


def value(number: int) -> int:
    return number * 7919 % 100_003


@plait.tool(name="lookup", idempotent=True)
async def lookup(number: int) -> str:
    """The value of a fact."""
    return f"{value(number)}"


class Worker:
    """A model that looks facts up one after the other, then recalls two of them and adds what it sees.

    All that it knows stands in its prompt: the last fact that was asked for, and results that are in sight.
    """

    def __init__(self, per_list: int) -> None:
        self.per_list = per_list

    def __call__(self, prompt: str, _: int) -> str:
        trace = prompt.rpartition("<|assistant|>")[2]
        asked = re.findall(r'"thought":"([a-z]+) fact (\d+)"', trace)
        if not asked:
            return '{"reasoning":[' + self.opening(1) + self.look_up(1)
        kind, number = asked[-1][0], int(asked[-1][1])
        done = self.conclude(trace)
        if kind == "get" and number < LOOK_UPS:
            return f"{done}{self.between(number + 1)}{self.look_up(number + 1)}"
        if kind == "get":
            return f"{done}{self.closing()},{self.recall(EARLY)}"
        if number == EARLY:
            return f"{done},{self.recall(LATE)}"
        if '"thought":"add"' not in trace:
            seen = dict(re.findall(r'"thought":"recall fact (\d+)".*?"tool_result":"(\d+)', trace))
            total = self.use("add", "calculate", "expression", f'"{seen[str(EARLY)]}+{seen[str(LATE)]}"')
            return f"{done},{total}"
        return f'{done}],"answer":"{self.result(trace)}"}}'

    def opening(self, number: int) -> str:
        return f'{{"thought":"batch from {number}","subtasks":[' if self.per_list else ""

    def closing(self) -> str:
        return '],"conclusion":"read"}' if self.per_list else ""

    def between(self, number: int) -> str:
        ends = self.per_list and number % self.per_list == 1
        return f"{self.closing()},{self.opening(number)}" if ends else ","

    def look_up(self, number: int) -> str:
        return self.use(f"get fact {number}", "lookup", "number", str(number))

    def recall(self, number: int) -> str:
        return self.use(f"recall fact {number}", "recall", "name", f'"Get fact  {number}"')

    def use(self, thought: str, tool: str, argument: str, value: str) -> str:
        return (
            f'{{"thought":"{thought}","tooluse":{{"tool_name":"{tool}","parameters":{{"{argument}":{value}}},'
            f'"tool_result":"'
        )

    def result(self, trace: str) -> str:
        return trace.rpartition('"tool_result":"')[2]

    def conclude(self, trace: str) -> str:
        return f'"}},"conclusion":"{self.result(trace)}"}}'


def check_identities(usage: Usage, *, ended: bool = False) -> None:
    """DESIGN.md §7. A chain is joined to the run's when its node ends; of a single thread it is all that was said."""
    assert usage.live + usage.pruned == usage.prompt + usage.generated
    if ended:
        assert usage.steps == usage.generated
        assert usage.parallelism == 1.0
        assert usage.critical_path == usage.prompt + usage.generated


@pytest.mark.parametrize(
    ("per_list", "buffer", "mode"), [(10, 1, "exact"), (25, 0, "shift"), (0, KEEP_ALL, "exact"), (200, 2, "shift")]
)
async def test_five_hundred_calls_fit_a_thousand_tokens(per_list: int, buffer: int, mode: Any) -> None:
    """Lists short and long, and none but the outermost: 497 look-ups, two recalls, one sum, in a window of 2,048."""
    scripted = ScriptedEngine(Worker(per_list), capabilities=replace(ALL, window=WINDOW))
    tools = [lookup, plait.tools.calculator]
    graph = plait.recipes.tim(tools, buffer=buffer, mode=mode, live=LIVE, recall=True, max_tokens=WINDOW)
    steps = 0
    async with graph.stream("Add facts 7 and 461.", engine=scripted) as run:
        async for _ in run:
            check_identities(run.usage)
            assert run.usage.live <= LIVE
            steps += 1
    assert run.value == str(value(EARLY) + value(LATE))
    assert run.usage.calls == 500
    assert run.usage.peak_live <= LIVE < 1024
    assert run.usage.generated > 5 * WINDOW
    assert steps > 1_000
    check_identities(run.usage, ended=True)
    assert (run.usage.recomputed > 0) == (mode == "exact")


async def test_without_a_horizon_the_same_run_does_not_fit() -> None:
    scripted = ScriptedEngine(Worker(10), capabilities=replace(ALL, window=WINDOW))
    graph = plait.recipes.tim([lookup, plait.tools.calculator], mode="none", recall=True, max_tokens=WINDOW)
    with pytest.raises(plait.PlaitError, match="window"):
        await graph.run("?", engine=scripted)


@plait.tool(name="read")
async def read(pages: int) -> str:
    """A long text, with letters of several bytes, quotes and line ends."""
    return 'Größe "1"\n' * 100 * pages


READ = '{"reasoning":[{"thought":"read","tooluse":{"tool_name":"read","parameters":{"pages":PAGES},"tool_result":"'
DONE = '"},"conclusion":"long"}],"answer":"done"}'


@pytest.mark.parametrize("pages", [1, 9])
async def test_a_result_that_does_not_fit_is_cut_with_a_mark(pages: int) -> None:
    scripted = ScriptedEngine([READ.replace("PAGES", str(pages)), DONE])
    async with plait.recipes.tim([read], live=800).stream("?", engine=scripted) as run:
        async for _ in run:
            pass
    shown = scripted.prompts[1].rpartition('"tool_result":"')[2]
    assert run.value == "done"
    assert run.usage.peak_live <= 800
    assert shown.endswith(f" … (cut: {1000 * pages} characters in all)")
    assert json.loads(f'"{shown}"').startswith('Größe "1"\nGröße')
    assert len(tokenise(shown)) > 100


@given(st.text(max_size=200), st.integers(0, 120))
@settings(deadline=None)
def test_any_result_is_inserted_within_its_room(result: str, room: int) -> None:
    async def main() -> None:
        opening = READ.replace("PAGES", "1")
        context = await ScriptedEngine([]).start(opening)
        trace = Trace(_Scope(), context, None, TaskTree(_Scope()))  # type: ignore[arg-type]
        trace.tree.feed(opening)
        before = context.length
        await trace.insert_result(result, room)
        assert trace.context.length - before <= room
        trace.tree.feed(DONE)
        assert trace.tree.answer == "done"

    anyio.run(main)


class _Scope:
    """What a trace needs of a scope to insert a text."""

    async def extend(self, context: Any, text: str) -> Any:
        return await context.extend(text)

    def grow(self, kind: str, title: str) -> _Scope:
        return self

    def finish(self, value: object) -> None:
        pass


async def test_what_is_open_and_too_much_is_a_named_error() -> None:
    deep = '{"reasoning":[' + '{"thought":"a","subtasks":[' * 60
    with pytest.raises(plait.PlaitError, match="raise live"):
        await plait.recipes.tim([], live=200).run("?", engine=ScriptedEngine([deep]))


async def test_a_bound_needs_pruning() -> None:
    with pytest.raises(InputError, match="mode='none'"):
        plait.recipes.tim([], live=200, mode="none")
    with pytest.raises(plait.PlaitError, match="prune:exact"):
        await plait.recipes.tim([], live=200).run(
            "?", engine=ScriptedEngine(["{}"], capabilities=replace(ALL, prune=frozenset()))
        )


def test_on_the_local_engine_an_open_list_stays_bounded(tmp_path: Path) -> None:
    """One flat list of tasks, several times the bound: the grammar goes on over what was pruned."""
    live = 100
    small = shutil.copytree(LocalEngine.EMBEDDED, tmp_path / "small")
    config = json.loads((small / "config.json").read_text())
    (small / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 2 * live}))
    tasks = ",".join(f'{{"thought":"a{number}","conclusion":"b{number}"}}' for number in range(24))
    trace = f'{{"reasoning":[{tasks}],"answer":"done"}}'
    graph = plait.recipes.tim([], live=live, grammar=plait.engines.Choice((trace,)), max_tokens=live)

    async def main() -> tuple[str, Usage]:
        async with plait.open_engine(f"local:{small}") as engine, graph.stream("?", engine=engine) as run:
            async for _ in run:
                check_identities(run.usage)
        return run.value, run.usage

    answer, usage = anyio.run(main)
    assert answer == "done"
    assert usage.peak_live <= live < usage.generated / 4


# ---- findings


async def test_findings_are_recalled_by_name() -> None:
    findings = Findings()
    recall: Tool = plait.recipes.findings.recall_from(findings)
    with pytest.raises(ToolError, match="none yet"):
        await recall(name="people of Peru")
    findings.add("people of Peru", "34", "34")
    findings.add("People  of Peru", "34 million", "34352719")
    findings.add("people of Chile", "20", "")
    assert await recall("people of PERU") == "34\n34 million"
    assert await recall("people of Peru", whole=True) == "34 (result: 34)\n34 million (result: 34352719)"
    assert await recall("people of chile", whole=True) == "20"
    with pytest.raises(ToolError, match=r"named 'people of Chine'; some that are: people of chile"):
        await recall("people of Chine")


async def test_what_is_thrown_away_is_no_finding() -> None:
    """The broken part is written again, with the same task in it: it is found once."""
    opening = '{"reasoning":[{"thought":"a","conclusion":"1"},' + Worker(0).use("look", "lookup", "number", "1")
    lost = '"},"conclusion":"2"},{"thought":"lost","conclusion":"3"} oops'
    again = '"},"conclusion":"2"},' + Worker(0).use("x", "recall", "name", '"a"')
    missing = '"},"conclusion":"2"},' + Worker(0).use("y", "recall", "name", '"lost"')
    scripted = ScriptedEngine([opening, lost, again, missing, '"},"conclusion":"2"}],"answer":"done"}'])
    assert await plait.recipes.tim([lookup], recall=True).run("?", engine=scripted) == "done"
    results = re.findall(r'"tool_result":"([^"]*)"', scripted.prompts[-1] + '"')
    assert results[1] == "1"
    assert results[2].startswith("error: tool 'recall' failed: no finished task is named 'lost'")

"""TIM on a scripted model: the tree grows as it is written, and results go where they belong."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import plait
from plait.engines import Choice
from plait.engines.local import LocalEngine
from plait.engines.scripted import ALL, ScriptedEngine, tokenise
from plait.errors import FormatError
from plait.orchestrator import NodeCancelled, NodeNote
from plait.recipes.task_tree import TaskTree
from plait.tools import Tool
from plait.usage import Usage


def leaf(thought: str, tool: str, argument: str, value: str, conclusion: str) -> str:
    """A task with a tool use; the result is missing, as it is when the model writes."""
    return (
        f'{{"thought":"{thought}","tooluse":{{"tool_name":"{tool}","parameters":{{"{argument}":"{value}"}},'
        f'"tool_result":""}},"conclusion":"{conclusion}"}}'
    )


SUBTASKS = (
    '{"thought":"people of Chile plus Bolivia","subtasks":['
    + leaf("people of Chile", "lookup", "query", "people of Chile", "20")
    + ","
    + leaf("people of Bolivia", "lookup", "query", "people of Bolivia", "12")
    + ","
    + leaf("add", "calculate", "expression", "20+12", "32")
    + '],"conclusion":"32"}'
)
TRACE = '{"reasoning":[' + SUBTASKS + '],"answer":"32"}'


def engine(trace: str) -> ScriptedEngine:
    return ScriptedEngine([trace])


@pytest.mark.anyio
async def test_results_are_inserted_and_the_answer_read(tools: list[Any], asked: list[str]) -> None:
    scripted = engine(TRACE)
    assert await plait.recipes.tim(tools).run("How many people do Chile and Bolivia have?", engine=scripted) == "32"
    assert asked == ["people of Chile", "people of Bolivia"]
    assert scripted.prompts[-1].endswith('"expression":"20+12"},"tool_result":"32')


@pytest.mark.anyio
@pytest.mark.parametrize("goes_on", [True, False])
async def test_it_writes_freely_where_no_generation_can_go_on_within_a_grammar(tools: list[Any], goes_on: bool) -> None:
    scripted = ScriptedEngine([TRACE], capabilities=replace(ALL, grammar_states=goes_on))
    assert await plait.recipes.tim(tools).run("How many?", engine=scripted) == "32"
    assert len(scripted.asked) > 1
    assert all((asked.grammar is not None) is goes_on for asked in scripted.asked)


@pytest.mark.anyio
async def test_nodes_grow_as_the_tree_is_written(tools: list[Any]) -> None:
    async with plait.recipes.tim(tools).stream("How many?", engine=engine(TRACE)) as run:
        events = [event async for event in run]
    started = [event.title for event in events if type(event).__name__ == "NodeStarted" and event.kind == "task"]
    assert started == ["people of Chile plus Bolivia", "people of Chile", "people of Bolivia", "add"]
    assert run.usage.calls == 3


# ---- what is mended


async def mended(graph: plait.Graph[str], replies: list[str]) -> tuple[str, list[str], list[str], ScriptedEngine]:
    """The answer, what was mended, nodes that were cancelled, and the engine."""
    scripted, events = ScriptedEngine(replies), list[Any]()
    answer = await graph.run("?", engine=scripted, listeners=[events.append])
    notes = [event.data for event in events if isinstance(event, NodeNote) and event.name == "mended"]
    cancelled = [event.path for event in events if isinstance(event, NodeCancelled)]
    return answer, notes, cancelled, scripted


CALL = (
    '{"reasoning":[{"thought":"a","subtasks":[{"thought":"b",'
    '"tooluse":{"tool_name":"TOOL","parameters":{},"tool_result":"'
)
REST = '"},"conclusion":"b"}],"conclusion":"a"}],"answer":"done"}'


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "said"),
    [("breaks", 'no \\"luck\\"'), ("hangs", "timeout of 0.05"), ("fly", "unknown tool 'fly'"), ("lookup", "query")],
)
async def test_what_goes_wrong_in_a_tool_is_its_result(lookup: Tool, name: str, said: str) -> None:
    """It raises, it times out, it doesn't exist, its arguments don't fit: the trace goes on."""

    @plait.tool
    async def breaks() -> str:
        raise ValueError('no "luck"')

    @plait.tool(timeout=0.05)
    async def hangs() -> str:
        await anyio.sleep(60)
        return ""

    graph = plait.recipes.tim([lookup, breaks, hangs])
    answer, notes, _, scripted = await mended(graph, [CALL.replace("TOOL", name) + REST])
    assert (answer, notes) == ("done", [])
    result = scripted.prompts[1].rpartition('"tool_result":"')[2]
    assert result.startswith("error: ")
    assert said in result


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ('"},"conclusion":"b"}],"conclusion" "a"', "not JSON"),
        ('"},"conclusion":"b"}],"conclusion":"a"}]', "ended without an answer"),
        ('"},"conclusion":"b"},{"conclusion":"c"}', "has no thought"),
        ('"}},{"thought":"c","tool_result":"', "outside a task that names the tool"),
    ],
)
async def test_broken_text_is_thrown_away_and_written_again(tools: list[Any], broken: str, why: str) -> None:
    """From the last result on, sampled, because greedily it would break again."""
    call = CALL.replace("TOOL", "lookup").replace("{}", '{"query":"people of Peru"}')
    answer, notes, _, scripted = await mended(plait.recipes.tim(tools), [call, broken, REST])
    assert answer == "done"
    assert len(notes) == 1
    assert why in notes[0]
    assert scripted.prompts[1] == scripted.prompts[2]
    assert [asked.sampling.temperature for asked in scripted.asked[:3]] == [0.0, 0.0, 0.7]


@pytest.mark.anyio
async def test_nodes_of_what_is_thrown_away_are_cancelled_and_others_stay(tools: list[Any]) -> None:
    call = CALL.replace("TOOL", "lookup").replace("{}", '{"query":"people of Peru"}')
    broken = '"},"conclusion":"b"},{"thought":"lost","conclusion" "c"'
    _, _, cancelled, _ = await mended(plait.recipes.tim(tools), [call, broken, REST])
    assert [path.rpartition("/")[2] for path in cancelled] == ["2-lost"]


@pytest.mark.anyio
@pytest.mark.parametrize("replies", [['"}!', '"}!'], ["x" + " y" * 99]])
async def test_what_can_not_be_mended_is_closed_and_the_answer_asked_for(tools: list[Any], replies: list[str]) -> None:
    """After it broke twice, or was cut: open tasks end "unknown"."""
    call = CALL.replace("TOOL", "lookup").replace("{}", '{"query":"people of Peru"}')
    answer, notes, _, scripted = await mended(plait.recipes.tim(tools, max_tokens=80), [call, *replies, '34"}'])
    assert answer == "34"
    assert "open tasks were concluded 'unknown'" in notes[-1]
    closed = '"tool_result":"34"},"conclusion":"unknown"}],"conclusion":"unknown"}],"answer":"'
    assert scripted.prompts[-1].endswith(closed)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("replies", "words"),
    [
        (['{"reasoning":[{"thought":"a","conclusion":"b"}]'] * 2, "ended without an answer"),
        (['{"reasoning":[{"thought" "a"'] * 2, "not JSON"),
        (["{" + '"reasoning":[{"thought":"' + "a " * 99], r"answer \(length\); raise max_tokens=80"),
        ([CALL.replace("TOOL", "fly"), '"}!', '"}!', "no end"], "no answer came when asked"),
    ],
)
async def test_what_is_left_is_a_named_error(tools: list[Any], replies: list[str], words: str) -> None:
    with pytest.raises(plait.PlaitError, match=words):
        await plait.recipes.tim(tools, max_tokens=80).run("?", engine=ScriptedEngine(replies))


# ---- what is pruned


def nested(name: str, shape: list[Any]) -> str:
    """A task with subtasks of that shape: each entry is the list of its own."""
    if not shape:
        return f'{{"thought":"{name}","conclusion":"end {name}"}}'
    inner = ",".join(nested(f"{name}{number}", part) for number, part in enumerate(shape, 1))
    return f'{{"thought":"{name}","subtasks":[{inner}],"conclusion":"end {name}"}}'


def trace_of(*shapes: list[Any]) -> str:
    tasks = ",".join(nested(name, shape) for name, shape in zip("abcdefghijklmnop", shapes, strict=False))
    return f'{{"reasoning":[{tasks}],"answer":"done"}}'


async def attended(trace: str, **settings: Any) -> str:
    """What the last generation of a trace attended to."""
    scripted = ScriptedEngine([trace])
    await plait.recipes.tim([], minimum=0, **settings).run("?", engine=scripted)
    return scripted.prompts[-1].rpartition("<|assistant|>")[2]


A1, A2, B1 = nested("a1", []), nested("a2", [[]]), nested("b1", [])
A2_CUT = '{"thought":"a2","subtasks":[],"conclusion":"end a2"}'


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("settings", "first", "second"),
    [
        ({"buffer": 0}, "", ""),
        ({"buffer": 1}, "", B1),
        ({"buffer": 2}, f"{A1},{A2_CUT}", B1),
        ({"buffer": 3}, f"{A1},{A2}", B1),
        ({"buffer": 0, "mode": "shift"}, "", ""),
    ],
)
async def test_the_buffer_keeps_the_lists_that_finished_last(settings: Any, first: str, second: str) -> None:
    """Lists finish in this order: a2's, a's, b's."""
    kept = await attended(trace_of([[], [[]]], [[]]), **settings)
    a = f'{{"thought":"a","subtasks":[{first}],"conclusion":"end a"}}'
    assert kept == f'{{"reasoning":[{a},{{"thought":"b","subtasks":[{second}],"conclusion":"'


@pytest.mark.anyio
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
async def test_nesting_leaves_the_outermost_conclusion(depth: int) -> None:
    shape: list[Any] = []
    for _ in range(depth):
        shape = [shape, []]
    assert await attended(trace_of(shape), buffer=0) == '{"reasoning":[{"thought":"a","subtasks":[],"conclusion":"'


def shapes(depth: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(shapes(depth - 1) if depth else st.just([]), max_size=2)


class Pruned:
    """Writes a trace as the last generation attends to it: of its lists, in the order in which they finish, the last
    `kept` are whole."""

    def __init__(self, forest: list[list[Any]], kept: int) -> None:
        self.forest, self.kept, self.finished = forest, kept, 0
        self.lists = self.count(forest) - 1

    def count(self, shape: list[Any]) -> int:
        return sum(map(self.count, shape)) + bool(shape)

    def write(self) -> str:
        tasks = ",".join(self.task(name, shape) for name, shape in zip("ab", self.forest, strict=False))
        end = '],"conclusion":"'
        return '{"reasoning":[' + tasks[: tasks.rindex(end)] + end

    def task(self, name: str, shape: list[Any]) -> str:
        if not shape:
            return nested(name, shape)
        inner = ",".join(self.task(f"{name}{number}", part) for number, part in enumerate(shape, 1))
        self.finished += 1
        shown = inner if self.finished > self.lists - self.kept else ""
        return f'{{"thought":"{name}","subtasks":[{shown}],"conclusion":"end {name}"}}'


@given(st.lists(shapes(3), min_size=1, max_size=2).filter(any), st.integers(0, 3))
def test_any_tree_keeps_what_the_buffer_says(forest: list[list[Any]], buffer: int) -> None:
    kept = anyio.run(lambda: attended(trace_of(*forest), buffer=buffer))
    assert kept == Pruned(forest, buffer).write()


@pytest.mark.anyio
async def test_short_lists_stay() -> None:
    scripted = ScriptedEngine([trace_of([[]], [[], []])])
    await plait.recipes.tim([], buffer=0, minimum=20).run("?", engine=scripted)
    assert '"subtasks":[' + nested("a1", []) + "]" in scripted.prompts[-1]
    assert '"thought":"b","subtasks":[],' in scripted.prompts[-1]


BUSHY: list[Any] = [[[[] for _ in range(3)] for _ in range(3)] for _ in range(3)]


@pytest.mark.anyio
async def test_a_trace_outgrows_the_window_tenfold() -> None:
    trace = trace_of(*[BUSHY] * 9)
    window = len(tokenise(trace)) // 11
    capabilities = replace(ALL, window=window)
    scripted = ScriptedEngine([trace], capabilities=capabilities)
    async with plait.recipes.tim([], buffer=2, max_tokens=window).stream("?", engine=scripted) as run:
        async for _ in run:
            pass
    assert run.value == "done"
    assert run.usage.generated > 10 * window
    assert run.usage.peak_live <= window
    with pytest.raises(plait.PlaitError, match="window"):
        await plait.recipes.tim([], mode="none").run("?", engine=ScriptedEngine([trace], capabilities=capabilities))


@pytest.mark.anyio
async def test_a_full_window_prunes_whatever_the_buffer_says() -> None:
    trace = trace_of(*[[[], []]] * 12)
    capabilities = replace(ALL, window=len(tokenise(trace)))
    scripted = ScriptedEngine([trace], capabilities=capabilities)
    assert await plait.recipes.tim([]).run("?", engine=scripted) == "done"


def test_on_the_local_engine_live_tokens_stay_bounded(tmp_path: Path) -> None:
    """The grammar's state goes on over the pruned parts: this one allows a single text."""
    window = 320
    small = shutil.copytree(LocalEngine.EMBEDDED, tmp_path / "small")
    config = json.loads((small / "config.json").read_text())
    (small / "config.json").write_text(json.dumps({**config, "max_position_embeddings": window}))
    shape: list[Any] = []
    for _ in range(4):
        shape = [shape, shape]
    trace = trace_of(*[shape] * 2).replace("end ", "")
    settings: dict[str, Any] = {"buffer": 0, "mode": "exact", "max_tokens": window}
    graph = plait.recipes.tim([], grammar=Choice((trace,)), **settings)

    async def main() -> tuple[str, Usage]:
        async with plait.open_engine(f"local:{small}") as engine, graph.stream("?", engine=engine) as run:
            async for _ in run:
                pass
        return run.value, run.usage

    answer, usage = anyio.run(main)
    assert answer == "done"
    assert usage.peak_live <= window < usage.generated / 4
    assert usage.pruned > usage.generated - window


def test_on_the_local_engine_a_cut_tree_is_closed_within_its_grammar() -> None:
    events: list[Any] = []
    graph = plait.recipes.tim(max_tokens=16)
    answer = graph.run_sync("Which has more people, Peru or Chile?", engine="local", listeners=[events.append])
    assert answer == "unknown"
    (note,) = [event.data for event in events if isinstance(event, NodeNote) and event.name == "mended"]
    assert "(length)" in note
    assert "concluded 'unknown'" in note


# ---- the tree alone


class Recorder:
    """Stands where a scope stands and notes what grew."""

    def __init__(self, title: str = "", log: list[Any] | None = None) -> None:
        self.title, self.log = title, [] if log is None else log

    def grow(self, kind: str, title: str) -> Recorder:
        self.log.append(("open", title))
        return Recorder(title, self.log)

    def finish(self, value: object) -> None:
        self.log.append(("close", self.title, value))


def tasks(depth: int = 3) -> st.SearchStrategy[dict[str, Any]]:
    text = st.text(max_size=6)
    use = st.fixed_dictionaries(
        {
            "tool_name": st.sampled_from(["lookup", "calculate"]),
            "parameters": st.recursive(
                st.none() | st.booleans() | text | st.integers(),
                lambda p: st.lists(p) | st.dictionaries(text, p),
                max_leaves=4,
            ),
            "tool_result": text,
        }
    )
    leaf = st.fixed_dictionaries({"thought": text, "conclusion": text})
    called = st.fixed_dictionaries({"thought": text, "tooluse": use, "conclusion": text})
    if not depth:
        return leaf | called
    parts = st.lists(tasks(depth - 1), min_size=1, max_size=3)
    return leaf | called | st.fixed_dictionaries({"thought": text, "subtasks": parts, "conclusion": text})


def ordered(task: dict[str, Any]) -> dict[str, Any]:
    """The same with its keys in the format's order."""
    parts = {"subtasks": [ordered(part) for part in task["subtasks"]]} if "subtasks" in task else {}
    return {key: (task | parts)[key] for key in ("thought", "tooluse", "subtasks", "conclusion") if key in task}


def expected(task: dict[str, Any]) -> list[Any]:
    inner = [entry for part in task.get("subtasks", []) for entry in expected(part)]
    return [("open", task["thought"]), *inner, ("close", task["thought"], task["conclusion"])]


HUGE = {"tool_name": "lookup", "parameters": [2**63, -(2**64), 1.5], "tool_result": ""}


@given(st.lists(tasks(), min_size=1, max_size=3), st.text(max_size=8), st.integers(1, 9))
@example([{"thought": "", "tooluse": HUGE, "conclusion": ""}], "", 1)
def test_reading_in_pieces_equals_the_tree(reasoning: list[dict[str, Any]], answer: str, step: int) -> None:
    reasoning = [ordered(task) for task in reasoning]
    text = json.dumps({"reasoning": reasoning, "answer": answer}, ensure_ascii=False)
    root = Recorder()
    tree = TaskTree(root)  # type: ignore[arg-type]
    for start in range(0, len(text), step):
        tree.feed(text[start : start + step])
    assert root.log == [entry for task in reasoning for entry in expected(task)]
    assert tree.answer == answer


@given(st.text(max_size=60) | st.text(alphabet='{}[]":,reasonigthusktl_ \\"', max_size=80))
def test_any_text_is_read_or_refused_by_name(text: str) -> None:
    tree = TaskTree(Recorder())  # type: ignore[arg-type]
    try:
        tree.feed(text)
    except FormatError:
        return


def test_hostile_trees_in_any_cut_give_the_same_moves_and_no_unnamed_error() -> None:
    random, pieces = Random(6), [TRACE, SUBTASKS, *TRACE, "[" * 70, "1e999", "\ud800", "é"]
    pieces += ['"tool_result":"', '"parameters":', '"conclusion":"', '"answer":"']
    for _ in range(2_000):
        start = random.randrange(len(TRACE))
        text = TRACE[:start] + "".join(random.choices(pieces, k=random.randint(0, 3))) + TRACE[start:]
        ends = sorted(random.randrange(len(text)) for _ in range(random.randint(0, 9)))
        assert read([text]) == read([text[a:b] for a, b in pairwise([0, *ends, len(text)])])


def read(pieces: list[str]) -> list[Any] | None:
    """The moves of a whole trace; None for one that is none: nothing of it is kept."""
    tree, moves = TaskTree(Recorder()), []  # type: ignore[arg-type]
    try:
        for piece in pieces:
            moves += tree.feed(piece)
        return moves + tree.end()
    except FormatError:
        return None


@pytest.mark.parametrize(
    ("text", "result", "conclusion"),
    [
        ('{"reasoning":[{"thought":"a","conclusion":"', False, True),
        ('{"reasoning":[{"thought":"a","conclusion":"so', False, True),
        ('{"reasoning":[{"thought":"a","conclusion":"b"', False, False),
        ('{"reasoning":[{"thought":"a","conclusion":"b"},{', False, False),
        ('{"reasoning":[{"thought":"a","tooluse":{"tool_name":"t","parameters":{"x":"', False, False),
        ('{"reasoning":[{"thought":"a","tooluse":{"tool_name":"t","parameters":{},"tool_result":"', True, False),
        ('{"reasoning":[{"thought":"a","tooluse":{"tool_name":"t","parameters":{},"tool_result":"b"', False, False),
    ],
)
def test_where_a_tree_can_be_closed(text: str, result: bool, conclusion: bool) -> None:
    tree = TaskTree(Recorder())  # type: ignore[arg-type]
    tree.feed(text)
    assert (tree.at_result, tree.at_conclusion) == (result, conclusion)
    if result or conclusion:
        tree.feed(tree.closing + 'x"}')
        assert tree.answer == "x"

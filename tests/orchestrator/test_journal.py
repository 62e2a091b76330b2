"""The journal: what is recorded is never run again, what may have happened is never repeated silently."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import BaseModel

import plait
from plait.engines import JsonSchema, Member, Sampling, Teamwork
from plait.engines.scripted import Reply, ScriptedEngine
from plait.errors import (
    FormatError,
    InputError,
    JournalError,
    NodeError,
    ReplayError,
    ToolError,
    TransientEngineError,
    UncertainCallError,
)
from plait.orchestrator import Builder, Graph, Journal, NodeFinished, NodeText, Scope

pytestmark = pytest.mark.anyio


class Verdict(BaseModel):
    larger: str
    difference: float


class Counted:
    """Tools and functions that count what they are asked; `broken` names those that fail."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.broken: set[str] = set()

        @plait.tool(idempotent=True)
        async def look(query: str) -> str:
            self.note(f"look {query}")
            return query.upper()

        @plait.tool
        async def send(text: str) -> int:
            self.note(f"send {text}")
            return len(text)

        self.look, self.send = look, send

    def note(self, what: str) -> None:
        self.asked.append(what)
        if what.split()[0] in self.broken:
            raise ValueError(f"{what} is broken")

    def double(self, number: int) -> int:
        self.note("double")
        return 2 * number

    async def verdict(self, text: str) -> Verdict:
        self.note("verdict")
        return Verdict(larger=text, difference=float("inf"))


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
def journal(tmp_path: Path) -> Any:
    with Journal(tmp_path / "journal.db") as journal:
        yield journal


def whole(counted: Counted) -> Graph[Any]:
    """A graph with a node of each kind."""

    async def drive(scope: Scope, start: str) -> str:
        context = await scope.start(f"drive {start}: ")
        first = await scope.generate(context, stop=[";"])
        outcomes = await scope.settle([(counted.look, {"query": "x"}), (counted.send, {"text": "hello"})])
        context = await scope.extend(first.context, "".join(outcome.text for outcome in outcomes))
        second = await scope.generate(context, title="second")
        return first.text + second.text

    @plait.graph(name="whole")
    def build(g: Builder, word: str) -> Any:
        plan = g.think("Plan {w}", w=word, name="plan")
        after = g.think("Go on", after=plan, name="after")
        found = g.map(counted.look, [word, "b", "c"], name="found")
        driven = g.drive(drive, start=word, name="driven")
        count = g.function(counted.double, number=g.call(counted.send, text=after, name="sent"), name="count")
        verdict = g.function(counted.verdict, text=driven, name="verdict")
        return [plan, after, found, driven, count, verdict]

    return build


def engine() -> ScriptedEngine:
    return ScriptedEngine({"Plan": "a plan", "Go on": "going", "drive": "one; two three"})


EXPECTED = [
    "a plan",
    "going",
    ["A", "B", "C"],
    "one; two three",
    10,
    Verdict(larger="one; two three", difference=float("inf")),
]
ASKED = ["double", "look A", "look b", "look c", "look x", "send going", "send hello", "verdict"]


# ---- resume


async def test_a_finished_run_is_answered_from_its_journal_alone(journal: Journal, counted: Counted) -> None:
    graph, scripted = whole(counted), engine()
    async with graph.stream("A", engine=scripted, journal=journal) as first:
        events = [event async for event in first]
    assert first.value == EXPECTED
    asked = sorted(counted.asked)
    assert asked == ASKED
    calls = scripted.calls
    async with graph.stream(engine=scripted, journal=journal.resume(first.id)) as again:
        repeated = [event async for event in again]
    assert again.value == EXPECTED
    assert again.id == first.id
    assert sorted(counted.asked) == asked
    assert scripted.calls == calls
    assert scripted.held == 0
    assert again.usage.as_dict() | {"seconds": 0, "peak_live": 0} == first.usage.as_dict() | {
        "seconds": 0,
        "peak_live": 0,
    }

    def text(events: list[Any]) -> dict[str, str]:
        said = [event for event in events if isinstance(event, NodeText)]
        return {path: "".join(e.text for e in said if e.path == path) for path in {e.path for e in said}}

    assert text(repeated) == {path: said for path, said in text(events).items() if not path.startswith("driven")}
    assert journal.run(first.id).state == "done"


@pytest.mark.parametrize("broken", ["look", "double", "verdict"])
async def test_a_run_that_failed_goes_on_where_it_stopped(journal: Journal, counted: Counted, broken: str) -> None:
    graph, scripted = whole(counted), engine()
    counted.broken = {broken}
    with pytest.raises(NodeError):
        await graph.run("A", engine=scripted, journal=journal)
    (run,) = journal.runs()
    assert run.state == "failed"
    counted.broken = set()
    assert await graph.run(engine=engine(), journal=journal.resume(run.run)) == EXPECTED
    asked = sorted(set(counted.asked))
    assert asked == ASKED
    sends = [what for what in counted.asked if what.startswith("send")]
    assert sorted(sends) == ["send going", "send hello"]


async def test_contexts_are_made_again_only_where_something_goes_on_from_them(journal: Journal) -> None:
    fails = True

    async def drive(scope: Scope, question: str) -> str:
        context = await scope.start(question)
        schema = JsonSchema({"type": "array"})
        first = await scope.generate(context, stop=["|"], grammar=schema)
        other = await scope.generate(context, title="other", stop=["|"])
        assert first.grammar is not None
        assert not first.grammar.complete
        grammar = first.grammar.force("X")
        context = await scope.extend(first.context, "X")
        pruned = await scope.prune(context, 0, 1, mode="exact")
        joined = await scope.splice(pruned, [other.context], at="sequence", mode="exact")
        texts.append([context.text, pruned.text, joined.text, str(context.length), str(joined.length)])
        if fails:
            raise FormatError("stopped")
        last = await scope.generate(context, grammar=grammar, stop=["|"])
        return last.context.text

    texts: list[list[str]] = []
    rules = {"go": "[1,|2,|3]"}
    graph = plait.graph(name="g")(lambda g, question: g.drive(drive, question=question))
    one = ScriptedEngine(rules)
    with pytest.raises(NodeError, match="stopped"):
        await graph.run("go now ", engine=one, journal=journal)
    run = journal.runs()[0].run
    fails = False
    two = ScriptedEngine(rules)
    async with graph.stream(engine=two, journal=journal.resume(run)) as resumed:
        async for _ in resumed:
            pass
    assert resumed.value == "go now [1,|X2,|"
    assert texts[0] == texts[1]
    assert len(two.asked) == 1
    assert two.asked[0].continued
    assert two.asked[0].prompt == "go now [1,|X"
    assert resumed.usage.recomputed >= 7
    assert two.held == 0


async def test_a_generation_left_early_is_left_at_the_same_chunk(journal: Journal) -> None:
    fails = True

    async def drive(scope: Scope, question: str) -> str:
        said = ""
        async with scope.stream(await scope.start(question)) as stream:
            async for chunk in stream:
                said += chunk.text
                if chunk.text == " b":
                    break
        if fails:
            raise FormatError("stopped")
        return said

    graph = plait.graph(name="g")(lambda g: g.drive(drive, question="q"))
    with pytest.raises(NodeError):
        await graph.run(engine=ScriptedEngine(["a b c d"]), journal=journal)
    fails = False
    assert await graph.run(engine=ScriptedEngine([]), journal=journal.resume(journal.runs()[0].run)) == "a b"


async def test_errors_that_a_driver_handles_are_the_same_when_it_runs_again(journal: Journal, counted: Counted) -> None:
    async def drive(scope: Scope, question: str) -> list[str]:
        said = []
        outcome = (await scope.settle([(counted.look, {"query": "q"})]))[0]
        said.append(outcome.text)
        try:
            await scope.call(counted.look, {"query": "r"})
        except ToolError as error:
            said.append(str(error))
        try:
            await scope.generate(await scope.start(question))
        except TransientEngineError as error:
            said.append(str(error))
        if fails:
            raise FormatError("stopped")
        return said

    fails = True
    counted.broken = {"look"}
    graph = plait.graph(name="g")(lambda g: g.drive(drive, question="q"))
    with pytest.raises(NodeError, match="stopped"):
        await graph.run(engine=ScriptedEngine([Reply("", error=TransientEngineError("busy"))]), journal=journal)
    fails = False
    counted.broken = set()
    said = await graph.run(engine=ScriptedEngine([]), journal=journal.resume(journal.runs()[0].run))
    assert said == [
        "error: tool 'look' failed: ValueError: look q is broken",
        "tool 'look' failed: ValueError: look r is broken",
        "busy",
    ]
    assert counted.asked == ["look q", "look r"]


async def test_another_graph_or_a_fickle_driver_is_told_so(journal: Journal) -> None:
    words = iter(["one", "two"])
    fails = True

    async def drive(scope: Scope, question: str) -> str:
        await scope.start(f"{question} {next(words)}")
        if fails:
            raise FormatError("stopped")
        return ""

    graph = plait.graph(name="g")(lambda g: g.drive(drive, question="q"))
    with pytest.raises(NodeError):
        await graph.run(engine=ScriptedEngine([]), journal=journal)
    run = journal.runs()[0].run
    with pytest.raises(NodeError, match="asks otherwise than run") as caught:
        await graph.run(engine=ScriptedEngine([]), journal=journal.resume(run))
    assert isinstance(caught.value.__cause__, ReplayError)
    other = plait.graph(name="g")(lambda g: g.drive(drive, question="other"))
    with pytest.raises(JournalError, match=f"is not the one that run {run} began with"):
        await other.run(engine=ScriptedEngine([]), journal=journal.resume(run))


async def test_a_team_is_answered_and_runs_again_only_where_its_contexts_are_needed(journal: Journal) -> None:
    async def drive(scope: Scope, question: str) -> list[str]:
        context = await scope.start(question)
        members = [Member(context=context, name=name) for name in ("Ann", "Ben")]
        results = await scope.team(members, Teamwork(layout="interleaved"))
        if fails:
            raise FormatError("stopped")
        more = await scope.extend(results[1].context, " more ")
        last = await scope.generate(more)
        return [*(result.text for result in results), last.context.text]

    def script(prompt: str, index: int) -> str:
        return "the end" if prompt.endswith("more ") else f"I am {index}"

    fails = True
    graph = plait.graph(name="g")(lambda g: g.drive(drive, question="Go. "))
    with pytest.raises(NodeError, match="stopped"):
        await graph.run(engine=ScriptedEngine(script), journal=journal)
    run = journal.runs()[0].run
    with pytest.raises(NodeError, match="stopped"):
        await graph.run(engine=ScriptedEngine([]), journal=journal.resume(run))
    fails = False
    scripted = ScriptedEngine(script)
    said = await graph.run(engine=scripted, journal=journal.resume(run))
    assert said == ["I am 0", "I am 1", "Go. I am 0I am 1 more the end"]
    assert scripted.held == 0
    assert await graph.run(engine=None, journal=journal.replay(run)) == said


async def test_an_answer_of_a_person_is_asked_for_once(journal: Journal, counted: Counted) -> None:
    asked: list[str] = []

    async def answer(question: Any) -> str:
        asked.append(question.text)
        return "7"

    @plait.graph
    def build(g: Builder) -> int:
        return g.function(counted.double, number=g.ask("How many?", returns=int))

    counted.broken = {"double"}
    with pytest.raises(NodeError, match="double is broken"):
        await build.run(engine=None, answer=answer, journal=journal)
    counted.broken = set()
    assert await build.run(engine=None, answer=answer, journal=journal.resume(journal.runs()[0].run)) == 14
    assert asked == ["How many?"]


# ---- uncertain calls


def cut_off(counted: Counted, started: anyio.Event) -> Graph[int]:
    @plait.tool
    async def pay(amount: int) -> int:
        """Pays."""
        counted.note(f"pay {amount}")
        if not started.is_set():
            started.set()
            await anyio.sleep_forever()
        return amount

    return plait.graph(name="paying")(lambda g: g.function(counted.double, number=g.call(pay, amount=7)))


async def cut(journal: Journal, counted: Counted) -> tuple[Graph[int], str]:
    """A graph whose run was cancelled in the middle of a payment."""
    started = anyio.Event()
    graph = cut_off(counted, started)
    async with graph.stream(engine=None, journal=journal) as run:
        await started.wait()
    assert journal.run(run.id).state == "cancelled"
    return graph, run.id


async def test_a_call_that_may_have_happened_is_not_repeated(journal: Journal, counted: Counted) -> None:
    graph, run = await cut(journal, counted)
    assert [record.path for record in journal.uncertain(run)] == ["pay"]
    for _ in range(2):
        with pytest.raises(NodeError, match=r"the call .* at 'pay' was begun .* --assume-done 'pay=VALUE'") as caught:
            await graph.run(engine=None, journal=journal.resume(run))
        assert isinstance(caught.value.__cause__, UncertainCallError)
    assert counted.asked == ["pay 7"]


@pytest.mark.parametrize(("resolution", "value", "result"), [("done", 5, 10), ("again", None, 14)])
async def test_an_uncertain_call_can_be_resolved(
    journal: Journal, counted: Counted, resolution: str, value: Any, result: int
) -> None:
    graph, run = await cut(journal, counted)
    journal.resolve(run, "pay", resolution, value)
    assert journal.uncertain(run) == []
    assert await graph.run(engine=None, journal=journal.resume(run)) == result
    assert counted.asked.count("pay 7") == (2 if resolution == "again" else 1)


async def test_an_uncertain_call_can_be_taken_for_failed(journal: Journal, counted: Counted) -> None:
    graph, run = await cut(journal, counted)
    with pytest.raises(JournalError, match="has no uncertain call 'double'; uncertain: pay"):
        journal.resolve(run, "double", "failed")
    with pytest.raises(InputError, match="resolution 'maybe' is unknown"):
        journal.resolve(run, "pay", "maybe")
    journal.resolve(run, "pay", "failed", "no money went")
    with pytest.raises(NodeError, match="no money went"):
        await graph.run(engine=None, journal=journal.resume(run))


async def test_a_failed_call_that_is_not_idempotent_is_uncertain_when_it_ended_the_run(
    journal: Journal, counted: Counted
) -> None:
    graph = plait.graph(name="g")(lambda g: g.call(counted.send, text="hi"))
    counted.broken = {"send"}
    with pytest.raises(NodeError, match="send hi is broken"):
        await graph.run(engine=None, journal=journal)
    run = journal.runs()[0].run
    with pytest.raises(NodeError, match="may have happened"):
        await graph.run(engine=None, journal=journal.resume(run))
    assert counted.asked == ["send hi"]


async def test_arguments_that_do_not_fit_never_reached_the_tool(journal: Journal, counted: Counted) -> None:
    async def drive(scope: Scope, text: Any) -> int:
        return await scope.call(counted.send, {"text": text})

    graph = plait.graph(name="g")(lambda g: g.drive(drive, text=3))
    with pytest.raises(NodeError, match="argument 'text'"):
        await graph.run(engine=None, journal=journal)
    assert journal.uncertain(journal.runs()[0].run) == []


# ---- replay


async def test_a_replay_needs_no_engine_and_no_tool_and_writes_nothing(journal: Journal, counted: Counted) -> None:
    graph = whole(counted)
    assert await graph.run("A", engine=engine(), journal=journal) == EXPECTED
    run = journal.runs()[0]
    before, asked = journal.records(run.run), list(counted.asked)
    assert await graph.run(engine=None, journal=journal.replay(run.run[:6])) == EXPECTED
    assert journal.records(run.run) == before
    assert counted.asked == asked
    assert len(journal.runs()) == 1


async def test_a_replay_of_an_unfinished_run_says_what_is_missing(journal: Journal, counted: Counted) -> None:
    graph, run = await cut(journal, counted)
    with pytest.raises(NodeError, match="may have happened"):
        await graph.run(engine=None, journal=journal.replay(run))
    other = whole(counted)
    counted.broken = {"look"}
    with pytest.raises(NodeError):
        await other.run("A", engine=engine(), journal=journal)
    with pytest.raises(NodeError, match=r"has no record of operation|which a replay has not"):
        await other.run(engine=None, journal=journal.replay(journal.runs()[0].run))


# ---- forks


async def test_a_fork_takes_all_that_is_not_downstream(journal: Journal, counted: Counted) -> None:
    graph = whole(counted)
    await graph.run("A", engine=engine(), journal=journal)
    run = journal.runs()[0].run
    counted.asked.clear()
    scripted = ScriptedEngine({"Go on": "elsewhere"})
    value = await graph.run(engine=scripted, journal=journal.fork(run, at="after"))
    assert value == [*EXPECTED[:1], "elsewhere", *EXPECTED[2:4], 18, EXPECTED[5]]
    assert counted.asked == ["send elsewhere", "double"]
    assert [asked.prompt for asked in scripted.asked] == [
        "<|user|>Plan A\n<|assistant|>a plan<|user|>Go on\n<|assistant|>"
    ]
    fork = journal.runs()[0]
    assert (fork.parent, fork.state) == (run, "done")
    assert await graph.run(engine=None, journal=journal.replay(fork.run)) == value


async def test_a_fork_with_another_input_runs_what_depends_on_it(journal: Journal, counted: Counted) -> None:
    @plait.graph
    def build(g: Builder, left: str, right: str) -> list[str]:
        return [g.call(counted.look, query=left, name="l"), g.call(counted.look, query=right, name="r")]

    await build.run("a", "b", engine=None, journal=journal)
    run = journal.runs()[0].run
    assert await build.run(engine=None, journal=journal.fork(run, changes={"right": "c"})) == ["A", "C"]
    assert sorted(counted.asked) == ["look a", "look b", "look c"]
    with pytest.raises(InputError, match="has no node 'middle' to change; nodes: left, right, l, r"):
        await build.run(engine=None, journal=journal.fork(run, changes={"middle": "c"}))


async def test_a_fork_can_give_a_node_another_value(journal: Journal, counted: Counted) -> None:
    graph = whole(counted)
    await graph.run("A", engine=engine(), journal=journal)
    run = journal.runs()[0].run
    counted.asked.clear()
    value = await graph.run(engine=engine(), journal=journal.fork(run, changes={"sent": 50}))
    assert value[4] == 100
    assert counted.asked == ["double"]
    with pytest.raises(InputError, match="another thought continues its context"):
        await graph.run(engine=engine(), journal=journal.fork(run, changes={"plan": "x"}))


async def test_a_fork_at_a_grown_node_keeps_what_came_before_it(journal: Journal, counted: Counted) -> None:
    graph = whole(counted)
    await graph.run("A", engine=engine(), journal=journal)
    run = journal.runs()[0].run
    counted.asked.clear()
    scripted = ScriptedEngine({"drive": "one; else"})
    value = await graph.run(engine=scripted, journal=journal.fork(run, at="driven/3-second"))
    assert value[3] == "one; else"
    assert counted.asked == ["verdict"]
    assert len(scripted.asked) == 1


async def test_a_fork_needs_a_change(journal: Journal) -> None:
    with pytest.raises(InputError, match="a fork needs a node"):
        journal.fork("x")


# ---- the cache


async def test_a_cache_scope_answers_across_runs_sample_by_sample(journal: Journal, counted: Counted) -> None:
    @plait.graph
    def build(g: Builder, q: str) -> list[Any]:
        return [
            g.think("{q}", q=q, samples=3, sampling=Sampling(temperature=1.0), name="first"),
            g.call(counted.look, query=q),
            g.function(counted.double, number=2),
            g.call(counted.send, text=q),
        ]

    def script(prompt: str, index: int) -> str:
        return f"reply {index}"

    options: dict[str, Any] = {"journal": journal, "cache": "dev"}
    one = await build.run("x", engine=ScriptedEngine(script), **options)
    journal.flush()
    assert sorted(one[0]) == ["reply 0", "reply 1", "reply 2"]
    two = await build.run("x", engine=ScriptedEngine([]), **options)
    assert two == one
    assert sorted(counted.asked) == ["double", "look x", "send x", "send x"]
    other = ScriptedEngine(lambda prompt, index: f"other {index}")
    three = await build.run("x", engine=other, seed=1, **options)
    assert sorted(three[0]) == ["other 0", "other 1", "other 2"]
    assert len(other.asked) == 3
    four = ScriptedEngine(script)
    await build.run("x", engine=four, journal=journal, cache="test")
    assert len(four.asked) == 3


# ---- the file


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_text("hello " * 100)
    with pytest.raises(JournalError, match=r"text\.db can't be opened"):
        Journal(text)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE things (name TEXT)")
    with pytest.raises(JournalError, match="but no journal of plait"):
        Journal(other)
    newer = tmp_path / "newer.db"
    Journal(newer).close()
    with sqlite3.connect(newer) as connection:
        connection.execute("UPDATE meta SET value = 99")
    with pytest.raises(JournalError, match="has schema version 99; this plait reads 1"):
        Journal(newer)


def test_unknown_and_ambiguous_runs_are_named(journal: Journal, counted: Counted) -> None:
    graph = plait.graph(name="g")(lambda g: g.function(counted.double, number=1))
    for _ in range(40):
        graph.run_sync(engine=None, journal=journal)
    with pytest.raises(JournalError, match="has no run of id 'nothing'"):
        journal.run("nothing")
    runs = [run.run for run in journal.runs()]
    letter = max("0123456789abcdef", key=lambda letter: sum(run.startswith(letter) for run in runs))
    with pytest.raises(JournalError, match=r"has \d+ runs"):
        journal.run(letter)
    assert journal.run(runs[0]).run == runs[0]


def test_a_journal_given_by_its_file_is_closed_with_the_run(tmp_path: Path, counted: Counted) -> None:
    import threading

    graph = plait.graph(name="g")(lambda g: g.function(counted.double, number=1))
    assert graph.run_sync(engine=None, journal=tmp_path / "new" / "j.db") == 2
    assert not [thread for thread in threading.enumerate() if "journal" in thread.name]
    with Journal(tmp_path / "new" / "j.db") as journal:
        assert [run.state for run in journal.runs()] == ["done"]


async def test_values_that_can_t_be_kept_are_made_again(journal: Journal, counted: Counted) -> None:
    def opened() -> Any:
        counted.note("opened")
        return object()

    def named(thing: Any) -> str:
        counted.note("named")
        return type(thing).__name__

    graph = plait.graph(name="g")(lambda g: g.function(named, thing=g.function(opened)))
    assert await graph.run(engine=None, journal=journal) == "object"
    assert await graph.run(engine=None, journal=journal.resume(journal.runs()[0].run)) == "object"
    assert counted.asked == ["opened", "named", "opened"]


async def test_finished_nodes_are_recorded_with_kind_title_and_usage(journal: Journal, counted: Counted) -> None:
    graph = whole(counted)
    finished: list[Any] = []

    def listen(event: Any) -> None:
        finished.extend([event.path] if isinstance(event, NodeFinished) else [])

    await graph.run("A", engine=engine(), journal=journal, listeners=[listen])
    records = journal.records(journal.runs()[0].run)
    assert {record.path for record in records if record.state == "done"} == set(finished)
    (call,) = [record for record in records if record.path == "found/2-look"]
    assert (call.kind, call.title, call.usage) == ("call", "look(query='b')", {"calls": 1, "cost": 0.0})

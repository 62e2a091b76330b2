"""Agents on a scripted model: one model in all formats, and what becomes of calls that fail, hang, lie or repeat."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

import plait
from plait.engines.scripted import ALL, Reply, ScriptedEngine
from plait.errors import EngineError, FormatError, InputError, NodeError, RunError, UnknownNameError
from plait.recipes.formats import FORMATS, ToolCall, find_format
from plait.tools import Retry, Tool

pytestmark = pytest.mark.anyio

Round = Sequence[tuple[str, dict[str, Any]]]
TASKS: list[tuple[str, list[Round], str]] = [
    ("How many live in Peru?", [[("lookup", {"query": "people of Peru"})]], "34"),
    (
        "Peru or Chile plus Bolivia?",
        [
            [("lookup", {"query": f"people of {country}"}) for country in ("Peru", "Chile", "Bolivia")],
            [("calculate", {"expression": "20+12"})],
            [("calculate", {"expression": "max 34,32"})],
        ],
        "Peru",
    ),
    ("What is 1/0?", [[("calculate", {"expression": "1/0"})]], "unknown"),
]
"""What the scripted model does for each task: the calls of its turns, and its answer."""


def say(name: str, *calls: tuple[str, dict[str, Any]]) -> str:
    return find_format(name).say([ToolCall(f"c{place}", tool, given) for place, (tool, given) in enumerate(calls)])


def turns(name: str, rounds: Sequence[Round], answer: str) -> list[str]:
    """What the model says in a format; in ReAct's each call is a turn."""
    if name == "tim":
        tasks = [
            {"thought": "t", "tooluse": {"tool_name": tool, "parameters": given, "tool_result": ""}, "conclusion": "c"}
            for calls in rounds
            for tool, given in calls
        ]
        return [json.dumps({"reasoning": tasks, "answer": answer}, separators=(",", ":"))]
    rounds = [[call] for calls in rounds for call in calls] if name == "react" else rounds
    return [*(say(name, *calls) for calls in rounds), find_format(name).conclude(answer)]


def in_format(name: str, tools: Sequence[Tool]) -> plait.Graph[str]:
    return plait.recipes.tim(tools) if name == "tim" else plait.recipes.agent(tools, format=name)  # type: ignore[arg-type]


async def events_of(graph: plait.Graph[str], task: str, **options: Any) -> tuple[str, list[Any]]:
    events: list[Any] = []
    value = await graph.run(task, listeners=[events.append], **options)
    return value, events


def ended(events: Sequence[Any]) -> list[tuple[str, str]]:
    """Title and result of each call, in the order in which they were begun."""
    begun, texts = {}, {}
    for event in events:
        match type(event).__name__:
            case "NodeStarted" if event.kind == "call":
                begun[event.path] = event.title
            case "NodeFinished":
                texts[event.path] = event.summary
            case "NodeFailed":
                texts[event.path] = event.message
    return [(title, texts[path]) for path, title in begun.items()]


def notes(events: Sequence[Any]) -> list[str]:
    return [event.name for event in events if type(event).__name__ == "NodeNote"]


@pytest.mark.parametrize("name", [*FORMATS, "tim"])
@pytest.mark.parametrize("task", range(len(TASKS)))
async def test_one_model_makes_the_same_calls_in_every_format(tools: list[Tool], name: str, task: int) -> None:
    question, rounds, answer = TASKS[task]
    engine = ScriptedEngine(turns(name, rounds, answer))
    value, events = await events_of(in_format(name, tools), question, engine=engine)
    by_batches = ScriptedEngine(turns("dta", rounds, answer))
    reference, expected = await events_of(in_format("dta", tools), question, engine=by_batches)
    assert value == reference == answer
    assert ended(events) == ended(expected)
    assert len(ended(events)) == sum(map(len, rounds))
    assert all(text.split(":")[-1] in engine.prompts[-1] for _, text in ended(events))


# ---- one turn's calls


@plait.tool(name="good", idempotent=True)
async def good(number: int) -> int:
    """Twice the number."""
    return 2 * number


@plait.tool(name="failing")
async def failing() -> str:
    """Never works."""
    raise OSError("the disk is full")


@plait.tool(name="hanging", timeout=0.05)
async def hanging() -> str:
    """Never ends."""
    await anyio.sleep(math.inf)
    return ""


@plait.tool(name="lying")
async def lying() -> int:
    """Promises a number."""
    return "many"  # type: ignore[return-value]


def flaky(fails: int, tried: list[int]) -> Tool:
    @plait.tool(name="flaky", idempotent=True, retry=Retry(on=(ConnectionError,), attempts=3, wait=0.0))
    async def flaky() -> str:
        """Works the third time."""
        tried.append(1)
        if len(tried) <= fails:
            raise ConnectionError("try again")
        return "at last"

    return flaky


EIGHT: Round = [
    ("good", {"number": 1}),
    ("failing", {}),
    ("good", {"number": 2}),
    ("hanging", {}),
    ("lying", {}),
    ("flaky", {}),
    ("gone", {}),
    ("good", {"number": "many"}),
]
PARALLEL = ["hermes", "llama", "openai", "dta"]


@pytest.mark.parametrize("name", PARALLEL)
async def test_a_failing_a_hanging_and_a_lying_tool_leave_their_siblings_alone(name: str) -> None:
    tried: list[int] = []
    tools = [good, failing, hanging, lying, flaky(2, tried)]
    engine = ScriptedEngine([say(name, *EIGHT), find_format(name).conclude("done")])
    value, events = await events_of(in_format(name, tools), "?", engine=engine)
    shown = engine.prompts[1].replace("\\", "")
    assert (value, len(tried)) == ("done", 3)
    assert [text for _, text in ended(events)][:3] == ["2", "tool 'failing' failed: OSError: the disk is full", "4"]
    places = [
        shown.index(part)
        for part in (
            "error: tool 'failing' failed: OSError: the disk is full",
            "error: tool 'hanging' took longer than its timeout of 0.05 seconds",
            "error: tool 'lying' returned 'many', which is not the int",
            "at last",
            "error: unknown tool 'gone'; known: good, failing",
            "error: tool 'good': argument 'number'",
        )
    ]
    assert places == sorted(places)  # in the order of the calls
    assert events[-1].usage.calls == 7  # all but the unknown one: that was never called


async def test_a_tool_that_fails_for_good_is_an_observation_after_its_retries() -> None:
    tried: list[int] = []
    engine = ScriptedEngine([say("hermes", ("flaky", {})), "gave up"])
    assert await in_format("hermes", [flaky(9, tried)]).run("?", engine=engine) == "gave up"
    assert len(tried) == 3
    assert "ConnectionError: try again" in engine.prompts[1]


async def test_a_budget_of_calls_is_kept_by_an_agent() -> None:
    calls = [("good", {"number": number}) for number in range(9)]
    engine = ScriptedEngine([say("hermes", *calls), "done"])
    with pytest.raises(NodeError, match="calls") as failed:
        await in_format("hermes", [good]).run("?", engine=engine, budget=plait.Budget(calls=5))
    assert "5" in str(failed.value)
    assert engine.calls == 1


async def test_a_call_begins_while_its_turn_is_still_being_written() -> None:
    writing: list[int] = []

    @plait.tool(name="first")
    async def first() -> str:
        """Sees whether the model is still at work."""
        writing.append(engine.active)
        return "1"

    text = say("hermes", ("first", {}), ("good", {"number": 1}))
    engine = ScriptedEngine([Reply(text, latency=0.2), "done"])
    assert await in_format("hermes", [first, good]).run("?", engine=engine) == "done"
    assert writing == [1]


async def test_equal_calls_of_a_turn_are_made_once_and_both_are_answered(lookup: Tool, asked: list[str]) -> None:
    once = replace(lookup, idempotent=True)
    peru = ("lookup", {"query": "people of Peru"})
    engine = ScriptedEngine([say("openai", peru, peru), say("openai", peru), find_format("openai").conclude("34")])
    value, events = await events_of(in_format("openai", [once]), "?", engine=engine)
    assert (value, asked) == ("34", ["people of Peru"])
    answered = re.findall(r'"tool_call_id":"(\w+)","content":"(\w+)"', engine.prompts[2])
    assert answered[:2] == [("c0", "34"), ("c1", "34")]
    assert answered[2][1] == "34"
    assert notes(events).count("repeated") == 2


async def test_a_tool_that_has_effects_is_called_as_often_as_the_model_says(lookup: Tool, asked: list[str]) -> None:
    peru = ("lookup", {"query": "people of Peru"})
    engine = ScriptedEngine([say("hermes", peru, peru), say("hermes", peru), "34"])
    assert await in_format("hermes", [lookup]).run("?", engine=engine) == "34"
    assert asked == ["people of Peru"] * 3


async def test_a_failed_call_may_be_tried_again_in_a_later_turn() -> None:
    tried: list[int] = []
    tool = replace(flaky(1, tried), retry=plait.tools.Retry(attempts=1))
    engine = ScriptedEngine([say("hermes", ("flaky", {})), say("hermes", ("flaky", {})), "done"])
    assert await in_format("hermes", [tool]).run("?", engine=engine) == "done"
    assert "at last" in engine.prompts[2]


async def test_a_call_that_needs_a_result_waits_for_that_call_alone() -> None:
    """It ends before a sibling which never would: nobody waits for the whole turn."""
    doubled = anyio.Event()

    @plait.tool(name="late")
    async def late() -> str:
        """Ends only after the second doubling."""
        await doubled.wait()
        return "late"

    @plait.tool(name="twice")
    async def twice(number: int) -> int:
        """Twice the number."""
        if number == 20:
            doubled.set()
        return 2 * number

    calls = [
        ToolCall("slow", "late", {}),
        ToolCall("a", "twice", {"number": 10}),
        ToolCall("b", "twice", {"number": {"$result": "a"}}),
    ]
    engine = ScriptedEngine([find_format("openai").say(calls), find_format("openai").conclude("done")])
    with anyio.fail_after(60):
        assert await in_format("openai", [late, twice]).run("?", engine=engine) == "done"
    assert '"tool_call_id":"b","content":"40"' in engine.prompts[1]


async def test_a_call_whose_source_has_failed_or_is_unknown_says_so() -> None:
    calls = [
        ToolCall("bad", "failing", {}),
        ToolCall("b", "good", {"number": {"$result": "bad"}}),
        ToolCall("c", "good", {"number": {"$result": "nowhere"}}),
    ]
    engine = ScriptedEngine([find_format("openai").say(calls), find_format("openai").conclude("done")])
    assert await in_format("openai", [good, failing]).run("?", engine=engine) == "done"
    assert "call 'bad', whose result it needs, has failed" in engine.prompts[1]
    assert "no call before it has this id" in engine.prompts[1]


async def test_a_task_tree_has_repeated_calls_answered_and_wrong_parameters_named(
    lookup: Tool, asked: list[str]
) -> None:
    peru: Round = [("lookup", {"query": "people of Peru"})] * 2
    wrong = replace(ALL, grammars=frozenset[str]())
    (trace,) = turns("tim", [peru, [("lookup", ["Peru"])]], "34")  # type: ignore[list-item]
    engine = ScriptedEngine([trace], capabilities=wrong)
    assert await plait.recipes.tim([replace(lookup, idempotent=True)]).run("?", engine=engine) == "34"
    assert asked == ["people of Peru"]
    assert engine.prompts[-1].count('"tool_result":"34"') == 2
    assert "takes its arguments by name, as an object" in engine.prompts[-1]


async def test_an_id_that_is_used_again_stands_for_the_latest_call() -> None:
    def twice(source: int) -> str:
        calls = [ToolCall("a", "good", {"number": source}), ToolCall("b", "good", {"number": {"$result": "a"}})]
        return find_format("openai").say(calls)

    engine = ScriptedEngine([twice(10), twice(100), find_format("openai").conclude("done")])
    assert await in_format("openai", [good]).run("?", engine=engine) == "done"
    assert '"tool_call_id":"b","content":"40"' in engine.prompts[1]
    assert '"tool_call_id":"b","content":"400"' in engine.prompts[2]


# ---- what the model is shown, and what is kept


@plait.tool(name="long", idempotent=True)
async def long() -> str:
    """A long text."""
    return " ".join(f"word{number}" for number in range(500))


async def test_a_long_result_is_cut_for_the_model_and_whole_in_the_journal(tmp_path: Path) -> None:
    engine = ScriptedEngine([say("hermes", ("long", {})), "done"])
    agent = plait.recipes.agent([long], format="hermes", observation=10)
    with plait.Journal(tmp_path / "runs.db") as journal:
        assert await agent.run("?", engine=engine, journal=journal) == "done"
        run = journal.runs()[0].run
        kept = [record.value for record in journal.records(run) if record.kind == "call"]
        assert "word9 … [" in engine.prompts[1]
        assert "characters left out]" in engine.prompts[1]
        assert "word10" not in engine.prompts[1]
        assert any("word499" in value for value in kept)
        assert await agent.run(engine=None, journal=journal.replay(run)) == "done"


async def test_the_format_is_found_by_the_engine_and_kept_in_the_journal(tmp_path: Path) -> None:
    class Templated(ScriptedEngine):
        chat_template = "{% if tools %}<tool_call>{% endif %}"

    engine = Templated([say("hermes", ("good", {"number": 2})), "4"])
    agent = plait.recipes.agent([good])
    with plait.Journal(tmp_path / "runs.db") as journal:
        assert await agent.run("?", engine=engine, journal=journal) == "4"
        assert await agent.run(engine=None, journal=journal.replay(journal.runs()[0].run)) == "4"


@pytest.mark.parametrize(("grammars", "name"), [(ALL.grammars, "openai"), (frozenset[str](), "react")])
async def test_an_engine_that_tells_nothing_gets_what_every_model_can(grammars: frozenset[str], name: str) -> None:
    engine = ScriptedEngine(turns(name, TASKS[0][1], "34"), capabilities=replace(ALL, grammars=grammars))
    assert await plait.recipes.agent([plait.tools.calculator]).run("?", engine=engine) == "34"


async def test_the_embedded_model_is_recognised_and_answers() -> None:
    tools = [plait.tools.facts(), plait.tools.calculator]
    assert await plait.run("agent", "What is the capital of Peru?", tools=tools) == "Lima"


# ---- turns that break the format, and those that are too many


async def test_a_broken_turn_is_written_again_and_its_calls_are_not_made_twice() -> None:
    made: list[int] = []

    @plait.tool(name="pay")
    async def pay(amount: int) -> str:
        """Pays."""
        made.append(amount)
        return "paid"

    whole = say("dta", ("pay", {"amount": 3}), ("pay", {"amount": 4}))
    broken = whole.replace(',{"name":"pay","arguments":{"amount":4}}', ",nonsense")
    engine = ScriptedEngine([broken, whole, find_format("dta").conclude("done")])
    value, events = await events_of(in_format("dta", [pay]), "?", engine=engine)
    assert (value, made) == ("done", [3, 4])
    assert engine.asked[1].sampling.temperature > 0
    assert notes(events).count("mended") == 1


async def test_a_broken_turn_in_a_journaled_run_leaves_nobody_waiting(tmp_path: Path) -> None:
    """The call with effects was never made, and what waited for it gives up with it."""
    made: list[int] = []

    @plait.tool(name="pay")
    async def pay(amount: int) -> int:
        """Has effects."""
        made.append(amount)
        return amount

    calls = [ToolCall("a", "pay", {"amount": 3}), ToolCall("b", "good", {"number": {"$result": "a"}})]
    whole = find_format("openai").say(calls)
    engine = ScriptedEngine([whole + "}", whole, find_format("openai").conclude("done")])
    with anyio.fail_after(60):
        graph = in_format("openai", [pay, good])
        assert await graph.run("?", engine=engine, journal=tmp_path / "runs.db") == "done"
    assert made == [3]
    assert '"tool_call_id":"b","content":"6"' in engine.prompts[2]


async def test_a_turn_that_stays_broken_or_is_cut_is_a_named_error() -> None:
    for replies, tokens, what in (([" ", ""], 99, "neither a call nor an answer"), (["a b c d"], 3, "max_tokens=3")):
        agent = plait.recipes.agent([good], format="hermes", max_tokens=tokens)
        with pytest.raises(NodeError, match=what) as failed:
            await agent.run("?", engine=ScriptedEngine(replies))
        assert isinstance(failed.value.__cause__, FormatError)


@pytest.mark.parametrize("name", ["hermes", "llama", "openai", "react", "hybrid_search"])
async def test_an_answer_is_asked_for_when_the_turns_are_over(name: str, tools: list[Tool]) -> None:
    call = say(name, ("lookup", {"query": "people of Peru"}))
    last = {"react": "34", "hybrid_search": "34}"}.get(name, find_format(name).conclude("34"))
    engine = ScriptedEngine([call, call, last])
    agent = plait.recipes.agent(tools, format=name, max_turns=2)  # type: ignore[arg-type]
    assert await agent.run("?", engine=engine) == "34"
    if name == "react":  # whatever stands behind "Final Answer:" is one
        return
    with pytest.raises(NodeError, match="no answer within 2 turns"):
        await agent.run("?", engine=ScriptedEngine([call, call, call]))


# ---- journals


async def test_what_has_effects_waits_in_a_journaled_run_until_its_turn_is_recorded(tmp_path: Path) -> None:
    writing: dict[str, int] = {}

    @plait.tool(name="read", idempotent=True)
    async def read() -> str:
        """Harmless."""
        writing["read"] = engine.active
        return "1"

    @plait.tool(name="pay")
    async def pay() -> str:
        """Has effects."""
        writing["pay"] = engine.active
        return "2"

    text = say("hermes", ("pay", {}), ("read", {}), ("pay", {}))
    engine = ScriptedEngine([Reply(text, latency=0.2), "done"])
    graph = in_format("hermes", [read, pay])
    assert await graph.run("?", engine=engine, journal=tmp_path / "runs.db") == "done"
    assert writing == {"read": 1, "pay": 0}
    assert [match[1] for match in re.finditer(r'"content":"(.)"', engine.prompts[1])] == ["2", "1", "2"]


async def test_a_turn_that_was_cut_off_may_be_another_when_the_run_goes_on(tmp_path: Path) -> None:
    """A model that doesn't say the same again, killed in the middle of a turn of which a call had been made."""
    asked: list[int] = []

    @plait.tool(name="look", idempotent=True)
    async def look(number: int) -> int:
        """Looks."""
        asked.append(number)
        return number

    def looks(*numbers: int) -> str:
        return say("hermes", *(("look", {"number": number}) for number in numbers))

    graph = in_format("hermes", [look])
    cut = ScriptedEngine([Reply(looks(1) + " and" * 99, error=EngineError("the power fails"))])
    with plait.Journal(tmp_path / "runs.db") as journal:
        with pytest.raises(NodeError, match="the power fails"):
            await graph.run("?", engine=cut, journal=journal)
        again = ScriptedEngine([looks(3, 2), "done"])
        assert await graph.run(engine=again, journal=journal.resume(journal.runs()[0].run)) == "done"
        assert asked == [1, 3, 2]
        kept = journal.replay(journal.runs()[0].run)
        assert await graph.run(engine=None, journal=kept) == "done"
    assert asked == [1, 3, 2]


# ---- people


@plait.tool(name="send")
async def send(to: str) -> str:
    """Send a letter."""
    return f"sent to {to}"


LETTERS = [say("hermes", ("send", {"to": "Ann"}), ("send", {"to": "Bob"})), "done"]


async def test_a_person_approves_each_call_of_a_tool_and_a_refusal_is_a_result() -> None:
    engine, asked = ScriptedEngine(LETTERS), []

    def answer(question: plait.Question) -> bool:
        asked.append(question.text)
        return "Ann" in question.text

    options: dict[str, Any] = {"tools": [send, good], "approve": ["send"], "engine": engine}
    assert await plait.run(plait.recipes.agent, "?", answer=answer, **_hermes(options)) == "done"
    assert sorted(asked) == ["May send(to='Ann') be called?", "May send(to='Bob') be called?"]
    assert "sent to Ann" in engine.prompts[1]
    assert "a person refused this call" in engine.prompts[1]


def _hermes(options: dict[str, Any]) -> dict[str, Any]:
    """An engine that the agent takes for one of Hermes' format."""
    options["engine"].chat_template = "<tool_call>"
    return options


async def test_a_run_that_nobody_can_answer_goes_on_from_the_journal_when_somebody_can(tmp_path: Path) -> None:
    def nobody(question: plait.Question) -> bool:
        if "Ann" in question.text:
            return True
        raise RunError("nobody is here")

    sent: list[str] = []

    @plait.tool(name="send")
    async def send(to: str) -> str:
        """Send a letter."""
        sent.append(to)
        return f"sent to {to}"

    agent = plait.recipes.agent([replace(send, approve=True)], format="hermes")
    with plait.Journal(tmp_path / "runs.db") as journal, pytest.raises(NodeError, match="nobody is here"):
        await agent.run("?", engine=ScriptedEngine(LETTERS), answer=nobody, journal=journal)
    with plait.Journal(tmp_path / "runs.db") as journal:  # days later
        asked: list[str] = []
        again = journal.resume(journal.runs()[0].run)
        engine = ScriptedEngine(LETTERS)
        value = await agent.run(
            engine=engine, answer=lambda question: bool(asked.append(question.text)) or True, journal=again
        )
    assert value == "done"
    assert "May send(to='Bob') be called?" in asked
    assert sorted(sent) == ["Ann", "Bob"]


async def test_a_model_can_ask_a_person(tmp_path: Path) -> None:
    engine = ScriptedEngine([say("hermes", ("ask_person", {"question": "Which year?"})), "1999"])
    agent = plait.recipes.agent([plait.tools.ask_person], format="hermes")
    with plait.Journal(tmp_path / "runs.db") as journal:
        assert await agent.run("?", engine=engine, answer=lambda question: "1999", journal=journal) == "1999"
        assert '"content":"1999"' in engine.prompts[1]
        assert await agent.run(engine=None, journal=journal.replay(journal.runs()[0].run)) == "1999"
    with pytest.raises(NodeError, match="nobody to ask"):
        await agent.run("?", engine=ScriptedEngine([say("hermes", ("ask_person", {"question": "?"}))]))


# ---- plait.run


async def test_an_agent_is_a_name_a_recipe_or_a_graph() -> None:
    for agent in ("dta", plait.recipes.dta):
        engine = ScriptedEngine(turns("dta", [[("good", {"number": 4})]], "8"))
        assert await plait.run(agent, "?", tools=[good], engine=engine) == "8"
    engine = ScriptedEngine(turns("dta", [[("good", {"number": 4})]], "8"))
    assert await plait.run(plait.recipes.dta([good]), "?", engine=engine) == "8"


async def test_what_an_agent_cannot_take_is_a_named_error() -> None:
    with pytest.raises(InputError, match="has its tools already"):
        await plait.run(plait.recipes.dta(), "?", tools=[good])
    with pytest.raises(InputError, match="'apr' takes no tools"):
        await plait.run("apr", "?", tools=[good])
    with pytest.raises(UnknownNameError, match="did you mean 'good'"):
        await plait.run("agent", "?", tools=[good], approve=["god"])
    with pytest.raises(UnknownNameError, match="unknown format 'hermess'"):
        plait.recipes.agent([good], format="hermess")  # type: ignore[arg-type]

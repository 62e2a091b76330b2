"""Nodes that hold graphs: values and contexts flow through them, and their paths are steady."""

from __future__ import annotations

import enum
from typing import Any, Literal

import anyio
import anyio.lowlevel
import pytest
from pydantic import BaseModel

import plait
from plait.engines.scripted import Reply, ScriptedEngine
from plait.errors import GraphError, InputError, NodeError
from plait.orchestrator import Builder, Event, NodeCancelled, NodeNote, NodeStarted, Question

pytestmark = pytest.mark.anyio
NEVER_ENDS = 3600.0


class Draft(BaseModel):
    text: str
    good: bool


class Tone(enum.Enum):
    KIND = "kind"
    RUDE = "rude"


def paths(events: list[Event]) -> list[str]:
    return [event.path for event in events if isinstance(event, NodeStarted)]


def grow(text: str) -> str:
    return text + "!"


@plait.graph
def twice(g: Builder, text: str) -> str:
    return g.function(grow, text=g.function(grow, text=text, name="first"), name="second")


# ---- subgraph


async def test_a_graph_is_a_node_whose_nodes_stand_under_its_path() -> None:
    @plait.graph
    def build(g: Builder, text: str) -> str:
        return g.subgraph(twice, g.subgraph(twice, text=text), name="outer")

    events: list[Event] = []
    assert await build.run("a", listeners=[events.append]) == "a!!!!"
    names = ["twice", "twice/first", "twice/second", "outer", "outer/first", "outer/second"]
    assert paths(events) == names


async def test_defaults_of_inputs_hold_inside() -> None:
    @plait.graph
    def inner(g: Builder, text: str, times: int = 2) -> str:
        return g.function(lambda text, times: text * times, text=text, times=times)

    graph = plait.graph(lambda g, text: g.subgraph(inner, text))
    assert await graph.run("ab") == "abab"


async def test_a_context_flows_into_a_graph_and_out_of_it() -> None:
    @plait.graph
    def improve(g: Builder, draft: str) -> str:
        return g.think("Better.", after=draft)

    @plait.graph
    def build(g: Builder, topic: str) -> str:
        draft = g.think("Draft {topic}.", topic=topic)
        return g.think("Last.", after=g.subgraph(improve, draft))

    engine = ScriptedEngine({"Draft": "D", "Better": "B", "Last": "L"})
    assert await build.run("x", engine=engine) == "L"
    turns = "<|user|>Draft x.\n<|assistant|>D<|user|>Better.\n<|assistant|>B<|user|>Last.\n<|assistant|>"
    assert engine.prompts[-1] == turns
    assert engine.held == 0


async def test_a_graph_may_give_back_the_context_that_it_was_given() -> None:
    @plait.graph
    def keep(g: Builder, draft: str) -> str:
        return draft

    @plait.graph
    def build(g: Builder, topic: str) -> str:
        draft = g.think("Draft {topic}.", topic=topic)
        return g.think("Go on.", after=g.subgraph(keep, draft))

    engine = ScriptedEngine({"Draft": "D", "Go on": "G"})
    assert await build.run("x", engine=engine) == "G"
    assert engine.prompts[-1].startswith("<|user|>Draft x.\n<|assistant|>D<|user|>")
    assert engine.held == 0


async def test_a_failure_inside_names_the_inner_node() -> None:
    def broken(text: str) -> str:
        raise ValueError("no")

    inner = plait.graph(lambda g, text: g.function(broken, text=text, name="step"))
    graph = plait.graph(lambda g, text: g.subgraph(inner, text, name="part"))
    with pytest.raises(NodeError, match="node 'part/step' failed: no") as caught:
        await graph.run("x")
    assert caught.value.path == "part/step"


# ---- branch


@pytest.mark.parametrize(("tone", "said"), [("kind", "Thanks a"), ("rude", "Calm down a")])
async def test_only_the_arm_that_is_taken_runs(tone: str, said: str) -> None:
    @plait.graph
    def build(g: Builder, text: str) -> str:
        kind = g.think("Tone of {text}?", text=text, returns=Literal["kind", "rude"])
        return g.branch(
            kind,
            {
                "kind": lambda g, text: g.function(lambda text: f"Thanks {text}", text=text),
                "rude": lambda g, text: g.think("Calm {text}.", text=text),
            },
            text=text,
        )

    engine = ScriptedEngine({"Tone": tone, "Calm": "Calm down a"})
    assert await build.run("a", engine=engine) == said
    assert engine.calls == (1 if tone == "kind" else 2)


async def test_arms_are_told_apart_by_type_and_have_paths_of_their_own() -> None:
    @plait.graph
    def build(g: Builder, tone: Tone, text: str) -> str:
        arms: dict[Any, Any] = {Tone.KIND: twice, Tone.RUDE: lambda g, text: text}
        return g.branch(tone, arms, text=text, name="answer")

    events: list[Event] = []
    assert await build.run(Tone.KIND, "a", listeners=[events.append]) == "a!!"
    assert await build.run(Tone.RUDE, "a") == "a"
    names = ["answer", "answer/1-KIND", "answer/1-KIND/first", "answer/1-KIND/second"]
    assert paths(events) == names


async def test_otherwise_takes_the_rest_and_the_type_is_the_union() -> None:
    @plait.graph
    def build(g: Builder, number: int) -> int | str:
        return g.branch(number, {0: lambda g: g.constant("none")}, otherwise=lambda g, number: number, number=number)

    assert await build.run(0) == "none"
    assert await build.run(5) == 5


async def test_contexts_flow_through_the_arm_that_is_taken() -> None:
    @plait.graph
    def build(g: Builder, topic: str) -> str:
        draft = g.think("Draft {topic}.", topic=topic)
        good = g.think("Good? {draft}", draft=draft, returns=bool)
        arms: dict[Any, Any] = {True: lambda g, draft: draft, False: lambda g, draft: g.think("Better.", after=draft)}
        return g.think("Last.", after=g.branch(good, arms, draft=draft))

    for good, middle in (("true", ""), ("false", "<|user|>Better.\n<|assistant|>B")):
        engine = ScriptedEngine({"Draft": "D", "Good?": good, "Better": "B", "Last": "L"})
        assert await build.run("x", engine=engine) == "L"
        assert engine.prompts[-1] == f"<|user|>Draft x.\n<|assistant|>D{middle}<|user|>Last.\n<|assistant|>"
        assert engine.held == 0


# ---- loop


async def test_a_loop_carries_a_value_until_it_is_good() -> None:
    def longer(draft: Draft) -> Draft:
        return Draft(text=draft.text + "x", good=len(draft.text) >= 2)

    @plait.graph
    def build(g: Builder, start: Draft) -> str:
        done = g.loop(
            lambda g, draft: g.function(longer, draft=draft), start, until=lambda draft: draft.good, at_most=9
        )
        return done.text

    events: list[Event] = []
    assert await build.run(Draft(text="", good=False), listeners=[events.append]) == "xxx"
    rounds = [path for path in paths(events) if path.endswith("longer")]
    assert rounds == [f"loop/{n}-round-{n}/longer" for n in (1, 2, 3)]


async def test_a_loop_ends_at_its_bound_and_says_so() -> None:
    graph = plait.graph(lambda g, text: g.loop(twice, text, until=lambda text: False, at_most=3, name="more"))
    events: list[Event] = []
    assert await graph.run("a", listeners=[events.append]) == "a!!!!!!"
    notes = [event for event in events if isinstance(event, NodeNote)]
    assert [(note.path, note.name, note.data) for note in notes] == [("more", "bound", {"at_most": 3})]


async def test_a_loop_carries_a_context_from_round_to_round() -> None:
    @plait.graph
    def build(g: Builder, topic: str) -> str:
        draft = g.think("Draft {topic}.", topic=topic)
        best = g.loop(lambda g, draft: g.think("Better.", after=draft), draft, at_most=3)
        return g.think("Last.", after=best)

    held: list[int] = []
    engine = ScriptedEngine(lambda prompt, index: (held.append(engine.held), f"r{index}")[1])
    assert await build.run("x", engine=engine) == "r4"
    assert engine.prompts[-1].count("Better.") == 3
    assert engine.prompts[-1].endswith("r3<|user|>Last.\n<|assistant|>")
    assert max(held) <= 3
    assert engine.held == 0


@plait.tool
async def long(text: str) -> bool:
    """Whether it is long."""
    return len(text) > 4


@plait.graph
def long_graph(g: Builder, text: str) -> bool:
    return g.call(long, text=text)


@pytest.mark.parametrize("until", [long, long_graph], ids=["tool", "graph"])
async def test_until_may_be_a_tool_or_a_graph(until: Any) -> None:
    graph = plait.graph(lambda g, text: g.loop(twice, text, until=until, at_most=9))
    assert await graph.run("a") == "a!!!!"


# ---- select


async def test_the_best_sample_is_continued() -> None:
    def score(draft: str) -> int:
        return len(draft)

    @plait.graph
    def build(g: Builder, topic: str) -> str:
        drafts = g.think("Draft {topic}.", topic=topic, samples=3, temperature=0.8)
        return g.think("Last.", after=g.select(drafts, by=score))

    replies = iter(["a", "ccc", "bb", "end"])
    engine = ScriptedEngine(lambda prompt, index: next(replies))
    assert await build.run("x", engine=engine) == "end"
    assert engine.prompts[-1] == "<|user|>Draft x.\n<|assistant|>ccc<|user|>Last.\n<|assistant|>"
    assert engine.held == 0
    assert engine.asked[0].sampling.temperature == 0.8


async def test_a_join_on_select_cancels_the_slow_samples() -> None:
    @plait.graph
    def build(g: Builder, topic: str) -> str:
        drafts = g.think("Draft {topic}.", topic=topic, samples=4)
        best = g.select(drafts, by=len, join=plait.k_of(2))
        return g.think("Last.", after=best)

    def reply(prompt: str, index: int) -> Reply:
        return Reply("x" * (index + 1), latency=NEVER_ENDS if index in (0, 3) else 0.0)

    engine = ScriptedEngine(reply)
    events: list[Event] = []
    with anyio.fail_after(5):
        assert await build.run("x", engine=engine, listeners=[events.append]) == "xxxxx"
    assert "<|assistant|>xxx<|user|>Last." in engine.prompts[-1]
    assert sum(isinstance(event, NodeCancelled) for event in events) == 2
    assert (engine.active, engine.held) == (0, 0)


async def test_a_graph_may_judge() -> None:
    @plait.graph
    def judge(g: Builder, answer: str, topic: str) -> float:
        return g.think("Grade {answer} on {topic}.", answer=answer, topic=topic, returns=float)

    @plait.graph
    def build(g: Builder, topic: str) -> str:
        return g.select(g.constant(["a", "b"]), by=judge, topic=topic)

    engine = ScriptedEngine({"Grade a": "0.25", "Grade b": "0.75"})
    events: list[Event] = []
    assert await build.run("x", engine=engine, listeners=[events.append]) == "b"
    assert "select/2-judge/think" in paths(events)


async def test_selecting_from_nothing_is_an_error() -> None:
    graph = plait.graph(lambda g: g.select(g.constant(list[str]()), by=len))
    with pytest.raises(NodeError, match="node 'select' failed: there are no candidates"):
        await graph.run()


# ---- team and ask


async def test_a_team_is_one_node_with_a_thought_for_each_member() -> None:
    @plait.graph
    def build(g: Builder, task: str) -> str:
        plan = g.think("Plan {task}.", task=task)
        both = g.team({"Ann": "You are Ann.", "Bob": "You do {task}."}, layout="combined", task=task, after=plan)
        return g.think("Last.", after=g.select(both, by=len))

    engine = ScriptedEngine({"Plan": "P", "Ann": "one", "You do": "three", "Last": "L"})
    events: list[Event] = []
    assert await build.run("x", engine=engine, listeners=[events.append]) == "L"
    assert build["team"].needs == ("team:combined",)
    assert {"team", "team/1-team", "team/1-team/1-Ann", "team/1-team/2-Bob"} <= set(paths(events))
    assert engine.prompts[-1].startswith("<|user|>Plan x.\n<|assistant|>P<|user|>You do x.\n<|assistant|>")
    assert engine.held == 0


async def test_a_person_is_asked() -> None:
    asked: list[Question] = []

    def answer(question: Question) -> str:
        asked.append(question)
        return "yes"

    @plait.graph
    def build(g: Builder, x: str) -> bool:
        return g.ask("Approve {x}?", x=x, returns=bool)

    assert await build.run("a", answer=answer) is True
    assert [(one.path, one.text, one.type) for one in asked] == [("ask", "Approve a?", bool)]

    async def slow(question: Question) -> bool:
        await anyio.lowlevel.checkpoint()
        return False

    assert await build.run("a", answer=slow) is False
    with pytest.raises(NodeError, match=r"the answer 'perhaps' to 'Approve a\?' is no bool") as caught:
        await build.run("a", answer=lambda question: "perhaps")
    assert isinstance(caught.value.__cause__, InputError)
    with pytest.raises(GraphError, match=r"ask node 'ask' \(.*\) asks a person, but the run has nobody to ask"):
        await build.run("a")

"""Graphs as JSON: read back without loss, refused with the place where they are wrong, never an import unasked."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

import plait
from plait.engines import Sampling
from plait.engines.base import Teamwork
from plait.engines.scripted import ScriptedEngine
from plait.errors import GraphError, TransientEngineError
from plait.orchestrator import Builder, Graph, Scope, compile_graph
from plait.tools import Retry


class Verdict(BaseModel):
    larger: str
    difference: int


@plait.tool
async def population(country: str, year: int = 2024) -> int:
    """Number of people."""
    return len(country) + year


def shout(text: str) -> str:
    return text.upper()


def score(text: str) -> float:
    return float(len(text))


def long(text: str) -> bool:
    return len(text) > 3


async def drive(scope: Scope, question: str) -> str:
    return question


def pick(rows: list[list[str]]) -> list[str]:
    return rows[0]


REGISTRY = {
    "pick": pick,
    "population": population,
    "shout": shout,
    "score": score,
    "long": long,
    "drive": drive,
    "Verdict": Verdict,
}


@plait.graph
def small(g: Builder, text: str, times: int = 3) -> str:
    return g.function(shout, text=g.think("{text} {times}", text=text, times=times))


@plait.graph
def everything(g: Builder, texts: list[str], question: str, year: int | None = 2000) -> list[str]:
    people = g.map(population, texts, cap=2, join=plait.settled, name="people")
    verdict = g.think("Compare {people} {year}.", people=people, year=year, returns=Verdict, timeout=9.0)
    retry = Retry(on=(TransientEngineError, ConnectionError), attempts=5)
    drafts = g.think(
        "Draft {larger} {label}.",
        larger=verdict.larger,
        label=("a", 1),
        samples=4,
        temperature=0.5,
        sampling=Sampling(top_k=3, logit_bias={5: 1.0}),
        stop=["\n", 7],
        retry=retry,
        name="drafts",
    )
    best = g.select(drafts, by=score, join=plait.k_of(2))
    tone = g.think("Tone?", after=best, returns=Literal["kind", "rude"], system="Be brief.")
    answer = g.branch(
        tone, {"kind": small, "rude": lambda g, text: g.call(population, country=text)}, text=best, name="answer"
    )
    fixed = g.branch(question, {"a": small}, otherwise=lambda g, text: text, text=question)
    looped = g.loop(lambda g, text: g.think("Better.", after=text), best, at_most=3, until=long)
    both = g.team({"Ann": "One {q}.", "Bob": "Two."}, layout=Teamwork(layout="combined", step_end="\n"), q=question)
    first = g.gather([g.function(shout, text=fixed), g.drive(drive, question=question)], join=plait.any_of)
    said = g.ask("Well, {first}?", first=first)
    whole = g.subgraph(small, said, times=g.constant(4))
    shown = g.think("{answer} {both} {n}", answer=answer, both=both, n=g.call(population, country="Peru"))
    mapped = g.map(small, [whole, looped], times=2)
    return g.function(pick, rows=[mapped, [shown, "x"]])


def test_a_graph_of_every_kind_is_read_back_equal() -> None:
    text = everything.to_json(REGISTRY)
    again = Graph.from_json(text, registry=REGISTRY)
    assert again.to_json(REGISTRY) == text
    assert {node.kind for node in again.nodes} == {
        *("input", "constant", "think", "call", "map", "function", "drive"),
        *("subgraph", "branch", "loop", "select", "gather", "team", "ask"),
    }
    assert again["drafts"].retry == everything["drafts"].retry
    assert again["drafts"].arguments == everything["drafts"].arguments
    assert [str(node.where) for node in again.nodes] == [str(node.where) for node in everything.nodes]
    assert (
        compile_graph(again, ScriptedEngine([])).describe() == compile_graph(everything, ScriptedEngine([])).describe()
    )


def test_a_graph_that_was_read_runs() -> None:
    again = Graph.from_json(small.to_json(REGISTRY), registry=REGISTRY)
    engine = ScriptedEngine(["hello"])
    assert again.run_sync("a", engine=engine) == "HELLO"
    assert engine.prompts == ["<|user|>a 3\n<|assistant|>"]


def test_nothing_is_imported_but_from_modules_that_were_named() -> None:
    graph = plait.graph(lambda g, x: g.function(json.dumps, obj=x), name="dumps")  # type: ignore[call-overload]
    text = graph.to_json()
    with pytest.raises(GraphError, match=r"'json:dumps' is neither in the registry nor of a module that may be"):
        Graph.from_json(text)
    assert Graph.from_json(text, modules=["json"]).run_sync([1]) == "[1]"
    evil = text.replace("json:dumps", "os:system")
    with pytest.raises(GraphError, match=r"nodes\[1\]: 'os:system' is neither in the registry"):
        Graph.from_json(evil, modules=["json"])


def test_what_has_no_json_is_refused_by_name() -> None:
    local = plait.graph(lambda g, x: g.function(lambda x: x, x=x), name="local")
    with pytest.raises(GraphError, match=r"graph 'local' has no JSON that can be read back: .*can't be imported"):
        local.to_json()
    odd = plait.graph(lambda g: g.constant(object()), name="odd")
    with pytest.raises(GraphError, match="has no JSON form and can't be read back"):
        odd.to_json()


WRONG: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda data: data.update(version=1), "at graph: version 1 can't be read; this plait reads version 2"),
    (lambda data: data.pop("name"), "at graph: 'name' is missing"),
    (lambda data: data.update(extra=1), "at graph: 'extra' is not known here"),
    (lambda data: data["nodes"][2].update(kind="dream"), "at graph.nodes[2]: there is no node kind 'dream'"),
    (lambda data: data["nodes"][2].update(max_tokens="many"), "at graph.nodes[2]: 'max_tokens' is 'many'; it must be"),
    (lambda data: data["nodes"][2].update(samples=0), "at graph.nodes[2]: think node 'think' ("),
    (lambda data: data["nodes"][2].update(template="{text"), "can't be read: expected '}'"),
    (lambda data: data["nodes"][2].update(returns="Verdict("), "the type 'Verdict(' can't be read"),
    (lambda data: data["nodes"][2].update(returns="Lost"), "type 'Lost' is neither built in, nor in the registry"),
    (lambda data: data["nodes"][2].update(after="ghost"), "comes after 'ghost', which is no node"),
    (lambda data: data["nodes"][2].update(join="most"), "there is no join 'most'; known: all_of, any_of, settled"),
    (lambda data: data["nodes"][2].update(join={"k_of": 3}), "waits for k_of(3) of 1, which can never be"),
    (lambda data: data["nodes"][2]["sampling"].update(heat=1), "graph.nodes[2].sampling: there is no 'heat'"),
    (lambda data: data["nodes"][2]["arguments"]["text"].update(node="x"), "'x' is no node that stands before"),
    (lambda data: data["nodes"][2]["arguments"]["text"].update(path=["_x"]), "'_x' can't be the name of a field"),
    (lambda data: data["nodes"][2]["arguments"].update(name={"value": 1}), "'name' can't be the name of an argument"),
    (lambda data: data["nodes"][3].update(function="shout2"), "at graph.nodes[3]: 'shout2' is neither in the registry"),
    (lambda data: data["nodes"][3].update(function="Verdict", type="Verdict"), "function node 'shout'"),
    (lambda data: data["nodes"][3].update(type="int"), "it was written with type int, but now gives str"),
    (lambda data: data["nodes"][3].update(where="here"), "'where' must be a file and a line"),
    (lambda data: data.update(result={"node": "times"}), "gives int, but graph 'small'"),
    (lambda data: data.update(nodes={}), "at graph: 'nodes' is {}; it must be of type list"),
    (lambda data: data["nodes"].append(data["nodes"][3]), "two nodes are called 'shout'"),
]


@pytest.mark.parametrize(("spoil", "message"), WRONG, ids=[message[:40] for _, message in WRONG])
def test_wrong_json_is_refused_with_the_place(spoil: Callable[[dict[str, Any]], Any], message: str) -> None:
    data = small.as_dict(REGISTRY)
    spoil(data)
    with pytest.raises(GraphError) as caught:
        Graph.from_json(json.dumps(data), registry=REGISTRY)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["", "[", "3", "NaN", '{"version": NaN}', "[" * 100_000, '{"version":' * 5000])
def test_text_that_is_no_graph_is_refused(text: str) -> None:
    with pytest.raises(GraphError, match="graph's JSON"):
        Graph.from_json(text)


# ---- random JSON

ODD: list[Any] = [None, True, -1, 0, 3, 1e300, "", "x", "text", "Any", "list[int]", [], {}, [[]], {"value": 1}, "a/b"]


def spoil_at_random(data: Any, chance: random.Random) -> Any:
    """A copy with a few values, keys or items changed."""
    data = copy.deepcopy(data)
    for _ in range(chance.randint(1, 3)):
        holders = [data]
        for holder in holders:
            inside = holder.values() if isinstance(holder, dict) else holder
            holders += [value for value in inside if isinstance(value, dict | list) and value]
        holder = chance.choice(holders)
        key = chance.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        match chance.randint(0, 4):
            case 0:
                del holder[key]
            case 1:
                holder[key] = copy.deepcopy(chance.choice(ODD))
            case 2:
                other = chance.choice(holders)
                values = list(other.values()) if isinstance(other, dict) else list(other)
                holder[key] = copy.deepcopy(chance.choice(values)) if values else None
            case 3 if isinstance(holder, dict):
                holder[chance.choice(["name", "after", "join", "needs", "x"])] = copy.deepcopy(chance.choice(ODD))
            case _ if isinstance(holder, list):
                holder.append(copy.deepcopy(holder[key]))
    return data


def refused_or_read(text: str) -> bool:
    """Whether a text is a graph; it must be one or be refused by name."""
    try:
        graph = Graph.from_json(text, registry=REGISTRY)
        compile_graph(graph, ScriptedEngine([])).describe()
        graph.mermaid()
        graph.dot()
    except GraphError:
        return False
    return True


def fuzz(seeds: range) -> int:
    sources = [graph.as_dict(REGISTRY) for graph in (everything, small)]
    read = 0
    for seed in seeds:
        chance = random.Random(seed)
        read += refused_or_read(json.dumps(spoil_at_random(chance.choice(sources), chance)))
    return read


def test_spoiled_json_is_read_or_refused_by_name() -> None:
    assert 0 < fuzz(range(400)) < 400


@pytest.mark.long
def test_ten_thousand_spoiled_graphs_are_read_or_refused_by_name() -> None:
    assert 0 < fuzz(range(400, 10_400)) < 10_000


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(list(small.as_dict())), inner),
    max_leaves=8,
)


@given(values)
@settings(max_examples=100, deadline=None)
def test_random_json_is_refused_by_name(value: Any) -> None:
    assert not refused_or_read(json.dumps(value))

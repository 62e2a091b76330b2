"""Random conversations: contexts flow through graphs in graphs, and none is kept too long or given up too early."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import plait
from plait.engines.scripted import ScriptedEngine
from plait.orchestrator import Builder, Graph

KINDS = ("think", "inside", "kept", "loop", "branch", "best", "first", "gathered")
MORE, END = "<|user|>more\n<|assistant|>", "<|user|>end\n<|assistant|>"


@dataclass(frozen=True)
class Turn:
    """One node that goes on from the context of an earlier one (-1: of the opening)."""

    kind: str
    after: int


@st.composite
def talks(draw: st.DrawFn) -> list[Turn]:
    count = draw(st.integers(1, 8))
    return [Turn(draw(st.sampled_from(KINDS)), draw(st.integers(-1, index - 1))) for index in range(count)]


def said(prompt: str) -> str:
    """What the engine says: how many turns its conversation has."""
    return f"{prompt.count('<|user|>')};"


def is_odd(text: str) -> bool:
    return int(text.rstrip(";")) % 2 == 1


@plait.graph
def one_more(g: Builder, draft: str) -> str:
    return g.think("more", after=draft)


@plait.graph
def unchanged(g: Builder, draft: str) -> str:
    return draft


def write_turn(g: Builder, kind: str, parent: Any) -> Any:
    match kind:
        case "inside":
            return g.subgraph(one_more, g.subgraph(unchanged, parent))
        case "kept":
            return g.subgraph(unchanged, parent)
        case "loop":
            return g.loop(one_more, parent, at_most=2)
        case "branch":
            return g.branch(g.function(is_odd, text=parent), {True: one_more, False: unchanged}, draft=parent)
        case "best":
            return g.select(g.think("more", after=parent, samples=3), by=len)
        case "first":
            return g.think("more", after=parent, samples=3, join=plait.any_of)
        case "gathered":
            return g.select([g.think("more", after=parent), g.subgraph(one_more, parent)], by=len)
    return g.think("more", after=parent)


def build(turns: list[Turn]) -> Graph[list[str]]:
    def write(g: Builder) -> list[str]:
        refs: dict[int, Any] = {-1: g.think("open")}
        for index, turn in enumerate(turns):
            refs[index] = write_turn(g, turn.kind, refs[turn.after])
        return [g.think("end", after=ref) for ref in refs.values()]

    return plait.graph(name="talk")(write)


def go_on(text: str) -> str:
    return text + MORE + said(text + MORE)


def direct(turns: list[Turn]) -> list[str]:
    """The prompts of the last thoughts."""
    opening = "<|user|>open\n<|assistant|>"
    texts = {-1: opening + said(opening)}
    for index, turn in enumerate(turns):
        before = texts[turn.after]
        last = before.rsplit(">", 1)[1]
        rounds = {"kept": 0, "loop": 2, "branch": int(is_odd(last))}.get(turn.kind, 1)
        for _ in range(rounds):
            before = go_on(before)
        texts[index] = before
    return [text + END for text in texts.values()]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=40, deadline=None)
@given(turns=talks())
def test_every_thought_goes_on_from_its_own_conversation(backend: str, turns: list[Turn]) -> None:
    engine = ScriptedEngine(lambda prompt, index: said(prompt))
    graph = build(turns)

    async def main() -> None:
        async with graph.stream(engine=engine) as run:
            async for _ in run:
                pass
        run.check_integrity()

    anyio.run(main, backend=backend)
    assert sorted(prompt for prompt in engine.prompts if prompt.endswith(END)) == sorted(direct(turns))
    assert (engine.active, engine.held) == (0, 0)

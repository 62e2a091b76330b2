"""The tree in the terminal, from events alone."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

import plait
from plait.engines.scripted import ScriptedEngine
from plait.errors import NodeError
from plait.orchestrator import Builder, Display, Graph, Scope


@plait.tool
async def population(country: str) -> int:
    """Number of people."""
    return {"Peru": 34}[country]


async def drive(scope: Scope, question: str) -> str:
    context = await scope.start(question)
    with scope.grow("task", "look [both] up") as task:
        await task.settle([(population, {"country": name}) for name in ("Peru", "Atlantis")])
    return (await scope.generate(context, title="answer")).text


@pytest.fixture
def graph() -> Graph[str]:
    @plait.graph
    def ask(g: Builder, question: str) -> str:
        return g.drive(drive, question=question)

    return ask


def shown(graph: Graph[str], console: Console, *, enabled: bool = True) -> Display:
    with Display(enabled=enabled, console=console) as display:
        graph.run_sync("q", engine=ScriptedEngine(["thirty four"]), listeners=[display])
    return display


def test_without_a_terminal_there_are_plain_lines(graph: Graph[str]) -> None:
    out = io.StringIO()
    shown(graph, Console(file=out, width=40))
    text = out.getvalue()
    assert text.startswith("ask on scripted\n")
    assert "      ✓ call population(country='Peru') → 34" in text
    assert "✗ call population(country='Atlantis') ✗ tool 'population' failed: KeyError: 'Atlantis'" in text
    assert "    ✓ task look [both] up" in text
    assert "  ✓ drive drive → thirty four  2 tokens" in text
    assert "2 calls" in text.splitlines()[-1]
    assert "\x1b" not in text


def test_in_a_terminal_the_tree_is_live(graph: Graph[str]) -> None:
    out = io.StringIO()
    display = shown(graph, Console(file=out, width=100, force_terminal=True))
    still = Console(file=io.StringIO(), width=100, record=True)
    still.print(display.tree())
    tree = still.export_text()
    assert "└── ✓ drive drive → thirty four" in tree
    assert "    ├── ✓ task look [both] up" in tree
    assert "    │   ├── ✓ call population(country='Peru') → 34" in tree
    assert "    └── ✓ think answer → thirty four  2 tokens" in tree
    assert "look [both] up" in out.getvalue()


def test_quiet_shows_nothing(graph: Graph[str]) -> None:
    out = io.StringIO()
    shown(graph, Console(file=out), enabled=False)
    assert out.getvalue() == ""


def test_a_failed_run_leaves_its_tree(graph: Graph[str]) -> None:
    out = io.StringIO()
    with Display(console=Console(file=out, width=200)) as display, pytest.raises(NodeError):
        graph.run_sync("q", engine=ScriptedEngine([]), listeners=[display])
    assert "✗ think answer ✗ the script has no more than 0 replies" in out.getvalue()

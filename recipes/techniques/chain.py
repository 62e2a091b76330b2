"""Chains: stages one after the other as a graph, and stages by name, as search spaces and files give them."""

from __future__ import annotations

from collections.abc import Iterable

from ...engines import Message
from ...orchestrator import Builder, Graph, graph
from ...orchestrator.graph import Foreseen
from .expected import Expected
from .result import Result
from .stage import Stage


def chain(stages: Iterable[Stage], *, name: str = "chain") -> Graph[Result]:
    """A graph that takes a task (and a conversation before it) through the stages; each is a node named by its kind.

    Graphs that begin alike have the same first nodes, so that runs under one `cache=` share their results.
    """
    steps = list(stages)

    @graph(name=name)
    def build(g: Builder, task: str, history: tuple[Message, ...] = ()) -> Result:
        result, expected = g.function(begin, task=task, history=history), Expected()
        for stage in steps:
            before, expected = expected, stage.foresee(expected)
            result = g.drive(stage, given=result, foreseen=foreseen(before, expected))
        return result

    return build


def answering(technique: Graph[Result]) -> Graph[str]:
    """A technique's graph that gives the answer alone, as recipes do."""

    @graph(name=technique.name)
    def build(g: Builder, task: str) -> str:
        return g.function(_answer, result=g.subgraph(technique, task=task, name="technique"), name="answer")

    return build


def begin(task: str, history: tuple[Message, ...] = ()) -> Result:
    """A task before anything was done about it."""
    return Result(task=task, history=tuple(history))


def foreseen(before: Expected, after: Expected) -> Foreseen:
    """What a stage adds to what is expected."""
    return Foreseen(
        after.calls - before.calls,
        after.usage.prompt - before.usage.prompt,
        after.usage.generated - before.usage.generated,
        after.usage.steps - before.usage.steps,
        after.usage.critical_path - before.usage.critical_path,
    )


def _answer(result: Result) -> str:
    return result.answer

"""Which technique is right most often for the same tokens? Embedded tasks, the embedded model.

A size (samples, beams, expansions …) is fitted on a few tasks of their own, so that each technique generates about
as many tokens a task as the others. Verifiers are arithmetic; techniques that need a judge are not here, because the
embedded model can't judge. A second table says how long a layer of slow models takes beside its longest call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import TypeAlias

import anyio

from plait.benchmarks.table import Cell, Table
from plait.engines import Engine, open_engine
from plait.engines.scripted import Reply, ScriptedEngine
from plait.orchestrator import Graph
from plait.recipes.archon import archon
from plait.recipes.countdown import reaches, read_task
from plait.recipes.evaluation import Dataset, Evaluation, embedded_dataset, evaluate, find_scorer
from plait.recipes.techniques import (
    AdaptiveVote,
    AStar,
    Beam,
    Certainty,
    Checked,
    Generate,
    MonteCarlo,
    Particles,
    Result,
    Stage,
    Vote,
    answer_of,
    chain,
)

PILOT = 8
"""Tasks on which sizes are fitted; they are not measured on."""
FITTED_AT = 3
LARGEST = 40
TEMPERATURES = {"countdown": 2.0, "queries": 1.5}
STOPS = {"countdown": "</ret>", "queries": "<|end_search_queries|>"}
COLUMNS = ("technique", "size", "right", "tokens", "prompt", "seconds", "critical path")
LAYER_COLUMNS = ("components", "samples", "longest call s", "layer s")
CALL_SECONDS = 0.2

Sized: TypeAlias = Callable[[int], list[Stage]]


def main(*, count: int, tokens: int, as_json: bool) -> None:
    """Print the tables."""
    tables = anyio.run(partial(measure, count=count, tokens=tokens))
    print(json.dumps([table.as_dict() for table in tables]) if as_json else "\n\n".join(t.text() for t in tables))


async def measure(*, count: int, tokens: int) -> list[Table]:
    """A table for each kind of task, and one of layers."""
    tables = []
    async with open_engine("local") as engine:
        for tasks in TEMPERATURES:
            rows = await compare(engine, tasks, count=count, tokens=tokens)
            question = f"accuracy on {count} held-out tasks with 95% interval; means a task, sizes for {tokens} tokens"
            tables.append(Table(tasks, question, COLUMNS, tuple(rows)))
    rows = [await _layer(components, samples) for components, samples in ((1, 1), (1, 8), (4, 1), (4, 8))]
    question = f"an Archon layer of models that take {CALL_SECONDS:g} s a call, scripted"
    return [*tables, Table("layers", question, LAYER_COLUMNS, tuple(rows))]


async def compare(engine: Engine, tasks: str, *, count: int, tokens: int) -> list[tuple[Cell, ...]]:
    """Every technique at the size that generates about so many tokens a task."""
    dataset = embedded_dataset(f"{tasks}:{count + PILOT}")
    pilot, held = replace(dataset, items=dataset.items[:PILOT]), replace(dataset, items=dataset.items[PILOT:])
    rows = []
    for name, sized in techniques(dataset, tasks).items():
        size = 1
        if name not in ALONE:
            tried = await _evaluate(engine, chain(sized(FITTED_AT)), pilot)
            size = max(1, min(LARGEST, round(FITTED_AT * tokens / max(1.0, tried.mean("generated")))))
        rows.append(_row(name, size, await _evaluate(engine, chain(sized(size)), held)))
    return rows


ALONE = ("greedy", "one sample")
"""What has no size."""


def techniques(dataset: Dataset, tasks: str) -> dict[str, Sized]:
    """The techniques that a task allows, each by its size."""
    temperature, stop = TEMPERATURES[tasks], [STOPS[tasks]]
    generate = Generate(prompt=dataset.instructions, stop=stop, temperature=temperature, max_tokens=256)
    vote = Vote(answer=dataset.answer)
    adaptive = AdaptiveVote(
        prompt=dataset.instructions, temperature=temperature, max_tokens=256, batch=2, answer=dataset.answer, stop=stop
    )
    found: dict[str, Sized] = {
        "greedy": lambda size: [replace(generate, temperature=0.0)],
        "one sample": lambda size: [generate],
        "self-consistency": lambda size: [replace(generate, samples=size), vote],
        "adaptive consistency": lambda size: [replace(adaptive, samples=size)],
        "hedged, voted": lambda size: [replace(generate, samples=size, greedy=True), vote],
        "best of n, certainty": lambda size: [replace(generate, samples=size), Certainty()],
    }
    return found | (_verified(dataset, generate) if tasks == "countdown" else {})


def _verified(dataset: Dataset, generate: Generate) -> dict[str, Sized]:
    """Techniques with a verifier of whole or of partial paths."""
    right, so_far = partial(path_is_right, pattern=dataset.answer), partial(path_so_far, pattern=dataset.answer)
    known = {
        "prompt": dataset.instructions,
        "temperature": generate.temperature,
        "step": ["|", *generate.stop],
        "answer": "</ret>",
        "check": so_far,
        "max_tokens": 64,
        "depth": 12,
    }
    return {
        "best of n, checked": lambda size: [replace(generate, samples=size), Checked(check=right)],
        "beam": lambda size: [Beam(beams=size, width=2, expansions=400, **known)],  # type: ignore[arg-type]
        "A*": lambda size: [AStar(width=2, expansions=2 * size, **known)],  # type: ignore[arg-type]
        "MCTS": lambda size: [MonteCarlo(width=2, expansions=2 * size, **known)],  # type: ignore[arg-type]
        "particles": lambda size: [Particles(particles=size, expansions=12 * size, **known)],  # type: ignore[arg-type]
    }


def path_is_right(task: str, text: str, *, pattern: str) -> float:
    """1 for a path that solves the task."""
    target, numbers = read_task(task)
    return float(reaches(answer_of(text, pattern), target, numbers))


def path_so_far(task: str, text: str, *, pattern: str) -> float:
    """1 or 0 for a whole path, right or wrong; for the beginning of a search, how much of its arithmetic is right."""
    if "<ret>" in text:
        return path_is_right(task, text, pattern=pattern)
    sums = re.findall(r"(\d+)([-+*/])(\d+)=(\d+)", text)
    return 0.9 * sum(_holds(*parts) for parts in sums) / len(sums) if sums else 0.5


def _holds(first: str, sign: str, second: str, result: str) -> bool:
    one, two, three = int(first), int(second), int(result)
    if sign == "/":
        return two != 0 and one == two * three
    return {"+": one + two, "-": one - two, "*": one * two}[sign] == three


async def _evaluate(engine: Engine, graph: Graph[Result], dataset: Dataset) -> Evaluation:
    return await evaluate(graph, dataset, find_scorer(dataset.scorer), engine=engine, at_once=8)


def _row(name: str, size: int, found: Evaluation) -> tuple[Cell, ...]:
    means = [found.mean(field) for field in ("generated", "prompt", "seconds", "critical_path")]
    return name, size if name not in ALONE else "", str(found.accuracy), *means


async def _layer(components: int, samples: int) -> tuple[Cell, ...]:
    """How long a layer takes, and the longest of its calls on its own."""
    entry = {"type": "generator", "model": "m", "model_type": "custom", "samples": samples}
    text = json.dumps({"name": "layer", "layers": [[entry] * components]})
    engine = ScriptedEngine(lambda prompt, number: Reply("an answer", latency=CALL_SECONDS))
    began = perf_counter()
    await (await engine.start("alone")).generate()
    longest, began = perf_counter() - began, perf_counter()
    await archon(text).run("a task", engine=engine)
    return components, samples, longest, perf_counter() - began

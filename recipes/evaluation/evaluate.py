"""Evaluation: a recipe on all items of a dataset, scored, with what each item has used."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import anyio

from ...engines import Engine, open_engine
from ...errors import InputError, NodeError, PlaitError
from ...orchestrator import Budget, Graph, Journal
from ...orchestrator.budget import UNBOUNDED
from ...orchestrator.compile import compile_graph
from ...orchestrator.inputs import check_inputs
from ...orchestrator.past import definition_of
from ...tools import render
from .items import Dataset, Item
from .results import Evaluation, Heading, ItemResult, ResultFile
from .scorers import Scorer, extract

AT_ONCE = 8
"""Items that run side by side."""

Report = Callable[[ItemResult, int, int], None]
"""Told each item's result, how many are known, and of how many."""


def _silent(result: ItemResult, known: int, all_: int) -> None:
    """Report to nobody."""


async def evaluate(
    graph: Graph[Any],
    dataset: Dataset,
    scorer: Scorer,
    *,
    engine: Engine | str,
    seed: int = 0,
    at_once: int = AT_ONCE,
    file: str | Path = "",
    journal: Journal | None = None,
    cache: str = "",
    budget: Budget | Callable[[], Budget] = UNBOUNDED,
    ids: Collection[str] = (),
    report: Report = _silent,
) -> Evaluation:
    """Run a graph on every item, or on those of some ids, and score what it answers.

    An item that fails, in the run or in the scorer, is a recorded failure with score 0. With a `file` results are kept
    as they come: the same evaluation goes on from there, and items that failed are tried again. `journal` and `cache`
    are the runs'; `budget` is each item's, or is asked for it when the item begins. Raises InputError, GraphError and
    CapabilityError before the first item.
    """
    if at_once < 1:
        raise InputError(f"at_once={at_once} items can't run side by side; use 1 or more")
    if isinstance(engine, str):
        async with open_engine(engine) as opened:
            return await evaluate(
                graph, dataset, scorer, engine=opened, seed=seed, at_once=at_once, file=file, journal=journal,
                cache=cache, budget=budget, ids=ids, report=report,
            )  # fmt: skip
    check_inputs(graph, [dataset.items[0].task])
    compile_graph(graph, engine)
    heading = Heading(
        graph.name, definition_of(graph), engine.name, seed, dataset.name, dataset.fingerprint, scorer.name,
        scorer.version,
    )  # fmt: skip
    kept = ResultFile(file, heading) if file else None
    known = {key: result for key, result in (kept.known if kept else {}).items() if not result.error}
    items = [item for item in dataset if not ids or item.id in ids]
    limit = anyio.CapacityLimiter(at_once)

    async def one(item: Item) -> None:
        async with limit:
            held = budget() if callable(budget) else budget
            result = await run_item(
                graph, dataset, item, scorer, engine=engine, seed=seed, journal=journal, cache=cache, budget=held
            )
            known[item.id] = result
            if kept is not None:
                kept.add(result)
            report(result, len(known), len(items))

    try:
        async with anyio.create_task_group() as group:
            for item in items:
                if item.id not in known:
                    group.start_soon(one, item)
    finally:
        if kept is not None:
            kept.close()
    return Evaluation(heading, tuple(known[item.id] for item in items))


async def run_item(
    graph: Graph[Any],
    dataset: Dataset,
    item: Item,
    scorer: Scorer,
    *,
    engine: Engine,
    seed: int = 0,
    journal: Journal | None = None,
    cache: str = "",
    budget: Budget = UNBOUNDED,
) -> ItemResult:
    """One item's run and score; what fails is in the result's `error`."""
    async with graph.stream(item.task, engine=engine, seed=seed, journal=journal, cache=cache, budget=budget) as run:
        try:
            async for _ in run:
                pass
            text, error = answer_text(run.value), ""
        except PlaitError as failure:
            text, error = "", _said(failure)
        usage = {name: amount for name, amount in run.usage.as_dict().items() if amount}
        identity = run.id
    answer = extract(text, dataset.answer)
    score = 0.0
    if not error:
        try:
            score = await scorer(item, answer)
        except Exception as failure:  # a scorer is a user's function: what it raises is recorded
            error = f"scorer '{scorer.name}' raised {type(failure).__name__}: {failure}"
    return ItemResult(id=item.id, text=text, answer=answer, score=score, error=error, run=identity, usage=usage)


def answer_text(value: Any) -> str:
    """What a graph gave as a text: a technique's result is its best candidate."""
    found = getattr(value, "answer", value)
    return found if isinstance(found, str) else render(found)


def _said(error: PlaitError) -> str:
    cause = error
    while isinstance(cause, NodeError) and isinstance(cause.__cause__, PlaitError):
        cause = cause.__cause__
    return f"{type(cause).__name__}: {error}"

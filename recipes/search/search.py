"""The search: candidates of a space on the dev items until the budget ends, then the best on the held-out ones."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any

from ...engines import Engine
from ...errors import BudgetError, InputError, PlaitError
from ...orchestrator import Budget, Graph, Journal
from ...orchestrator.budget import UNBOUNDED
from ...orchestrator.compile import compile_graph
from ..evaluation import Dataset, Evaluation, Scorer, evaluate
from ..evaluation.results import ItemResult, json_line
from ..evaluation.statistics import Interval
from .claims import Outcome
from .space import Space
from .study import Study, promising

Report = Callable[[Outcome, int], None]
"""Told what came of each candidate, and how many there are."""


def _silent(outcome: Outcome, count: int) -> None:
    """Report to nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How candidates are measured.

    `budget` is the whole search's, by what engines really did; `most` bounds what one item may be foreseen to use, by
    the names of a usage: dearer candidates are excluded. With `keep` of 2 or more the dev items come in `rungs` parts,
    and after each a candidate goes on only if it is in the upper 1/`keep` so far. With `shared` candidates take each
    other's node results from the journal.
    """

    budget: Budget = UNBOUNDED
    candidates: int = 0
    most: Mapping[str, float] | None = None
    keep: int = 0
    rungs: int = 3
    shared: bool = True
    at_once: int = 8
    seed: int = 0


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A candidate on items that no search has seen."""

    outcome: Outcome
    quality: Interval
    tokens: float
    critical_path: float
    cost: float


async def search(
    study: Study,
    dev: Dataset,
    scorer: Scorer,
    *,
    engine: Engine,
    journal: Journal,
    folder: Path,
    plan: Plan = Plan(),
    report: Report = _silent,
) -> list[Outcome]:
    """Evaluate candidates until the budget is spent, `plan.candidates` are known, or there are no more.

    It goes on where an earlier one, or one that was killed, has left the study. Raises BudgetError where the budget
    ends before the first candidate is done.
    """
    work = _Work(study, dev, scorer, engine, journal, folder, plan)
    while not work.is_over():
        candidate = study.ask()
        if candidate is None:
            break
        try:
            outcome = await work.evaluate(candidate)
        except BaseException as error:
            study.claims.release(candidate.key)
            if not isinstance(error, BudgetError):
                raise
            if not study.done():
                raise BudgetError(
                    f"{error}, the first of {len(dev)} items each: raise it, or use fewer items"
                ) from None
            break
        study.tell(outcome)
        report(outcome, len(study.outcomes()))
    return study.outcomes()


async def hold_out(
    space: Space,
    outcomes: Sequence[Outcome],
    held_out: Dataset,
    scorer: Scorer,
    *,
    engine: Engine,
    folder: Path,
    journal: Journal | None = None,
    cache: str = "",
    plan: Plan = Plan(),
) -> list[HeldOut]:
    """Candidates on the held-out items, in the order given."""
    found = []
    for outcome in outcomes:
        done = await evaluate(
            space.graph(outcome.point),
            held_out,
            scorer,
            engine=engine,
            seed=plan.seed,
            at_once=plan.at_once,
            file=folder / f"held-out-{_short(outcome)}.jsonl",
            journal=journal,
            cache=cache,
        )
        tokens = done.mean("prompt") + done.mean("generated")
        found.append(HeldOut(outcome, done.accuracy, tokens, done.mean("critical_path"), done.mean("cost")))
    return found


class _Work:
    """Evaluates candidates of one study in one process."""

    def __init__(
        self, study: Study, dev: Dataset, scorer: Scorer, engine: Engine, journal: Journal, folder: Path, plan: Plan
    ) -> None:
        if plan.keep == 1 or plan.rungs < 1:
            raise InputError(
                f"keep={plan.keep}, rungs={plan.rungs} can't be used; keep 2 or more (0 for all) in 1 or more"
            )
        self.study, self.dev, self.scorer, self.engine = study, dev, scorer, engine
        self.journal, self.folder, self.plan = journal, folder, plan
        self.cache = f"search {dev.fingerprint} {plan.seed}" if plan.shared else ""
        items = list(dev.items)
        Random(f"rungs {plan.seed}").shuffle(items)
        self.items = items
        self._used: dict[str, float] = {}
        self._began = perf_counter()

    # ---- one candidate

    async def evaluate(self, candidate: Outcome) -> Outcome:
        """What comes of a candidate. A fault of its own is an outcome; BudgetError is the search's end."""
        try:
            graph = self.study.space.graph(candidate.point)
            foreseen = compile_graph(graph, self.engine).forecast().usage
        except PlaitError as error:
            return replace(candidate, state="failed", note=f"{type(error).__name__}: {error}")
        told = {**foreseen.as_dict(), "tokens": foreseen.prompt + foreseen.generated}
        for name, most in (self.plan.most or {}).items():
            if told[name] > most:
                return replace(
                    candidate, state="excluded", note=f"foreseen to use {name}={told[name]:g} an item, over {most:g}"
                )
        self._used = self.spent_on(candidate)
        for rung, stop in enumerate(self._stops()):
            done = await self._on(graph, stop, candidate)
            if all(result.error for result in done.results):
                return self._outcome(candidate, done, "failed", f"all items failed: {done.results[0].error}")
            if stop < len(self.items) and not self._goes_on(candidate, rung, done):
                return self._outcome(candidate, done, "dropped", f"after {stop} items")
        return self._outcome(candidate, done, "done", f"{len(done.failed)} items failed" if done.failed else "")

    async def _on(self, graph: Graph[Any], stop: int, candidate: Outcome) -> Evaluation:
        """The candidate on the first items. What is known from its file is not run again."""
        found = await evaluate(
            graph,
            self.dev,
            self.scorer,
            engine=self.engine,
            seed=self.plan.seed,
            at_once=self.plan.at_once,
            file=self._file(candidate),
            journal=self.journal,
            cache=self.cache,
            budget=self.left,
            ids={item.id for item in self.items[:stop]},
            report=self._note,
        )
        if any(result.error.startswith("BudgetError") for result in found.results):
            raise BudgetError(f"the budget of the search ended within {dict(candidate.point)}")
        return found

    def _note(self, result: ItemResult, known: int, all_: int) -> None:
        _add(self._used, self.journal.spent(result.run))

    def _goes_on(self, candidate: Outcome, rung: int, done: Evaluation) -> bool:
        score = done.accuracy.mean
        return promising(score, self.study.claims.score(candidate.key, rung, score), self.plan.keep)

    def _stops(self) -> list[int]:
        """How many items each rung has; all of them on the last."""
        if not self.plan.keep:
            return [len(self.items)]
        sizes = [math.ceil(len(self.items) / self.plan.keep**rung) for rung in range(self.plan.rungs)]
        return sorted(set(sizes))

    def _outcome(self, candidate: Outcome, done: Evaluation, state: Any, note: str) -> Outcome:
        values = {
            "quality": done.accuracy.mean,
            "tokens": done.mean("prompt") + done.mean("generated"),
            "critical_path": done.mean("critical_path"),
            "cost": done.mean("cost"),
        }
        spent = self.spent_on(candidate)
        self._used = {}
        return replace(candidate, state=state, values=values, spent=spent, items=len(done.results), note=note)

    # ---- what was spent

    def spent_on(self, candidate: Outcome) -> dict[str, float]:
        """What the engine did for a candidate: without what was taken from other candidates' records."""
        total: dict[str, float] = {}
        for run in runs_of(self._file(candidate)):
            _add(total, self.journal.spent(run))
        return total

    def is_over(self) -> bool:
        known = [outcome for outcome in self.study.outcomes() if outcome.state != "claimed"]
        left = self.left()
        spent = min(left.tokens, left.calls, left.cost, left.seconds) <= 0
        return spent or bool(self.plan.candidates and len(known) >= self.plan.candidates)

    def left(self) -> Budget:
        """What is left of the budget, the candidate under way counted."""
        spent, budget = self.study.spent, self.plan.budget
        _add(spent, self._used)
        tokens = spent.get("prompt", 0.0) + spent.get("generated", 0.0)
        return Budget(
            tokens=max(0.0, budget.tokens - tokens),
            calls=max(0.0, budget.calls - spent.get("calls", 0.0)),
            seconds=max(0.0, budget.seconds - (perf_counter() - self._began)),
            cost=max(0.0, budget.cost - spent.get("cost", 0.0)),
            prices=budget.prices,
        )

    def _file(self, candidate: Outcome) -> Path:
        return self.folder / f"dev-{_short(candidate)}.jsonl"


def runs_of(path: Path) -> set[str]:
    """The runs that stand in a file of results, those of items that were tried again, too."""
    lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
    return {found["run"] for line in lines if (found := json_line(line)) is not None and found.get("run")}


def _add(total: dict[str, float], amounts: Mapping[str, float]) -> None:
    for name, amount in amounts.items():
        total[name] = total.get(name, 0.0) + amount


def _short(outcome: Outcome) -> str:
    """A name for a candidate's files."""
    return blake2b(outcome.key.encode(), digest_size=8).hexdigest()


def write_winner(path: Path, space: Space, outcome: Outcome) -> None:
    """The candidate's architecture as a file that `plait run` takes. Raises InputError for one that is no data."""
    architecture = space.architecture(outcome.point)
    try:
        data = (
            architecture if isinstance(architecture, dict) else {"name": space.name, "components": list(architecture)}
        )
        text = json.dumps(data, indent=1, ensure_ascii=False)
    except TypeError as error:
        raise InputError(f"the architecture of {dict(outcome.point)} can't be written as a file: {error}") from error
    path.write_text(text + "\n", encoding="utf-8")


def as_data(held_out: Sequence[HeldOut]) -> list[dict[str, Any]]:
    return [asdict(one) for one in held_out]

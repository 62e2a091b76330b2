"""The study: candidates asked for and told of, by Optuna's samplers, in a database that outlives its workers."""

from __future__ import annotations

import fcntl
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from ...errors import InputError, MissingExtraError
from ...orchestrator.fingerprint import fingerprint
from .claims import Claims, Outcome
from .grid import Grid
from .space import Choice, Point, Space, applies, key_of

if TYPE_CHECKING:
    import optuna

Objective: TypeAlias = Literal["quality", "tokens", "critical_path", "cost"]
Optimiser: TypeAlias = Literal["tpe", "gp", "nsga2", "random", "greedy"]

DIRECTIONS: Mapping[str, Literal["maximize", "minimize"]] = {
    "quality": "maximize", "tokens": "minimize", "critical_path": "minimize", "cost": "minimize",
}  # fmt: skip
IN_MEMORY = "sqlite://"
_REDRAWS = 100
"""Draws of a sampler in an endless space that may give nothing new."""


class Study:
    """A search over a space: `ask` for a candidate that nobody has had, `tell` what came of it.

    `storage` is a file, or the URL of a database that Optuna knows (PostgreSQL, say); several workers may share it. A
    candidate whose worker was killed is asked for again first. `about` names what is measured, so that no other results
    get into the study. `prior` orders the points of a finite space: the `trusted` best of them are tried first. Raises
    InputError, DataError and MissingExtraError.
    """

    def __init__(
        self,
        space: Space,
        *,
        storage: str | Path = IN_MEMORY,
        name: str = "search",
        objectives: Sequence[Objective] = ("quality",),
        optimiser: Optimiser = "tpe",
        seed: int = 0,
        about: str = "",
        prior: Callable[[Point], float] | None = None,
        trusted: int = 10,
    ) -> None:
        if find_spec("optuna") is None:
            raise MissingExtraError("search (package 'optuna')", "search")
        _check(objectives, optimiser)
        self.space = space
        self.objectives = tuple(objectives)
        self.optimiser = optimiser
        self._seed = seed
        self._grid: Grid | None = None
        url = str(storage) if "://" in str(storage) else f"sqlite:///{Path(storage)}"
        described = fingerprint(
            space.name, list(space.dimensions), [rule.text for rule in space.rules], list(objectives)
        )
        self._file = Path(f"{url.removeprefix('sqlite:///')}.lock") if url.startswith("sqlite:///") else None
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._alone():
            self.claims = Claims(url, name, f"{space.name} {described} {about}".strip())
            self._study = _open(url, name, self.objectives, _sampler(optimiser, seed))
        self._first = _best_by(space, prior, trusted) if prior is not None else []
        with self._alone():
            self._tell_again()

    # ---- ask and tell

    def ask(self) -> Outcome | None:
        """A candidate to evaluate, which is this process's now; None where all are taken."""
        with self._alone():
            return self._ask()

    def tell(self, outcome: Outcome) -> None:
        """Record what came of a candidate. One without all objectives tells the sampler nothing."""
        with self._alone():
            self.claims.finish(outcome)
            self._tell(outcome)

    # ---- what was found

    def outcomes(self) -> list[Outcome]:
        """All candidates so far."""
        return self.claims.outcomes()

    def done(self) -> list[Outcome]:
        """Those that were evaluated to the end."""
        return [outcome for outcome in self.outcomes() if outcome.state == "done"]

    def best(self) -> Outcome | None:
        """The best of the first objective; of equal ones the better in those that follow, then in tokens, then the one
        asked first."""
        return min(self.done(), key=self._rank, default=None)

    def front(self) -> list[Outcome]:
        """The candidates that no other one is at least as good as in everything and better in something."""
        done = self.done()
        losses = [self._losses(outcome) for outcome in done]
        kept = [
            one for one, loss in zip(done, losses, strict=True) if not any(dominates(other, loss) for other in losses)
        ]
        return sorted(kept, key=self._rank)

    @property
    def spent(self) -> dict[str, float]:
        """What all candidates have cost, by what an engine did."""
        total: dict[str, float] = {}
        for outcome in self.outcomes():
            for name, amount in outcome.spent.items():
                total[name] = total.get(name, 0.0) + amount
        return total

    def warm(self, outcomes: Iterable[Outcome]) -> int:
        """Tell the sampler what another study has found; how many of the candidates are points of this space too.

        They stay free to be evaluated here: the other study may have measured something else.
        """
        import optuna

        added = 0
        for outcome in outcomes:
            if outcome.state != "done" or self.space.broken(outcome.point) or not self._complete(outcome):
                continue
            trial = optuna.trial.create_trial(
                params=self._parameters(outcome.point),
                distributions=_distributions(self.space, outcome.point),
                values=[outcome.values[name] for name in self.objectives],
            )
            self._study.add_trial(trial)
            added += 1
        return added

    def close(self) -> None:
        self.claims.close()

    # ---- parts

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Alone with a study's file: SQLite gives up, and does not wait, where two that have read want to write."""
        if self._file is None:
            yield
            return
        with self._file.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # the system lets go of it when the process ends, however it ends
            yield

    def _ask(self) -> Outcome | None:
        found = self.claims.take_over()
        if found is not None:
            return found
        while self._first:
            found = self._propose(self._first.pop(0))
            if found is not None:
                return found
        if self.optimiser == "greedy":
            for point in self._greedy():
                found = self._propose(point)
                if found is not None:
                    return found
        for _ in range(_REDRAWS):
            trial = self._study.ask()
            found = self._claim(trial)
            if found is not None:
                return found
            if self.space.is_finite:
                return self._near(self.space.draw(trial))
        return None

    def _claim(self, trial: optuna.Trial) -> Outcome | None:
        """The point that a trial draws, if it is valid and free; else the trial is given up."""
        import optuna

        point = self.space.draw(trial)
        if not self.space.broken(point) and self.claims.claim(point, trial.number):
            return Outcome(point=point, trial=trial.number)
        self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return None

    def _propose(self, point: Point) -> Outcome | None:
        if self.claims.find(key_of(point)) is not None:
            return None
        sampler = self._study.sampler  # no queue of the storage's: two workers can be given one trial of it
        self._study.sampler = _fixed(self._parameters(point), sampler)
        try:
            return self._claim(self._study.ask())
        finally:
            self._study.sampler = sampler

    def _near(self, point: Point) -> Outcome | None:
        """The free point nearest to one that is taken or breaks a rule: samplers propose the best again and again."""
        if self._grid is None:
            self._grid = Grid(self.space, self._seed)
        self._grid.take(self.claims.keys())
        while (free := self._grid.nearest(point)) is not None:
            found = self._propose(free)
            if found is not None:
                return found
            self._grid.take([key_of(free)])
        return None

    def _greedy(self) -> Iterable[dict[str, Any]]:
        """One dimension after the other at all of its values, the others as the best has them (Archon, §3.3)."""
        best = self.best()
        if best is None:
            yield next(self.space.points())
            return
        for dimension in self.space.dimensions:
            for value in (dimension.values() or ()) if dimension.name in best.point else ():
                point = _moved(self.space, {**best.point, dimension.name: value})
                if not self.space.broken(point):
                    yield point

    def _tell(self, outcome: Outcome) -> None:
        import optuna

        if outcome.state == "done" and self._complete(outcome):
            values = [outcome.values[name] for name in self.objectives]
            self._study.tell(outcome.trial, values, skip_if_finished=True)
        else:
            self._study.tell(outcome.trial, state=optuna.trial.TrialState.FAIL, skip_if_finished=True)

    def _tell_again(self) -> None:
        """Tell what a worker recorded before it was killed, but did not come to tell."""
        import optuna

        running = {
            trial.number for trial in self._study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING])
        }
        for outcome in self.outcomes():
            if outcome.state != "claimed" and outcome.trial in running:
                self._tell(outcome)

    def _complete(self, outcome: Outcome) -> bool:
        return all(name in outcome.values for name in self.objectives)

    def _rank(self, outcome: Outcome) -> tuple[float, ...]:
        return (*self._losses(outcome), outcome.values.get("tokens", 0.0), outcome.trial)

    def _losses(self, outcome: Outcome) -> tuple[float, ...]:
        """The objectives, all to be small."""
        return tuple(
            -outcome.values[name] if DIRECTIONS[name] == "maximize" else outcome.values[name]
            for name in self.objectives
        )

    def _parameters(self, point: Point) -> dict[str, Any]:
        """A point as the sampler knows it: options by their number."""
        choices = {dimension.name: dimension for dimension in self.space.dimensions if isinstance(dimension, Choice)}
        return {name: choices[name].options.index(value) if name in choices else value for name, value in point.items()}


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether the losses of one are nowhere greater than another's, and somewhere less."""
    pairs = list(zip(one, other, strict=True))
    return all(mine <= theirs for mine, theirs in pairs) and any(mine < theirs for mine, theirs in pairs)


def promising(score: float, scores: Sequence[float], keep: int) -> bool:
    """Whether a score is in the upper 1/`keep` of all that came so far (asynchronous successive halving, 2020)."""
    better = sum(other > score for other in scores)
    return better < max(1, len(scores) // keep)


def _check(objectives: Sequence[str], optimiser: str) -> None:
    unknown = [name for name in objectives if name not in DIRECTIONS]
    if unknown or not objectives or len(set(objectives)) < len(objectives):
        raise InputError(
            f"objectives {list(objectives)} can't be used; take some of {', '.join(DIRECTIONS)}, each once"
        )
    if optimiser not in get_args(Optimiser):
        raise InputError(f"unknown optimiser '{optimiser}'; known: {', '.join(get_args(Optimiser))}")


def _sampler(optimiser: str, seed: int) -> Any:
    import optuna

    match optimiser:
        case "tpe":
            return optuna.samplers.TPESampler(seed=seed)
        case "gp":
            if find_spec("torch") is None or find_spec("scipy") is None:
                raise MissingExtraError("the optimiser 'gp' (packages 'torch' and 'scipy')", "local,search")
            return optuna.samplers.GPSampler(seed=seed, deterministic_objective=False)
        case "nsga2":
            return optuna.samplers.NSGAIISampler(seed=seed)
    return optuna.samplers.RandomSampler(seed=seed)


def _fixed(parameters: dict[str, Any], sampler: Any) -> Any:
    """A sampler that draws one point."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.PartialFixedSampler(parameters, sampler)


def _open(url: str, name: str, objectives: Sequence[str], sampler: Any) -> optuna.Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    options = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
    storage = None if url == IN_MEMORY else optuna.storages.RDBStorage(url, engine_kwargs=options)
    return optuna.create_study(
        storage=storage,
        study_name=name,
        sampler=sampler,
        directions=[DIRECTIONS[objective] for objective in objectives],
        load_if_exists=True,
    )


def _distributions(space: Space, point: Point) -> dict[str, Any]:
    drawn = _Distributions()
    for dimension in space.dimensions:
        if dimension.name in point:
            replaced = replace(dimension, when={})
            Space(space.name, [replaced], space.architecture).draw(drawn)
    return drawn.found


class _Distributions:
    """Notes what is asked for, as Optuna describes it."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def suggest_categorical(self, name: str, choices: Any, /) -> Any:
        import optuna

        self.found[name] = optuna.distributions.CategoricalDistribution(list(choices))
        return 0

    def suggest_int(self, name: str, low: int, high: int, /, *, step: int = 1) -> int:
        import optuna

        self.found[name] = optuna.distributions.IntDistribution(low, high, step=step)
        return low

    def suggest_float(self, name: str, low: float, high: float, /, *, log: bool = False) -> float:
        import optuna

        self.found[name] = optuna.distributions.FloatDistribution(low, high, log=log)
        return low


def _best_by(space: Space, prior: Callable[[Point], float], count: int) -> list[dict[str, Any]]:
    return sorted(space.points(), key=prior, reverse=True)[:count]


def _moved(space: Space, point: Mapping[str, Any]) -> dict[str, Any]:
    """A point with what no longer applies left out, and what now applies at its first value."""
    found: dict[str, Any] = {}
    for dimension in space.dimensions:
        if applies(dimension, found):
            values = dimension.values() or ()
            found[dimension.name] = point[dimension.name] if dimension.name in point else next(iter(values), None)
    return found

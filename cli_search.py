"""The commands `plait search SPACE DATA`, `plait space SPACE` and `plait bench search`."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from .cli import EngineOption, JsonOption, app, bench_app, print_result
from .cli_eval import DataArgument, FieldOption, JudgeOption, ScorerOption, read_data
from .errors import InputError

if TYPE_CHECKING:
    from .orchestrator import Budget
    from .recipes.search import HeldOut, Outcome, Study

MOST_HELD_OUT = 10
"""Candidates of a front that are tried on the held-out items."""

SpaceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SPACE", help="archon, techniques, or FILE.py[:SPACE]: a Space, or a function from the data to one."
    ),
]


class SearchBench(StrEnum):
    """A benchmark of searches."""

    SIMULATED = "simulated"
    SHARED = "shared"
    PRIOR = "prior"


@app.command("search")
def search_(
    space: SpaceArgument,
    data: DataArgument,
    budget: Annotated[str, typer.Option(help="What may be spent: tokens, or tokens=N,seconds=N,calls=N,cost=N.")] = "",
    engine: EngineOption = "local",
    scorer: ScorerOption = "",
    judge: JudgeOption = "",
    fields: FieldOption = None,
    objectives: Annotated[str, typer.Option(help="Some of quality, tokens, critical_path, cost.")] = "quality",
    optimiser: Annotated[str, typer.Option(help="tpe, gp, nsga2, random or greedy.")] = "tpe",
    candidates: Annotated[int, typer.Option(min=0, help="Most candidates; 0: as many as the budget allows.")] = 0,
    most: Annotated[str, typer.Option(help="Leave out what is foreseen to use more an item: tokens=2000.")] = "",
    keep: Annotated[int, typer.Option(min=0, help="After a part of the items go on with one of so many.")] = 0,
    count: Annotated[int, typer.Option(min=0, help="Only the first so many items; 0 for all.")] = 0,
    dev: Annotated[float, typer.Option(help="Share of the items that the search sees.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Seed of the split, the sampler and the runs.")] = 0,
    at_once: Annotated[int, typer.Option(min=1, help="Items that run side by side.")] = 8,
    out: Annotated[Path, typer.Option("--out", help="Folder of the study; the command goes on from it.")] = Path(
        "study"
    ),
    storage: Annotated[str, typer.Option(help="URL of a database, as PostgreSQL's; else a file in --out.")] = "",
    warm: Annotated[list[Path] | None, typer.Option("--warm", help="Folder of an earlier study to learn from.")] = None,
    share: Annotated[bool, typer.Option("--share/--no-share", help="Let candidates share node results.")] = True,
    workers: Annotated[int, typer.Option(min=1, help="Processes that search side by side.")] = 1,
    ray: Annotated[bool, typer.Option("--ray", help="Run the workers on a Ray cluster.")] = False,
    worker: Annotated[int, typer.Option(hidden=True)] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Search a space of architectures on a part of a dataset, and report the best on the rest of it."""
    import anyio

    from .engines import open_engine
    from .orchestrator import Journal
    from .recipes.evaluation import find_scorer
    from .recipes.search import Plan, Study, find_space, hold_out, search
    from .recipes.search.workers import run_here, run_on_cluster

    dataset = read_data(data, fields, scorer).first(count)
    seen, unseen = dataset.split(share=dev, seed=seed)
    out.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        budget=read_budget(budget),
        candidates=candidates,
        most=_amounts(most),
        keep=keep,
        shared=share,
        at_once=at_once,
        seed=seed,
    )
    study = Study(
        find_space(space, dataset),
        storage=storage or out / "study.db",
        objectives=cast(Any, [name.strip() for name in objectives.split(",")]),
        optimiser=cast(Any, optimiser),
        seed=seed + worker,
        about=f"{seen.fingerprint} {scorer or dataset.scorer} {engine} {seed}",
    )
    if not worker:
        for folder in warm or ():
            study.warm(_earlier(folder))
    if workers > 1 and not worker:
        commands = [[*sys.argv[1:], "--worker", str(number)] for number in range(1, workers + 1)]
        (run_on_cluster if ray else run_here)(commands)

    async def main() -> list[HeldOut]:
        async with open_engine(engine) as opened, open_engine(judge or engine) as judging:
            found = find_scorer(scorer or dataset.scorer, judge=judging)
            with Journal(out / "journal.db") as journal:
                if workers == 1 or worker:
                    shown = _silent if quiet else _show
                    await search(
                        study,
                        seen,
                        found,
                        engine=opened,
                        journal=journal,
                        folder=out / "items",
                        plan=plan,
                        report=shown,
                    )
                if worker:
                    return []
                front = study.front()[:MOST_HELD_OUT]
                return await hold_out(
                    study.space, front, unseen, found, engine=opened, folder=out / "items", journal=journal, plan=plan
                )

    held_out = anyio.run(main)
    if not worker:
        _report(study, held_out, out, as_json)


@app.command("space")
def space_(
    space: SpaceArgument,
    data: Annotated[str, typer.Option("--data", help="The dataset that a space of techniques is made for.")] = (
        "embedded:countdown"
    ),
    compiles: Annotated[bool, typer.Option("--compile", help="Compile the graph of every candidate.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what a space holds: its dimensions, its rules, and how many candidates keep them."""
    from .recipes.evaluation import read_dataset
    from .recipes.search import count_compiled, describe, find_space, readings

    found = find_space(space, read_dataset(data))
    told = describe(found)
    if compiles:
        told["compiled"] = count_compiled(found)
    lines = [f"space {found.name}"]
    lines += [f"  {name}: {text}" for name, text in told["dimensions"].items()]
    lines += [f"  rule: {text}" for text in told["rules"]]
    lines += [f"candidates: {told['candidates']}"]
    if compiles:
        lines.append(f"compiled: {told['compiled']}")
    if space == "archon":
        told["readings"] = [{"text": one.text, "count": one.count} for one in readings()]
        lines += ["", *(f"{one['count']:>9,}  {one['text']}" for one in told["readings"])]
    print_result(told, as_json, "\n".join(lines))


@bench_app.command("search")
def bench_search(
    part: Annotated[
        SearchBench,
        typer.Argument(
            help="simulated: evaluations until the best is found; shared: tokens "
            "that candidates save each other; prior: what the allocation model saves."
        ),
    ],
    searches: Annotated[int, typer.Option(min=0, help="Seeded searches; 0 for the benchmark's own number.")] = 0,
    optimiser: Annotated[
        list[str] | None, typer.Option(help="For simulated: tpe, gp or greedy; may be repeated.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """How soon searches find the best, and what they cost."""
    from .benchmarks import search_prior, search_sharing, search_simulated

    match part:
        case SearchBench.SIMULATED:
            search_simulated.main(searches=searches or 200, optimisers=optimiser or ("tpe",), as_json=as_json)
        case SearchBench.SHARED:
            search_sharing.main(searches=searches or 2, as_json=as_json)
        case SearchBench.PRIOR:
            search_prior.main(searches=searches or 100, as_json=as_json)


def read_budget(text: str) -> Budget:
    """A budget of "20000" (tokens) or "tokens=20000,seconds=60". Raises InputError."""
    from .orchestrator import Budget

    amounts = {"tokens": float(text)} if text.replace("_", "").isdecimal() else _amounts(text)
    unknown = set(amounts) - {"tokens", "seconds", "calls", "cost"}
    if unknown:
        raise InputError(f"a budget has no '{min(unknown)}'; write some of tokens=N,seconds=N,calls=N,cost=N")
    given = {"tokens": math.inf, "seconds": math.inf, "calls": math.inf, "cost": math.inf, **amounts}
    return Budget(tokens=given["tokens"], seconds=given["seconds"], calls=given["calls"], cost=given["cost"])


def _amounts(text: str) -> dict[str, float]:
    """The numbers of "tokens=2000,cost=0.1"."""
    found: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = part.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            raise InputError(f"'{part}' can't be read; write NAME=NUMBER, such as tokens=2000") from None
    return found


def _earlier(folder: Path) -> list[Outcome]:
    """What an earlier study in a folder has found."""
    from .recipes.search import read_outcomes

    if not (folder / "study.db").is_file():
        raise InputError(f"there is no study in {folder}; name the --out folder of an earlier search")
    return read_outcomes(folder / "study.db")


def _show(outcome: Outcome, count: int) -> None:
    """A line for each candidate on stderr."""
    from .recipes.search import shown

    values = f"{outcome.values['quality']:.1%}, {outcome.values['tokens']:.0f} tokens" if outcome.values else ""
    said = " ".join(filter(None, (values, outcome.note)))[:120]
    sys.stderr.write(f"{count}  {outcome.state}  {shown(outcome)}  {said}\n")


def _silent(outcome: Outcome, count: int) -> None:
    """Show nothing."""


def _report(study: Study, held_out: Sequence[HeldOut], out: Path, as_json: bool) -> None:
    """The tables, the pictures and the winner's file."""
    from .recipes.search import as_data, dev_table, draw_front, held_out_table, write_winner

    outcomes, front, winner = study.outcomes(), study.front(), study.best()
    lines = [dev_table(outcomes)]
    files: list[Path] = []
    if winner is not None:
        files = draw_front(outcomes, front, out)
        write_winner(out / "winner.json", study.space, winner)
        files.append(out / "winner.json")
        lines += ["", held_out_table(held_out), "", *(f"wrote {file}" for file in files)]
    found = {
        "outcomes": [asdict(outcome) for outcome in outcomes],
        "held_out": as_data(held_out),
        "winner": dict(winner.point) if winner is not None else None,
        "spent": study.spent,
        "files": [str(file) for file in files],
    }
    print_result(found, as_json, "\n".join(lines))

"""The command `plait eval RECIPE DATA`, beside `plait eval embedded`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from .cli import EngineOption, FactsOption, JsonOption, RecipeArgument, SetOption, eval_app, make_graph, print_result
from .errors import InputError

if TYPE_CHECKING:
    from .orchestrator import Graph
    from .recipes.evaluation import Dataset, Evaluation, ItemResult

DataArgument = Annotated[
    str,
    typer.Argument(
        metavar="DATA", help="FILE.jsonl, FILE.csv, embedded:countdown|queries|questions[:COUNT], or hf:NAME:SPLIT."
    ),
]
FieldOption = Annotated[
    list[str] | None,
    typer.Option("--field", metavar="PART=NAME", help="The field that holds an item's task, answer, choices or tests."),
]
ScorerOption = Annotated[
    str, typer.Option(help="exact, numeric, choice, f1, code, countdown or judge; else the dataset's own.")
]
JudgeOption = Annotated[str, typer.Option("--judge", help="Engine of the scorer 'judge'; else the run's own.")]


class SplitName(StrEnum):
    """Which items of a dataset are taken."""

    ALL = "all"
    DEV = "dev"
    HELD_OUT = "held-out"


class WithRecipes(TyperGroup):
    """A group in which what names no command is a recipe to evaluate."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        first = next((arg for arg in args if not arg.startswith("-")), None)
        if first is not None and first not in self.commands and "--help" not in args[: args.index(first)]:
            args = ["recipe", *args]
        return super().parse_args(ctx, args)


eval_app.info.cls = WithRecipes


@eval_app.command("recipe")
def eval_recipe(
    recipe: RecipeArgument,
    data: DataArgument,
    engine: EngineOption = "local",
    scorer: ScorerOption = "",
    judge: JudgeOption = "",
    fields: FieldOption = None,
    split: Annotated[
        SplitName, typer.Option(help="Which items: the dev side of a split, the held-out one, or all.")
    ] = (SplitName.ALL),
    count: Annotated[int, typer.Option(min=0, help="Only the first so many items; 0 for all.")] = 0,
    settings: SetOption = None,
    facts: FactsOption = None,
    seed: Annotated[int, typer.Option(help="Seed of the runs.")] = 0,
    at_once: Annotated[int, typer.Option(min=1, help="Items that run side by side.")] = 8,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="File of the results, a line an item; the same command goes on from it."),
    ] = None,
    against: Annotated[
        list[Path] | None, typer.Option("--against", help="Results to compare with on the same items; may be repeated.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    as_json: JsonOption = False,
) -> None:
    """How often a recipe is right on a dataset, and what it uses; the word "recipe" may be left out."""
    import anyio

    from .engines import open_engine
    from .recipes.evaluation import evaluate, find_scorer, read_evaluation

    dataset = read_data(data, fields, scorer).take(split.value).first(count)
    others = [read_evaluation(path) for path in against or ()]
    graph = graph_for(recipe, dataset, facts, settings)

    async def main() -> Evaluation:
        async with open_engine(engine) as opened:
            name = scorer or dataset.scorer
            if judge and name == "judge":
                async with open_engine(judge) as judging:
                    return await measure(opened, judging)
            return await measure(opened, opened)

    async def measure(opened: Any, judging: Any) -> Evaluation:
        return await evaluate(
            graph,
            dataset,
            find_scorer(scorer or dataset.scorer, judge=judging),
            engine=opened,
            seed=seed,
            at_once=at_once,
            file=out or "",
            report=_silent if quiet else show_progress,
        )

    found = anyio.run(main)
    print_result(_as_dict(found, others), as_json, _describe(found, others))


def graph_for(recipe: str, dataset: Dataset, facts: list[Path] | None, settings: list[str] | None) -> Graph[Any]:
    """The graph of a recipe with the dataset's own tools, unless the user gives tables."""
    from .orchestrator.load import names_a_file
    from .recipes import find_recipe
    from .recipes.settings import read_settings

    if dataset.tools is None or facts or names_a_file(recipe):
        return make_graph(recipe, facts, settings)
    found = find_recipe(recipe)
    return found.make(dataset.tools, **read_settings(recipe, found.make, settings or []))


def read_data(data: str, fields: list[str] | None, scorer: str) -> Dataset:
    """The dataset of a command line."""
    from .recipes.evaluation import read_dataset

    pairs = [text.partition("=") for text in fields or ()]
    for name, equals, value in pairs:
        if not (name and equals and value):
            raise InputError(f"'{name}{equals}{value}' is no PART=NAME, such as task=question")
    return read_dataset(data, fields={name: value for name, _, value in pairs}, scorer=scorer or "exact")


def show_progress(result: ItemResult, known: int, all_: int) -> None:
    """A line for each item on stderr."""
    what = f"failed: {result.error}" if result.error else f"{result.score:g}"
    sys.stderr.write(f"{known} of {all_}  {result.id}  {' '.join(what.split())[:120]}\n")


def _silent(result: ItemResult, known: int, all_: int) -> None:
    """Show nothing."""


def _as_dict(found: Evaluation, others: Sequence[Evaluation]) -> dict[str, Any]:
    compared = [{"recipe": other.heading.recipe, **asdict(found.against(other))} for other in others]
    return {**found.as_dict(), "against": compared}


def _describe(found: Evaluation, others: Sequence[Evaluation]) -> str:
    from .recipes.evaluation import table

    lines = [table([found, *others])]
    for other in others:
        compared = found.against(other)
        lines.append(
            f"against {other.heading.recipe}: {compared.difference.mean:+.1%} "
            f"[{compared.difference.low:+.1%}, {compared.difference.high:+.1%}] on {compared.items} items, "
            f"better on {compared.better}, worse on {compared.worse}, p = {compared.p_value:.3g}"
        )
    lines += [f"failed: {result.id}: {result.error}" for result in found.failed[:5]]
    return "\n".join(lines)

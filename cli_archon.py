"""The commands on techniques: `plait archon check`, `plait bench techniques`."""

from __future__ import annotations

from typing import Annotated

import typer

from .cli import JsonOption, PricesOption, _require, app, bench_app, print_result

archon_app = typer.Typer(help="Look at Archon configurations.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(archon_app, name="archon")


@archon_app.callback()
def _archon() -> None:
    """A group, so that its one command is named."""


@archon_app.command("check")
def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE…", help="Configurations in JSON.")],
    prices: PricesOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a file.")] = False,
) -> None:
    """Whether each can be run: calls of a full run, candidates out, warnings, rules broken; or what is wrong, where."""
    from .recipes.architecture import read_prices
    from .recipes.archon import check_file

    known = read_prices(prices) if prices else {}
    reports = [check_file(file, prices=known) for file in files]
    for report in reports:
        print_result(report.as_dict(), as_json, report.describe())
    if not all(report.ok for report in reports):
        raise typer.Exit(1)


@bench_app.command("techniques")
def bench_techniques(
    count: Annotated[int, typer.Option(min=1, help="Tasks of each kind.")] = 100,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens that a technique may generate a task, about.")] = 600,
    as_json: JsonOption = False,
) -> None:
    """Which technique is right most often for the same tokens, on embedded tasks; and how long layers take."""
    _require("torch", "local")
    from .benchmarks import techniques

    techniques.main(count=count, tokens=tokens, as_json=as_json)

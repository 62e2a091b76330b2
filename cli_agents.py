"""The commands that measure agents: `plait eval needles`, `plait bench agents`."""

from __future__ import annotations

from typing import Annotated

import typer

from .cli import EngineOption, JsonOption, bench_app, eval_app


@eval_app.command("needles")
def eval_needles(
    engine: Annotated[str, typer.Option(help="An engine; without one, a scripted model that never misreads.")] = "",
    tokens: Annotated[list[int] | None, typer.Option(min=500, help="Length of a haystack; may be repeated.")] = None,
    tasks: Annotated[int, typer.Option(min=1, help="Tasks of each kind and length.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """How far threads are followed through a haystack that outgrows the window, with and without pruning."""
    from .benchmarks import needles

    needles.main(engine=engine, lengths=tokens or needles.LENGTHS, tasks=tasks, as_json=as_json)


@bench_app.command("agents")
def bench_agents(
    engine: EngineOption = "local",
    questions: Annotated[int, typer.Option(min=1, help="Held-out questions; each is asked in every format.")] = 300,
    as_json: JsonOption = False,
) -> None:
    """What formats with parallel calls gain over one query a turn, with tools that take time and sometimes fail."""
    from .benchmarks import agents

    agents.main(engine=engine, questions=questions, as_json=as_json)

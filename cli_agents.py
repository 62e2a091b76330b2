"""The commands that measure agents: `plait eval needles`, `plait eval search`, `plait bench agents`."""

from __future__ import annotations

from pathlib import Path
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
    family: Annotated[list[str] | None, typer.Option(help="Only this family; may be repeated.")] = None,
    as_json: JsonOption = False,
) -> None:
    """What formats with parallel calls gain over one query a turn, with tools that take time and sometimes fail."""
    from .benchmarks import agents

    agents.main(engine=engine, questions=questions, families=family or agents.FAMILIES, as_json=as_json)


@eval_app.command("search")
def eval_search(
    folder: Annotated[Path, typer.Argument(help="Folder of documents (.md, .rst, .txt).")],
    questions: Annotated[Path, typer.Argument(help="JSONL file: a question and its answer a line.")],
    engine: EngineOption = "local",
    read: Annotated[int, typer.Option(min=0, help="Documents of a search that a thread each reads; 0: none.")] = 0,
    meaning: Annotated[bool, typer.Option("--meaning", help="Search by embeddings of the engine, too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """F1, exact match, and areas under F1 by turns, calls and tokens, of searchers over a folder of documents."""
    from .benchmarks import searchers

    searchers.main(folder=folder, questions=questions, engine=engine, read=read, meaning=meaning, as_json=as_json)

"""The commands on trajectories as data: `plait data parallel`, `serial`, `judge`."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .cli import EngineOption, JsonOption, app, print_result
from .errors import InputError

if TYPE_CHECKING:
    from .engines import Engine
    from .recipes.trajectories import Trajectory

data_app = typer.Typer(help="Work on what agents have done, as data.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")

FileArgument = Annotated[Path, typer.Argument(help="JSONL file: a trajectory a line.")]

AT_ONCE = 16
"""Trajectories that an engine is asked about side by side."""


class Edges(StrEnum):
    """Who says which calls need which."""

    GIVEN = "given"
    VALUES = "values"
    MODEL = "model"


@data_app.command("parallel")
def parallel_(
    file: FileArgument,
    edges: Annotated[
        Edges,
        typer.Option(help="given: the file's edges; values: what arguments take from results; model: an engine."),
    ] = Edges.GIVEN,
    engine: EngineOption = "local",
) -> None:
    """Make serial trajectories parallel: a training conversation a line, on stdout."""
    import anyio

    from .recipes.trajectories import parallel

    for trajectory in anyio.run(_with_edges, file, edges, engine):
        _print_line(parallel(trajectory).as_dict())


@data_app.command("serial")
def serial_(file: Annotated[Path, typer.Argument(help="JSONL file that `plait data parallel` wrote.")]) -> None:
    """Give back the serial trajectories that parallel conversations were made of, a line each, on stdout."""
    from .errors import DataError
    from .recipes.trajectories import Conversation, serial

    for number, line in enumerate(_lines(file), 1):
        try:
            conversation = Conversation.read(json.loads(line))
        except ValueError as error:
            raise DataError(f"{file}, line {number} is no JSON: {error}") from error
        _print_line(serial(conversation).as_dict())


@data_app.command()
def judge(
    file: FileArgument,
    against: Annotated[
        Path | None, typer.Option(help="JSONL file of rivals for the same tasks, in the same order: who is better?")
    ] = None,
    engine: EngineOption = "local",
    passes: Annotated[int, typer.Option(min=1, help="Judgements of each trajectory (of each order, with rivals).")] = 3,
    as_json: JsonOption = False,
) -> None:
    """Judge trajectories by an engine: the pass rate SoPR or, against rivals, the win rate SoWR."""
    import anyio

    from .recipes.trajectories import rate, read_trajectories

    done = [each.as_json() for each in read_trajectories(file)]
    rivals = [each.as_json() for each in read_trajectories(against)] if against else []
    if against and len(rivals) != len(done):
        raise InputError(f"{file} holds {len(done)} trajectories, {against} {len(rivals)}; lines are paired")
    tasks = [list(pair) for pair in zip(done, rivals, strict=True)] if against else [[each] for each in done]
    judgements = anyio.run(_judged, tasks, engine, passes)
    found, name = rate(judgements), "SoWR" if against else "SoPR"
    text = f"{name} {found.mean:.3f} ± {found.error:.3f} of {found.count}"
    data = {"measure": name, "mean": found.mean, "error": found.error, "judgements": judgements}
    print_result(data, as_json, text)


async def _with_edges(file: Path, edges: Edges, engine: str) -> list[Trajectory]:
    from .engines import open_engine
    from .orchestrator.together import together
    from .recipes.trajectories import annotate, read_trajectories

    read = list(read_trajectories(file))
    if edges is Edges.VALUES:
        return [replace(trajectory, edges="") for trajectory in read]
    if edges is Edges.GIVEN:
        bare = [number for number, trajectory in enumerate(read, 1) if trajectory.steps and not trajectory.edges]
        if bare:
            raise InputError(f"trajectory {bare[0]} of {file} has no edges; say --edges values or --edges model")
        return read
    graph = annotate()

    async def one(trajectory: Trajectory, opened: Engine) -> Trajectory:
        return replace(trajectory, edges=await graph.run(trajectory.as_json(), engine=opened))

    async with open_engine(engine) as opened:
        return await together([partial(one, each, opened) for each in read], at_once=AT_ONCE)


async def _judged(tasks: list[list[str]], engine: str, passes: int) -> list[float]:
    from .engines import open_engine
    from .orchestrator.together import together
    from .recipes.trajectories import sopr, sowr

    graph: Any = sopr(passes=passes) if tasks and len(tasks[0]) == 1 else sowr(passes=passes)
    async with open_engine(engine) as opened:
        return await together([partial(graph.run, *task, engine=opened) for task in tasks], at_once=AT_ONCE)


def _lines(file: Path) -> list[str]:
    try:
        return [line for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} can't be read: {error}") from error


def _print_line(data: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(data, ensure_ascii=False) + "\n")

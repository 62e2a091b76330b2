"""The commands on recorded runs: `plait runs`, `show`, `resume`, `fork`, `export`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .cli import JournalOption, app, ask, make_graph, print_result, run_to_end, the_journal
from .errors import InputError

if TYPE_CHECKING:
    from .orchestrator import Graph, Journal, Past, Record, RunRecord

RunArgument = Annotated[str, typer.Argument(help="Id of a run, or its first letters; `plait runs` lists them.")]
GraphOption = Annotated[
    str, typer.Option("--graph", help="The recipe or FILE.py[:GRAPH] of a run that the command line did not begin.")
]
EngineOption = Annotated[str, typer.Option("--engine", help="Another engine than the run began with.")]
TimeoutOption = Annotated[float, typer.Option(help="Seconds that the run may take.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def runs(journal: JournalOption = None, as_json: JsonOption = False) -> None:
    """List the runs in the journal, the latest first."""
    with the_journal(journal) as opened:
        rows = [_summary(opened, run) for run in opened.runs()]
    lines = [
        f"{row['run']}  {row['state']:9}  {row['began']}  {row['graph']}"
        + (f"  {row['uncertain']} uncertain" if row["uncertain"] else "")
        for row in rows
    ]
    print_result({"runs": rows}, as_json, "\n".join(lines) or "no runs")


@app.command()
def show(
    run: RunArgument,
    replay: Annotated[
        bool, typer.Option("--replay", help="Run it again from its record alone, without an engine.")
    ] = False,
    graph: GraphOption = "",
    journal: JournalOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what is recorded of a run: its nodes, its calls, what is uncertain."""
    with the_journal(journal) as opened:
        found = opened.run(run)
        if replay:
            _go_on(found, opened.replay(found.run), graph, "", 600.0, quiet=False, as_json=as_json)
            return
        records = opened.records(found.run)
        data = {**_summary(opened, found), "value": _text(found.value), "nodes": [_node(record) for record in records]}
    print_result(data, as_json, "\n".join(_describe(data, records)))


@app.command()
def resume(
    run: RunArgument,
    assume_done: Annotated[
        list[str] | None, typer.Option(metavar="PATH=VALUE", help="An uncertain call happened and gave this (JSON).")
    ] = None,
    assume_failed: Annotated[
        list[str] | None, typer.Option(metavar="PATH", help="An uncertain call happened and failed.")
    ] = None,
    call_again: Annotated[
        list[str] | None, typer.Option(metavar="PATH", help="An uncertain call did not happen: make it.")
    ] = None,
    graph: GraphOption = "",
    engine: EngineOption = "",
    timeout: TimeoutOption = 600.0,
    quiet: QuietOption = False,
    journal: JournalOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with a run that was killed, interrupted or failed. What is recorded is not done again."""
    with the_journal(journal) as opened:
        found = opened.run(run)
        for given in assume_done or ():
            path, value = _pair(given)
            opened.resolve(found.run, path, "done", value)
        for path in assume_failed or ():
            opened.resolve(found.run, path, "failed")
        for path in call_again or ():
            opened.resolve(found.run, path, "again")
        _go_on(found, opened.resume(found.run), graph, engine, timeout, quiet=quiet, as_json=as_json)


@app.command()
def fork(
    run: RunArgument,
    at: Annotated[str, typer.Option(help="Path of the node to run again, with all that comes after it.")] = "",
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A new value (JSON) of an input or a node.")
    ] = None,
    graph: GraphOption = "",
    engine: EngineOption = "",
    timeout: TimeoutOption = 600.0,
    quiet: QuietOption = False,
    journal: JournalOption = None,
    as_json: JsonOption = False,
) -> None:
    """Begin a new run with all of another one that is not downstream of a change."""
    with the_journal(journal) as opened:
        found = opened.run(run)
        past = opened.fork(found.run, at=at, changes=dict(_pair(given) for given in changes or ()))
        _go_on(found, past, graph, engine, timeout, quiet=quiet, as_json=as_json)


@app.command()
def export(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="Ids of runs, or their first letters; all, if none.")
    ] = None,
    graph: Annotated[str, typer.Option("--graph", help="Only runs of the graph or recipe of this name.")] = "",
    trajectories: Annotated[
        bool, typer.Option("--trajectories", help="As serial trajectories, which `plait data parallel` takes.")
    ] = False,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Runs that failed or were cut off, too.")] = False,
    journal: JournalOption = None,
) -> None:
    """Write runs as chat data for training, a conversation a line: what the model did not write has weight 0."""
    from .recipes.trajectories import export as lines_of
    from .recipes.trajectories import trajectory_of

    with the_journal(journal) as opened:
        chosen = [opened.run(run) for run in runs] if runs else opened.runs()[::-1]
        for run in chosen:
            if (graph and run.graph != graph) or not (unfinished or run.state == "done"):
                continue
            lines = [trajectory_of(opened, run.run).as_dict()] if trajectories else lines_of(opened, run.run)
            for line in lines:
                sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")


def _go_on(run: RunRecord, past: Past, graph: str, engine: str, timeout: float, *, quiet: bool, as_json: bool) -> None:
    """Run the graph that a run was of, and print its answer."""
    source = run.source
    if not graph and not source:
        raise InputError(
            f"run {run.run} of graph '{run.graph}' was not begun by the command line: say --graph FILE.py:{run.graph}"
        )
    made: Graph[Any] = make_graph(
        graph or source["recipe"],
        [Path(table) for table in source.get("facts", ())],
        list(source.get("settings", ())),
        engine or source.get("engine", "local"),
    )
    result = run_to_end(
        made,
        [],
        timeout=timeout,
        engine=engine or source.get("engine", "local"),
        seed=run.seed,
        quiet=quiet,
        answer=ask,
        journal=past,
        source=source,
    )
    print_result(result, as_json, _shown(result["answer"]))


def _summary(journal: Journal, run: RunRecord) -> dict[str, Any]:
    began = datetime.fromtimestamp(run.at).isoformat(sep=" ", timespec="seconds")
    uncertain = [record.path for record in journal.uncertain(run.run)]
    return {
        "run": run.run,
        "state": run.state,
        "graph": run.graph,
        "engine": run.engine,
        "seed": run.seed,
        "began": began,
        "parent": run.parent,
        "usage": dict(run.usage),
        "uncertain": uncertain,
    }


def _node(record: Record) -> dict[str, Any]:
    return {
        "path": record.path,
        "sample": record.sample,
        "kind": record.kind,
        "title": record.title,
        "state": record.state,
        "value": _text(record.value),
        "usage": dict(record.usage),
    }


def _describe(data: Mapping[str, Any], records: Sequence[Record]) -> Iterator[str]:
    parent = f", forked from {data['parent']}" if data["parent"] else ""
    yield f"run {data['run']} of {data['graph']} on {data['engine'] or 'no engine'}: {data['state']}{parent}"
    shown = [record for record in records if record.kind != "context"]
    for record in sorted(shown, key=lambda record: record.at):
        indent = "  " * (1 + record.path.count("/"))
        text = " ".join(_text(record.value).split())
        yield f"{indent}{record.state:9} {record.kind} {record.path}  {text[:100]}".rstrip()
    for path in data["uncertain"]:
        yield f"uncertain: {path} may have happened; resume with --assume-done, --assume-failed or --call-again"
    if data["value"]:
        yield f"value: {data['value']}"


def _text(value: str) -> str:
    """A record's value as it reads: without the mark that says how it was written."""
    if value[:1] in ("=", ":", "~"):
        value = value[1:]
    try:
        found = json.loads(value)
    except ValueError:
        return value
    if isinstance(found, dict) and "text" in found:
        return str(found["text"])
    return found if isinstance(found, str) else value


def _pair(given: str) -> tuple[str, Any]:
    """Name and value of NAME=VALUE; a value that is no JSON is text."""
    name, found, value = given.partition("=")
    if not found:
        raise InputError(f"'{given}' is no NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

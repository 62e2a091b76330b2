"""The commands on concept memories, `plait memory import` and its like, and `plait bench memory`."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .cli import JsonOption, app, bench_app, print_result
from .errors import InputError

if TYPE_CHECKING:
    from .memory import Memory, Reading, Rejection

memory_app = typer.Typer(help="Keep concepts that outlive a run.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(memory_app, name="memory")

StoreOption = Annotated[
    Path | None, typer.Option("--store", help="File of the memory; else $PLAIT_MEMORY, or one of your own.")
]


@memory_app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(help="Memories, annotations or lessons of ArcMemo, JSON or YAML.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add what files hold, as one change. What is malformed is reported, and the rest kept."""
    from .memory import read_files

    reading = read_files(files)
    with _the_memory(store) as memory:
        added = memory.add([found.entry for found in reading.found], what=f"import {', '.join(map(str, files))}")
    rejections = [*reading.rejections, *_undefined(reading, set(added.undefined))]
    data = {
        "imported": added.imported,
        "merged": added.merged,
        "rejected": len(rejections),
        "rejections": [asdict(rejection) for rejection in rejections],
        "change": added.change,
    }
    lines = [f"{rejection.file}:{rejection.line}: {rejection.reason}" for rejection in rejections]
    counts = f"{added.imported} imported, {added.merged} merged, {len(rejections)} rejected"
    print_result(data, as_json, "\n".join([*lines, counts]))


@memory_app.command("list")
def list_(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List the concepts by name, with the problems that they were found in, and count what else there is."""
    with _the_memory(store) as memory:
        concepts, counts, changes = memory.concepts, memory.counts(), memory.history()
    rows = [
        {"name": concept.name, "kind": concept.kind, "subtype": concept.subtype, "used": len(concept.used_in)}
        for concept in concepts
    ]
    lines = [f"{row['used']:4}  {row['kind']:9}  {row['name']}" for row in rows]
    lines += [f"{count} {sort}{'' if count == 1 else 's'}" for sort, count in counts.items()] or ["nothing yet"]
    past = [{**asdict(change), "at": _when(change.at)} for change in changes]
    print_result({"concepts": rows, "counts": counts, "changes": past}, as_json, "\n".join(lines))


@memory_app.command()
def show(
    name: Annotated[str, typer.Argument(help="Name of a concept.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a concept in full, and the changes that it came from."""
    from .memory import render_entry

    with _the_memory(store) as memory:
        concept, changes = memory.concept(name), memory.history(name)
    lines = [render_entry(concept), f"found in: {', '.join(concept.used_in) or 'nothing yet'}"]
    lines += [f"change {change.number}, {_when(change.at)}: {change.what}" for change in changes]
    data = {**asdict(concept), "changes": [{**asdict(change), "at": _when(change.at)} for change in changes]}
    print_result(data, as_json, "\n".join(lines))


@memory_app.command()
def select(
    task: Annotated[str, typer.Argument(help="What the concepts should help with; - reads it from stdin.")],
    top: Annotated[int, typer.Option(help="How many at most.")] = 10,
    characters: Annotated[int, typer.Option(help="How long the page may be; 0: any length.")] = 0,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Select what fits a task best, and print it as a page for a prompt."""
    from .memory import render

    if top < 1 or characters < 0:
        raise InputError(f"--top {top} --characters {characters} select nothing; use 1 or more, and 0 or more")
    with _the_memory(store) as memory:
        found = memory.search(sys.stdin.read() if task == "-" else task, top)
    page = render(found, least_used=0, budget=characters)
    print_result({"selected": [asdict(entry) for entry in found], "page": page}, as_json, page or "nothing fits")


@memory_app.command()
def export(
    file: Annotated[Path | None, typer.Argument(help="FILE.json or FILE.yaml; else JSON goes to stdout.")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the memory as ArcMemo's file."""
    from .memory import write_json, write_yaml

    with _the_memory(store) as memory:
        entries = memory.entries
    if file is None:
        sys.stdout.write(write_json(entries))
        return
    text = write_yaml(entries) if file.suffix in (".yaml", ".yml") else write_json(entries)
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{file} can't be written: {error}") from error
    print_result({"file": str(file), "entries": len(entries)}, as_json, f"{len(entries)} entries written to {file}")


@memory_app.command()
def undo(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Forget what the latest change has added."""
    with _the_memory(store) as memory:
        change, counts = memory.undo(), memory.counts()
    data = {"undone": {**asdict(change), "at": _when(change.at)}, "counts": counts}
    print_result(data, as_json, f"undone: change {change.number}, {change.what}")


@bench_app.command("memory")
def bench_memory(
    concepts: Annotated[int, typer.Option(min=100, help="How many concepts the memory holds.")] = 100_000,
    as_json: JsonOption = False,
) -> None:
    """How long it takes to select from a large memory, and what is missed."""
    from .benchmarks import memory

    memory.main(concepts=concepts, as_json=as_json)


def _the_memory(file: Path | None) -> Memory:
    """The memory in a file, in $PLAIT_MEMORY, or in the user's own state folder."""
    from .memory import Memory

    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Memory(file or os.environ.get("PLAIT_MEMORY") or Path(state) / "plait" / "memory.db")


def _undefined(reading: Reading, names: set[str]) -> list[Rejection]:
    """Where concepts are named that have no kind yet."""
    from .memory import Concept, Rejection

    return [
        Rejection(
            found.file, found.line, f"concept '{found.entry.name}' has no kind; it is kept until an entry gives one"
        )
        for found in reading.found
        if isinstance(found.entry, Concept) and found.entry.name in names
    ]


def _when(at: float) -> str:
    return datetime.fromtimestamp(at).isoformat(" ", "seconds")

"""What does the shared-KV engine gain? Its parts beside what one does without them, in one run; see each section."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from plait.benchmarks import countdown, decode, edits, invariant, plots, prefix, teams, tim
from plait.benchmarks.table import Table
from plait.errors import UnknownNameError

SECTIONS: dict[str, Callable[[Path], Table]] = {
    "decode": decode.measure,
    "edits": edits.measure,
    "prefix": prefix.measure,
    "invariant": invariant.measure,
    "teams": teams.measure,
    "tim": tim.measure,
    "countdown": countdown.measure,
}


def main(*, only: Sequence[str] = (), figures: Path | None = None, as_json: bool = False) -> None:
    """Print the tables of all sections, or of those named, or the same as data; draw them into `figures`, if given."""
    if unknown := [name for name in only if name not in SECTIONS]:
        raise UnknownNameError(f"unknown section '{unknown[0]}'; known: {', '.join(SECTIONS)}")
    tables: dict[str, Table] = {}
    for name in only or SECTIONS:
        sys.stderr.write(f"measuring {name} …\n")
        with tempfile.TemporaryDirectory() as folder:
            tables[name] = SECTIONS[name](Path(folder))
        if not as_json:
            print(tables[name].text(), end="\n\n", flush=True)
    if as_json:
        print(json.dumps({"tables": [table.as_dict() for table in tables.values()]}))
    if figures is not None:
        for path in plots.draw(tables, figures):
            sys.stderr.write(f"drawn: {path}\n")

"""What does the shared-KV engine gain? Its parts beside what one does without them, in one run; see each section."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from plait.benchmarks import countdown, decode, edits, prefix
from plait.benchmarks.table import Table
from plait.errors import UnknownNameError

SECTIONS: dict[str, Callable[[Path], Table]] = {
    "decode": decode.measure,
    "edits": edits.measure,
    "prefix": prefix.measure,
    "countdown": countdown.measure,
}


def main(*, only: Sequence[str] = (), as_json: bool = False) -> None:
    """Print the tables of all sections, or of those named, or the same as data."""
    if unknown := [name for name in only if name not in SECTIONS]:
        raise UnknownNameError(f"unknown section '{unknown[0]}'; known: {', '.join(SECTIONS)}")
    tables = []
    for name in only or SECTIONS:
        sys.stderr.write(f"measuring {name} …\n")
        with tempfile.TemporaryDirectory() as folder:
            tables.append(SECTIONS[name](Path(folder)))
        if not as_json:
            print(tables[-1].text(), end="\n\n", flush=True)
    if as_json:
        print(json.dumps({"tables": [table.as_dict() for table in tables]}))

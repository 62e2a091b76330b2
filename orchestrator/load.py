"""Graphs from Python files: `FILE.py`, or `FILE.py:name` where a file has several."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

from ..errors import InputError, PlaitError
from .graph import Graph


def names_a_file(text: str) -> bool:
    """Whether a text names a Python file, and perhaps a graph in it."""
    return text.partition(":")[0].endswith(".py")


def load_graph(text: str) -> Graph[Any]:
    """Run the file and give its graph. Raises InputError, and what plait raises in the file."""
    file, _, name = text.partition(":")
    if not Path(file).is_file():
        raise InputError(f"there is no file {file}; give FILE.py or FILE.py:GRAPH")
    try:
        values = runpy.run_path(file)
    except PlaitError:
        raise
    except Exception as error:
        raise InputError(f"{file} can't be run: {type(error).__name__}: {error}") from error
    graphs = {key: value for key, value in values.items() if isinstance(value, Graph)}
    if name:
        if name not in graphs:
            raise InputError(f"{file} has no graph '{name}'; it has: {', '.join(graphs) or 'none'}")
        return graphs[name]
    if not graphs:
        raise InputError(f"{file} has no graph; write one under @plait.graph")
    if len(graphs) > 1:
        raise InputError(f"{file} has several graphs: {', '.join(graphs)}; say which: {file}:{next(iter(graphs))}")
    return next(iter(graphs.values()))

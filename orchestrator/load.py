"""Graphs from Python files: `FILE.py`, or `FILE.py:name` where a file has several."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
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
    graphs = {key: value for key, value in vars(imported(Path(file))).items() if isinstance(value, Graph)}
    if name:
        if name not in graphs:
            raise InputError(f"{file} has no graph '{name}'; it has: {', '.join(graphs) or 'none'}")
        return graphs[name]
    if not graphs:
        raise InputError(f"{file} has no graph; write one under @plait.graph")
    if len(graphs) > 1:
        raise InputError(f"{file} has several graphs: {', '.join(graphs)}; say which: {file}:{next(iter(graphs))}")
    return next(iter(graphs.values()))


def imported(file: Path) -> ModuleType:
    """The file as a module of its own name, which stays known and finds what stands beside it, as imported ones do."""
    known = sys.modules.get(file.stem)
    own = known is None or getattr(known, "__file__", None) == str(file.absolute())
    module = ModuleType(file.stem if own else f"{file.stem}_graph")
    module.__file__ = str(file.absolute())
    if (folder := str(file.absolute().parent)) not in sys.path:
        sys.path.insert(0, folder)
    sys.modules[module.__name__] = module
    try:
        exec(compile(file.read_bytes(), str(file), "exec"), vars(module))
    except BaseException as error:
        del sys.modules[module.__name__]
        if isinstance(error, PlaitError) or not isinstance(error, Exception | SystemExit):
            raise
        raise InputError(f"{file} can't be run: {type(error).__name__}: {error}") from error
    return module

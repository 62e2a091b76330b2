"""Spaces by name: those that ship, and those in a user's Python file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ...errors import DataError, InputError, UnknownNameError
from ...orchestrator.load import imported, names_a_file
from ..evaluation import Dataset
from .archon_space import archon_space
from .space import Choice, Point, Space, Whole

TEMPERATURES = (0.5, 1.0, 1.5, 2.0)


def techniques_space(dataset: Dataset, *, most_samples: int = 10) -> Space:
    """Samples of one model at some temperature, with or without a greedy one, and what chooses among them.

    The dataset's instructions are the system's message, and its pattern says where answers stand.
    """

    def architecture(point: Point) -> list[dict[str, Any]]:
        prompt = {"prompt": dataset.instructions} if dataset.instructions else {}
        generate = {"component": "generate", "max_tokens": 256, "stop": list(dataset.stop), **prompt}
        if point["technique"] == "greedy":
            return [{**generate, "samples": 1, "temperature": 0.0}]
        generate |= {"samples": point["samples"], "temperature": point["temperature"]}
        if point["technique"] == "first":
            return [generate]
        vote: dict[str, Any] = {"component": "vote", "answer": dataset.answer}
        return [generate | {"greedy": point["technique"] == "hedged vote"}, vote]

    sampled = ("first", "vote", "hedged vote")
    return Space(
        "techniques",
        [
            Choice("technique", ("greedy", *sampled)),
            Choice("temperature", TEMPERATURES, when={"technique": sampled}),
            Whole("samples", 1, most_samples, when={"technique": sampled}),
        ],
        architecture,
    )


SPACES: Mapping[str, Callable[[Dataset], Space]] = {
    "archon": lambda dataset: archon_space(),
    "techniques": techniques_space,
}


def find_space(name: str, dataset: Dataset) -> Space:
    """A space that ships, or FILE.py[:SPACE]; a function in a file is called with the dataset. Raises UnknownNameError,
    DataError and InputError."""
    if names_a_file(name):
        return _load(name, dataset)
    if name not in SPACES:
        near = get_close_matches(name, SPACES, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise UnknownNameError(f"unknown space '{name}'; {hint}known: {', '.join(SPACES)}, or FILE.py[:SPACE]")
    return SPACES[name](dataset)


def _load(name: str, dataset: Dataset) -> Space:
    file, _, wanted = name.rpartition(":") if ".py:" in name else (name, "", "")
    if not Path(file).is_file():
        raise DataError(f"space file {file} does not exist")
    found = vars(imported(Path(file)))
    if wanted:
        chosen = found.get(wanted)
        space = chosen(dataset) if callable(chosen) and not isinstance(chosen, Space) else chosen
    else:
        space = next((value for value in found.values() if isinstance(value, Space)), None)
    if not isinstance(space, Space):
        raise InputError(f"{file} has no space{f' {wanted!r}' if wanted else ''}; write NAME = plait.Space(…)")
    return space

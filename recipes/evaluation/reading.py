"""Datasets by name: JSONL and CSV files, Hugging Face datasets, and the embedded tasks."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...errors import DataError, InputError, MissingExtraError
from ...tools.table import fault
from .embedded import embedded_dataset
from .items import Dataset, item_of

EMBEDDED, HUGGING_FACE = "embedded:", "hf:"
NO_FIELDS: Mapping[str, str] = {}


def read_dataset(name: str | Path, *, fields: Mapping[str, str] = NO_FIELDS, scorer: str = "exact") -> Dataset:
    """A dataset: FILE.jsonl, FILE.csv, "embedded:countdown[:COUNT]", or "hf:NAME[:CONFIG]:SPLIT".

    `fields` says which field holds an item's task, answer, choices, tests or id, where the usual names don't fit.
    Raises DataError, which names the line, UnknownNameError and MissingExtraError.
    """
    text = str(name)
    if text.startswith(EMBEDDED):
        return embedded_dataset(text.removeprefix(EMBEDDED))
    if text.startswith(HUGGING_FACE):
        return _from_hub(text.removeprefix(HUGGING_FACE), fields, scorer)
    path = Path(name)
    content = _content(path)
    rows = _json_lines(path, content) if path.suffix.lower() in (".jsonl", ".ndjson") else _csv_lines(path, content)
    items = [item_of(values, number, f"{path}, line {line}", fields) for number, (line, values) in enumerate(rows, 1)]
    if not items:
        raise DataError(f"{path} has no items; a dataset needs at least one")
    return Dataset(name=path.name, items=tuple(items), scorer=scorer)


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(
            f"dataset {path} can't be read: {error.strerror}; give a JSONL or CSV file, embedded:NAME or hf:NAME:SPLIT"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"dataset {path} is not UTF-8 at byte {error.start}; save it as UTF-8 text") from error


def _json_lines(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise fault(path, number, f"is not JSON: {error}") from None
        if not isinstance(values, dict):
            raise fault(path, number, f"is not a JSON object: {line[:40]}")
        yield number, values


def _csv_lines(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    head = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count), strict=True)
    header: list[str] = []
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise fault(path, number, f"is not CSV: {error}") from None
        if not any(cell.strip() for cell in cells):
            continue
        if not header:
            header = [cell.strip() for cell in cells]
            continue
        if len(cells) != len(header):
            raise fault(path, number, f"{len(cells)} cells where the header has {len(header)}")
        yield number, dict(zip(header, cells, strict=True))


def _from_hub(text: str, fields: Mapping[str, str], scorer: str) -> Dataset:
    """A Hugging Face dataset by NAME:SPLIT or NAME:CONFIG:SPLIT; a folder that `datasets` can load is a name, too."""
    parts = text.split(":")
    if not 2 <= len(parts) <= 3 or not all(parts):
        raise InputError(f"'hf:{text}' can't be read: write hf:NAME:SPLIT or hf:NAME:CONFIG:SPLIT")
    if find_spec("datasets") is None:
        raise MissingExtraError("reading Hugging Face datasets (package 'datasets')", "datasets")
    import datasets

    try:
        rows = datasets.load_dataset(parts[0], *parts[1:-1], split=parts[-1])
    except Exception as error:  # whatever a loader, the network or a file raises
        raise DataError(f"Hugging Face dataset '{text}' can't be loaded: {error}") from error
    items = [item_of(values, number, f"hf:{text}, row {number}", fields) for number, values in enumerate(rows, 1)]
    return Dataset(name=text, items=tuple(items), scorer=scorer)

"""The table: a CSV or JSONL file of the user's, read strictly; every fault names the file and the line."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError

_DELIMITERS = ",;\t"
_GROUPED_DIGITS = re.compile(r"[+-]?\d{1,3}(?:[,\u00a0\u2009\u202f ]\d{3})+(?:\.\d+)?")
_NUMBER = re.compile(r"[+-]?[\d., ]*\d[\d., ]*%?")


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of one row, as many as the table has columns, and the line on which it starts."""

    line: int
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A file's rows. The first column names what a row is about."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_table(path: str | Path) -> Table:
    """Read a CSV file (comma, semicolon or tab) or, by its suffix .jsonl or .ndjson, a file of one JSON object a line.

    White space in cells is collapsed, digits grouped in threes are joined ("34,352,719" is 34352719), an empty cell
    means not known. Raises DataError.
    """
    path = Path(path)
    text = _read_text(path)
    read = _read_jsonl if path.suffix.lower() in (".jsonl", ".ndjson") else _read_csv
    table = read(path, text)
    if not table.rows:
        raise DataError(f"{path} has no rows; a fact table needs a header and at least one row")
    _check_entities(table)
    return table


def fault(path: Path, line: int, what: str) -> DataError:
    """The error for a line of a file."""
    return DataError(f"{path}, line {line}: {what}")


# ---- reading


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"can't read {path}: {error.strerror}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise fault(path, line, f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8 text") from None
    if not text.strip():
        raise DataError(f"{path} is empty; a fact table needs a header and at least one row")
    if "\0" in text:
        raise fault(path, text[: text.index("\0")].count("\n") + 1, "holds a zero byte; a fact table is a text file")
    return text


def _read_csv(path: Path, text: str) -> Table:
    lines = _csv_lines(path, text)
    line, header = next(lines, (1, ()))
    columns = _check_columns(path, line, header)
    rows = []
    for line, cells in lines:
        if len(cells) != len(columns):
            raise fault(path, line, f"{len(cells)} cells where the header has {len(columns)}: {_start(cells)}")
        rows.append(Row(line, cells))
    return Table(path, columns, tuple(rows))


def _csv_lines(path: Path, text: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The lines that hold something, each with its number."""
    head = text.lstrip().partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=head.count), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = tuple(_clean(cell) for cell in next(reader))
        except StopIteration:
            return
        except csv.Error as error:
            raise fault(path, line, f"is not CSV: {error}") from None
        if any(cells):
            yield line, cells


def _check_columns(path: Path, line: int, columns: tuple[str, ...]) -> tuple[str, ...]:
    if len(columns) < 2:
        raise fault(
            path, line, f"one column only ({_start(columns)}); a fact table has a name and its facts in columns"
        )
    for number, column in enumerate(columns, 1):
        if not column:
            raise fault(path, line, f"column {number} has no name; the first line is the header")
        if _NUMBER.fullmatch(column):
            raise fault(path, line, f"'{column}' can't name a column; is the header missing?")
    for column in columns:
        if columns.count(column) > 1:
            raise fault(path, line, f"two columns are named '{column}'")
    return columns


def _read_jsonl(path: Path, text: str) -> Table:
    objects = [(line, _object(path, line, source)) for line, source in enumerate(text.split("\n"), 1) if source.strip()]
    columns = tuple(dict.fromkeys(key for _, values in objects for key in values))
    _check_columns(path, objects[0][0], columns)
    rows = []
    for line, values in objects:
        if columns[0] not in values:
            raise fault(path, line, f"no '{columns[0]}', which names what the line is about")
        rows.append(Row(line, tuple(values.get(column, "") for column in columns)))
    return Table(path, columns, tuple(rows))


def _object(path: Path, line: int, source: str) -> dict[str, str]:
    try:
        values = json.loads(source, parse_int=str, parse_float=str, parse_constant=str)  # figures as they are written
    except json.JSONDecodeError as error:
        raise fault(path, line, f"is not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise fault(path, line, "is not a flat JSON object: it nests too deeply") from None
    if not isinstance(values, dict):
        raise fault(path, line, f"is not a JSON object: {source[:40]}")
    return {_clean(key): _cell(path, line, key, value) for key, value in values.items()}


def _cell(path: Path, line: int, key: str, value: Any) -> str:
    if isinstance(value, list):
        separator = "|" if key == "aliases" else ", "
        return separator.join(_cell(path, line, key, item) for item in value)
    if isinstance(value, dict):
        raise fault(path, line, f"'{key}' holds an object; a fact is a text, a number or a list of these")
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else _clean(value)


def _clean(cell: str) -> str:
    cell = " ".join(cell.split())
    return re.sub(r"[^\d.+-]", "", cell) if _GROUPED_DIGITS.fullmatch(cell) else cell


def _check_entities(table: Table) -> None:
    seen: dict[str, int] = {}
    for row in table.rows:
        entity = row.cells[0]
        if not entity:
            raise fault(table.path, row.line, f"'{table.columns[0]}' is empty; it names what the line is about")
        if entity.casefold() in seen:
            raise fault(table.path, row.line, f"'{entity}' is already on line {seen[entity.casefold()]}")
        seen[entity.casefold()] = row.line


def _start(cells: tuple[str, ...]) -> str:
    text = ", ".join(cells)
    return text if len(text) <= 60 else f"{text[:60]}…"

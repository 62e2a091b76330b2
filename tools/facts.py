"""The fact table: what is known of entities, found by "attribute of entity", exactly first, then by full text."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, Final, Self

from ..errors import InputError
from .table import Row, Table, fault, read_table
from .tool import Tool, tool
from .wording import FILLERS, attribute_keys, name_key, words

UNKNOWN: Final = "unknown"
BUILT_IN: Final = tuple(Path(__file__).parent / "data" / name for name in ("countries.csv", "cities.csv"))

_SCHEMA = """
    CREATE TABLE fact (id INTEGER PRIMARY KEY, source INTEGER, line INTEGER, entity_key TEXT, attribute_key TEXT,
                       entity TEXT, attribute TEXT, value TEXT, year TEXT);
    CREATE INDEX fact_by_key ON fact (entity_key, attribute_key);
    CREATE TABLE name (key TEXT, entity_key TEXT, PRIMARY KEY (key, entity_key)) WITHOUT ROWID;
    CREATE INDEX name_by_entity ON name (entity_key);
    CREATE VIRTUAL TABLE fact_text USING fts5 (words, content='');
"""
_CONNECTORS = ("of", "in", "for", "on")
_POSSESSIVE = re.compile(r"['\u2019]s\b", re.IGNORECASE)
_MOST_CANDIDATES = 100
_LONGEST_QUERY = 300


@dataclass(frozen=True, slots=True)
class Fact:
    """One known thing: `value` is plain text, `year` the year of the figure ("" if the table has none)."""

    entity: str
    attribute: str
    value: str
    year: str
    path: Path
    line: int


class FactTable:
    """Facts from one or more tables; where two tables know the same thing, the later one is believed.

    A table's first column is the entity, every other an attribute; a column `X_year` holds the year of X's figure,
    and `aliases` further names of the entity, separated by "|". Immutable once made, so that threads may share it.
    """

    def __init__(self, tables: Iterable[Table]) -> None:
        self._paths: list[Path] = []
        self._lock = Lock()
        self._database = sqlite3.connect(":memory:", check_same_thread=False)
        self._database.executescript(_SCHEMA)
        with self._database:
            for table in tables:
                self._add(table)

    @classmethod
    def load(cls, *paths: str | Path, built_in: bool = True) -> Self:
        """Read tables (see `read_table`), beside or instead of the built-in ones. Raises DataError, InputError."""
        if not paths and not built_in:
            raise InputError("no fact table: give a CSV or JSONL file, or leave built_in=True")
        return cls([*(_built_in_tables() if built_in else ()), *map(read_table, paths)])

    def find(self, query: str) -> Fact | None:
        """The fact that a query such as "population of Peru" asks for; None if it isn't known or isn't clear.

        A text of more than 300 characters is no query.
        """
        if len(query) > _LONGEST_QUERY:
            return None
        for attribute, entity in _readings(query):
            fact = self.fact(attribute, entity)
            if fact is not None:
                return fact
        return self._search(query) or self._search(_POSSESSIVE.sub(" ", query))

    def fact(self, attribute: str, entity: str) -> Fact | None:
        """The attribute of the entity, by their names, synonyms and aliases; None if it isn't known."""
        entities = self._entities(name_key(entity))
        attributes = attribute_keys(attribute)
        rows = self._select(
            f"SELECT * FROM fact WHERE entity_key IN ({_marks(entities)}) AND attribute_key IN ({_marks(attributes)})",
            *entities,
            *attributes,
        )
        if not rows:
            return None
        best = min(
            rows,
            key=lambda row: (
                -row["source"],
                attributes.index(row["attribute_key"]),
                entities.index(row["entity_key"]),
            ),
        )
        return Fact(
            best["entity"], best["attribute"], best["value"], best["year"], self._paths[best["source"]], best["line"]
        )

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes' names, in the order of the tables."""
        return tuple(row["attribute"] for row in self._select("SELECT attribute FROM fact GROUP BY 1 ORDER BY min(id)"))

    @property
    def entities(self) -> tuple[str, ...]:
        """The entities' names, in the order of the tables."""
        return tuple(row["entity"] for row in self._select("SELECT entity FROM fact GROUP BY 1 ORDER BY min(id)"))

    # ---- filling

    def _add(self, table: Table) -> None:
        source = len(self._paths)
        self._paths.append(table.path)
        lines: dict[str, int] = {}
        for row in table.rows:
            key = name_key(row.cells[0])
            if key in lines:
                raise fault(
                    table.path, row.line, f"'{row.cells[0]}' is already on line {lines[key]}, written otherwise"
                )
            lines[key] = row.line
            names = (key, *map(name_key, _aliases(table, row)))
            self._database.executemany("INSERT OR IGNORE INTO name VALUES (?, ?)", [(name, key) for name in names])
            for attribute, value, year in _facts_of(table, row):
                self._insert(source, row, names, attribute, value, year)

    def _insert(self, source: int, row: Row, names: tuple[str, ...], attribute: str, value: str, year: str) -> None:
        keys = attribute_keys(attribute)
        cursor = self._database.execute(
            "INSERT INTO fact VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)",
            (source, row.line, names[0], keys[0], row.cells[0], attribute, value, year),
        )
        text = " ".join((*names, *keys))
        self._database.execute("INSERT INTO fact_text (rowid, words) VALUES (?, ?)", (cursor.lastrowid, text))

    # ---- finding

    def _entities(self, key: str) -> tuple[str, ...]:
        """Keys of the entities that a name may mean: those so called, then those called by one of their aliases.

        Empty if the name is only an alias, and of several.
        """
        called = self._keys("SELECT entity_key FROM name WHERE key = ? ORDER BY entity_key <> key, entity_key", key)
        if len(called) > 1 and key not in called:
            return ()
        others = self._keys(
            f"SELECT entity_key FROM name WHERE key = entity_key AND key IN "
            f"(SELECT key FROM name WHERE entity_key IN ({_marks(called)})) ORDER BY entity_key",
            *called,
        )
        return tuple(dict.fromkeys((*called, *others)))

    def _search(self, query: str) -> Fact | None:
        """Full text: the one fact whose names and attribute are made of exactly the query's words, in any order."""
        asked = frozenset(words(query)) - FILLERS
        if not asked:
            return None
        match = " ".join(f'"{word}"' for word in sorted(asked))
        rows = self._select(
            "SELECT entity_key, attribute_key FROM fact JOIN fact_text ON fact.id = fact_text.rowid "
            "WHERE fact_text MATCH ? LIMIT ?",
            match,
            _MOST_CANDIDATES,
        )
        found = {
            self.fact(row["attribute_key"], row["entity_key"])
            for row in rows
            if self._says(row["entity_key"], row["attribute_key"], asked)
        }
        return found.pop() if len(found) == 1 and len(rows) < _MOST_CANDIDATES else None

    def _says(self, entity: str, attribute: str, asked: frozenset[str]) -> bool:
        names = self._keys("SELECT key FROM name WHERE entity_key = ?", entity)
        return any(
            frozenset((*name.split(), *key.split())) - FILLERS == asked
            for name in names
            for key in attribute_keys(attribute)
        )

    def _keys(self, statement: str, *values: object) -> list[str]:
        return [row[0] for row in self._select(statement, *values)]

    def _select(self, statement: str, *values: object) -> list[sqlite3.Row]:
        with self._lock:
            cursor = self._database.cursor()
            cursor.row_factory = sqlite3.Row
            return cursor.execute(statement, values).fetchall()


def facts(*paths: str | Path, built_in: bool = True) -> Tool[..., str]:
    """The tool "lookup" over the built-in tables (countries and cities) and tables of the user's, read now.

    `built_in=False` leaves the built-in ones out. Raises DataError for a file that can't be read.
    """
    return lookup_in(FactTable.load(*paths, built_in=built_in))


def lookup_in(table: FactTable) -> Tool[..., str]:
    """The tool "lookup" over a table."""

    @tool(cap=64, idempotent=True)
    async def lookup(query: str) -> str:
        """Look up one fact. What is not in the tables is unknown.

        Args:
            query: an attribute of an entity, for example "population of Peru" or "capital of Bolivia"
        """
        found = table.find(query)  # microseconds, in memory: no thread needed
        return UNKNOWN if found is None else found.value

    return lookup


# ---- reading rows and queries


@cache
def _built_in_tables() -> tuple[Table, ...]:
    return tuple(map(read_table, BUILT_IN))


def _aliases(table: Table, row: Row) -> list[str]:
    if "aliases" not in table.columns[1:]:
        return []
    cell = row.cells[table.columns.index("aliases", 1)]
    return [alias for alias in cell.split("|") if alias.strip()]


def _facts_of(table: Table, row: Row) -> Iterator[tuple[str, str, str]]:
    """The attribute, value and year of each fact of a row; an empty cell is none."""
    cells = dict(zip(table.columns, row.cells, strict=True))
    for column in table.columns[1:]:
        subject = column.removesuffix("_year")
        if column == "aliases" or not cells[column] or (subject != column and subject in table.columns[1:]):
            continue
        yield column.replace("_", " "), cells[column], cells.get(f"{column}_year", "")


def _readings(query: str) -> Iterator[tuple[str, str]]:
    """The ways to read a query as an attribute and an entity: "A of E" at each "of", "E's A", then "A in E"."""
    for connector in _CONNECTORS:
        for found in re.finditer(rf"\s+{connector}\s+", query, re.IGNORECASE):
            yield query[: found.start()], query[found.end() :].rstrip(" ?.!")
        if connector == "of" and (owned := re.fullmatch(r"(.+?)['\u2019]s?\s+(.+?)[ ?.!]*", query, re.DOTALL)):
            yield owned[2], owned[1]


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))

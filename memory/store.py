"""The store: a memory in one SQLite file. It is a function of the set of entries that its changes have added, so that
the order of changes does not matter, and undoing one is forgetting its entries."""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

from ..errors import MemoryStoreError, UnknownNameError
from .concept import Concept, Entry, Lesson, Parameter, Solution, TypeName, merge_concepts, merge_solutions
from .words import stems

SCHEMA = 1
SEARCHED = 2000
"""How many entries a search looks at."""
_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE changes (
    change INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, what TEXT NOT NULL, undone INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE entries (
    change INTEGER NOT NULL REFERENCES changes, sort TEXT NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL,
    content TEXT NOT NULL, PRIMARY KEY (sort, name, digest)
) WITHOUT ROWID;
CREATE INDEX by_change ON entries (change);
CREATE TABLE items (
    item INTEGER PRIMARY KEY, sort TEXT NOT NULL, name TEXT NOT NULL, content TEXT NOT NULL, UNIQUE (sort, name)
);
CREATE VIRTUAL TABLE words USING fts5 (text);
CREATE TABLE vectors (
    model TEXT NOT NULL, item INTEGER NOT NULL, vector BLOB NOT NULL, PRIMARY KEY (model, item)
) WITHOUT ROWID;
CREATE INDEX by_item ON vectors (item);
CREATE TABLE counts (word TEXT PRIMARY KEY, items INTEGER NOT NULL) WITHOUT ROWID;
"""
_WAIT_SECONDS = 30.0
"""How long a process waits for another one's change."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a memory: what made it, and when (seconds since 1970)."""

    number: int
    what: str
    at: float
    undone: bool = False


@dataclass(frozen=True, slots=True)
class Added:
    """What came of adding entries. `imported` and `merged` count concepts and lessons: those that were new, and entries
    that met one that was there. `undefined` names concepts that none of their entries gives a kind; they are kept, and
    count as soon as one does."""

    change: int
    imported: int
    merged: int
    undefined: tuple[str, ...] = ()


class Memory:
    """A memory in a file: `with Memory("concepts.db") as memory: memory.add(entries, what="a run")`.

    Several processes may share it: each change is one transaction, and a process that is killed loses at most the
    change that it was making. Raises MemoryStoreError for a file that is no memory, or of another schema.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = self._open()
            self._check_schema()
        except (OSError, sqlite3.Error) as error:
            raise MemoryStoreError(f"memory {self.path} can't be opened: {error}; name another file") from error

    def close(self) -> None:
        """Idempotent."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- reading

    @property
    def concepts(self) -> list[Concept]:
        """All concepts, by name."""
        return [entry for entry in self._items("concept") if isinstance(entry, Concept)]

    @property
    def lessons(self) -> list[Lesson]:
        return [entry for entry in self._items("lesson") if isinstance(entry, Lesson)]

    @property
    def solutions(self) -> list[Solution]:
        return [entry for entry in self._items("solution") if isinstance(entry, Solution)]

    @property
    def types(self) -> list[TypeName]:
        """Types that were added, and those that concepts define, by name. The first definition counts."""
        found = {entry.name: entry for entry in self._items("type") if isinstance(entry, TypeName)}
        for concept in self.concepts:
            for name, definition in concept.types():
                found.setdefault(name, TypeName(name=name, definition=definition))
        return [found[name] for name in sorted(found)]

    @property
    def entries(self) -> list[Entry]:
        """All that the memory holds, merged."""
        return [*self.concepts, *self.solutions, *self.types, *self.lessons]

    def concept(self, name: str) -> Concept:
        """Raises UnknownNameError."""
        rows = self._read("SELECT content FROM items WHERE sort = 'concept' AND name = ?", name)
        if not rows:
            near = get_close_matches(name, [row[0] for row in self._read("SELECT name FROM items")], 3)
            hint = f"; near to it: {', '.join(near)}" if near else ""
            raise UnknownNameError(f"memory {self.path} has no concept '{name}'{hint}")
        return _concept(json.loads(rows[0][0]))

    def counts(self) -> dict[str, int]:
        """How many of each sort it holds."""
        return dict(self._read("SELECT sort, count(*) FROM items GROUP BY sort ORDER BY sort"))

    def history(self, name: str = "") -> list[Change]:
        """The changes of the memory, or those that have added to one name, the latest first."""
        where = "WHERE change IN (SELECT change FROM entries WHERE name = ?)" if name else ""
        rows = self._read(
            f"SELECT change, what, at, undone FROM changes {where} ORDER BY change DESC", *([name] if name else [])
        )
        return [Change(number, what, at, bool(undone)) for number, what, at, undone in rows]

    def search(self, text: str, top: int) -> list[Concept | Lesson]:
        """The concepts and lessons whose words fit a text best (BM25), the best first.

        Only the text's rarest words are looked for, as many as stand in `SEARCHED` entries at most: what is common
        weighs next to nothing, and would be read from every entry that has it.
        """
        return self.take(self.find(text, top))

    def find(self, text: str, top: int) -> list[int]:
        """`search`, as the items' numbers."""
        asked = " OR ".join(f'"{word}"' for word in self._rarest(stems(text)))
        if not asked or top < 1:
            return []
        rows = self._read("SELECT rowid FROM words WHERE words MATCH ? ORDER BY rank, rowid LIMIT ?", asked, top)
        return [item for (item,) in rows]

    def take(self, items: Sequence[int]) -> list[Concept | Lesson]:
        """The concepts and lessons of these numbers, in their order; those that are gone are left out."""
        entries = self.numbered(items)
        return [entries[item] for item in items if item in entries]

    def numbered(self, items: Sequence[int]) -> dict[int, Concept | Lesson]:
        """The concepts and lessons of these numbers, by number."""
        marks = ", ".join("?" * len(items))
        rows = self._read(f"SELECT item, sort, content FROM items WHERE item IN ({marks})", *items)
        entries = {item: _entry(sort, content) for item, sort, content in rows}
        return {item: entry for item, entry in entries.items() if isinstance(entry, Concept | Lesson)}

    def _rarest(self, words: Collection[str]) -> list[str]:
        """The rarest known words, in the order of how rare they are; the first of them always."""
        marks = ", ".join("?" * len(words))
        known = self._read(
            f"SELECT word, items FROM counts WHERE word IN ({marks}) AND items ORDER BY items, word", *words
        )
        sums = accumulate(items for _, items in known)
        return [
            word
            for index, ((word, _), sum_) in enumerate(zip(known, sums, strict=True))
            if not index or sum_ <= SEARCHED
        ]

    # ---- vectors

    @property
    def version(self) -> tuple[int, int]:
        """Another one after each change, whoever made it."""
        [(others,)] = self._read("PRAGMA data_version")
        return int(others), self._database.total_changes

    def vectors(self, model: str) -> list[tuple[int, bytes]]:
        """The items that have a vector of a model, by number, and the vectors."""
        return self._read("SELECT item, vector FROM vectors WHERE model = ? ORDER BY item", model)

    def without_vector(self, model: str, count: int) -> list[int]:
        """Some concepts and lessons that have none yet."""
        rows = self._read(
            "SELECT words.rowid FROM words LEFT JOIN vectors ON item = words.rowid AND model = ? WHERE item IS NULL "
            "ORDER BY words.rowid LIMIT ?",
            model,
            count,
        )
        return [item for (item,) in rows]

    def keep_vectors(self, model: str, vectors: Mapping[int, bytes]) -> None:
        """Keep vectors of items by number; of items that are gone none is kept."""
        with self._transaction() as database:
            database.executemany(
                "INSERT OR REPLACE INTO vectors SELECT ?, rowid, ? FROM words WHERE rowid = ?",
                [(model, vector, item) for item, vector in vectors.items()],
            )

    # ---- changing

    def add(self, entries: Iterable[Entry], *, what: str) -> Added:
        """Add entries as one change; those that are there already are not added twice."""
        entries = list(entries)
        names = {(_sort(entry), entry.name): entry for entry in entries}
        with self._transaction() as database:
            number = _begin(database, what)
            known = {key for key in names if _is_item(database, *key)}
            database.executemany(
                "INSERT OR IGNORE INTO entries VALUES (?, ?, ?, ?, ?)", [_row(number, entry) for entry in entries]
            )
            _settle(database, names)
            there = {key for key in names if _is_item(database, *key)}
        learned = [(_sort(entry), entry.name) for entry in entries if isinstance(entry, Concept | Lesson)]
        imported = len({key for key in learned if key in there - known})
        merged = sum(key in there for key in learned) - imported
        return Added(number, imported, merged, tuple(name for sort, name in names if (sort, name) not in there))

    def undo(self) -> Change:
        """Forget what the latest change has added, and no earlier one. Raises MemoryStoreError if there is none."""
        with self._transaction() as database:
            row = database.execute(
                "SELECT change, what, at FROM changes WHERE NOT undone ORDER BY change DESC LIMIT 1"
            ).fetchone()
            if row is None:
                raise MemoryStoreError(f"memory {self.path} has no change to undo")
            keys = database.execute("SELECT DISTINCT sort, name FROM entries WHERE change = ?", row[:1]).fetchall()
            database.execute("DELETE FROM entries WHERE change = ?", row[:1])
            database.execute("UPDATE changes SET undone = 1 WHERE change = ?", row[:1])
            _settle(database, keys)
        number, what, at = row
        return Change(number, what, at, undone=True)

    def check_integrity(self) -> None:
        """Every item is what its entries make of it, and its words can be found. Raises AssertionError."""
        with self._transaction() as database:
            keys = database.execute("SELECT DISTINCT sort, name FROM entries").fetchall()
            merged = {key: text for key in keys if (text := _merged(database, *key))}
            items = {
                (sort, name): text for sort, name, text in database.execute("SELECT sort, name, content FROM items")
            }
            assert items == merged, "an item is not what its entries make of it"
            words = dict(database.execute("SELECT rowid, text FROM words"))
            rows = database.execute("SELECT item, sort, content FROM items").fetchall()
            searched = {item: said for item, sort, content in rows if (said := _words(sort, content))}
            assert words == {item: " ".join(said) for item, said in searched.items()}, "words are missing, or left over"
            counted = Counter(word for said in searched.values() for word in set(said))
            assert counted == Counter(dict(database.execute("SELECT word, items FROM counts WHERE items"))), (
                "miscounted"
            )

    # ---- the file

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        return database

    def _check_schema(self) -> None:
        with self._transaction() as database:
            tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not tables:
                for statement in _TABLES.strip().split(";\n"):
                    database.execute(statement)
                database.execute("INSERT INTO meta VALUES ('memory', ?)", (SCHEMA,))
                return
            row = None
            if {"meta", "entries"} <= tables:
                row = database.execute("SELECT value FROM meta WHERE name = 'memory'").fetchone()
        if row is None:
            raise MemoryStoreError(f"{self.path} is a database, but no memory; name another file")
        if row[0] != SCHEMA:
            raise MemoryStoreError(
                f"memory {self.path} has schema {row[0]}, this version reads {SCHEMA}; export it with its own"
            )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, and one at a time."""
        with self._lock:
            try:
                self._database.execute("BEGIN IMMEDIATE")
                try:
                    yield self._database
                except BaseException:
                    self._database.execute("ROLLBACK")
                    raise
                self._database.execute("COMMIT")
            except sqlite3.Error as error:
                raise MemoryStoreError(f"memory {self.path} can't be changed: {error}") from error

    def _read(self, query: str, *values: object) -> list[Any]:
        with self._lock:
            try:
                return self._database.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise MemoryStoreError(f"memory {self.path} can't be read: {error}") from error

    def _items(self, sort: str) -> Iterator[Entry]:
        rows = self._read("SELECT content FROM items WHERE sort = ? ORDER BY name", sort)
        return (_entry(sort, content) for (content,) in rows)


# ---- rows


def _begin(database: sqlite3.Connection, what: str) -> int:
    cursor = database.execute("INSERT INTO changes (at, what) VALUES (?, ?)", (time.time(), what))
    return int(cursor.lastrowid or 0)


def _sort(entry: Entry) -> str:
    return {Concept: "concept", Lesson: "lesson", Solution: "solution", TypeName: "type"}[type(entry)]


def _row(change: int, entry: Entry) -> tuple[object, ...]:
    content = json.dumps(asdict(entry), ensure_ascii=False)
    digest = blake2b(content.encode(errors="surrogatepass"), digest_size=16).hexdigest()
    return change, _sort(entry), entry.name, digest, content


def _entry(sort: str, content: str) -> Entry:
    fields = json.loads(content)
    if sort == "concept":
        return _concept(fields)
    return Lesson(**fields) if sort == "lesson" else Solution(**fields) if sort == "solution" else TypeName(**fields)


def _concept(fields: dict[str, Any]) -> Concept:
    parameters = tuple(Parameter(**parameter) for parameter in fields["parameters"])
    lists = {name: tuple(fields[name]) for name in ("cues", "implementation", "used_in")}
    return Concept(**{**fields, **lists, "parameters": parameters})


def _is_item(database: sqlite3.Connection, sort: str, name: str) -> bool:
    return bool(database.execute("SELECT 1 FROM items WHERE sort = ? AND name = ?", (sort, name)).fetchone())


def _merged(database: sqlite3.Connection, sort: str, name: str) -> str:
    """What the entries of a name make together, empty if there is nothing, or a concept without a kind.

    They are taken in the order of what they say, so that the order in which they came does not matter.
    """
    query = "SELECT content FROM entries WHERE sort = ? AND name = ?"
    entries = [_entry(sort, content) for (content,) in database.execute(query, (sort, name))]
    concepts = [entry for entry in entries if isinstance(entry, Concept)]
    solutions = [entry for entry in entries if isinstance(entry, Solution)]
    merged: Entry
    if concepts:
        merged = merge_concepts(sorted(concepts, key=lambda concept: (concept.used_in, repr(concept))))
        if not merged.kind:
            return ""
    elif solutions:
        merged = merge_solutions(sorted(solutions, key=repr))
    elif entries:
        merged = min(entries, key=repr)
    else:
        return ""
    return json.dumps(asdict(merged), ensure_ascii=False)


def _settle(database: sqlite3.Connection, keys: Iterable[tuple[str, str]]) -> None:
    """Make items what their entries make of them."""
    words = Counter[str]()
    for sort, name in keys:
        content = _merged(database, sort, name)
        row = database.execute("SELECT item, content FROM items WHERE sort = ? AND name = ?", (sort, name)).fetchone()
        if row is not None and row[1] == content:
            continue
        if row is not None:
            database.execute("DELETE FROM items WHERE item = ?", row[:1])
            database.execute("DELETE FROM words WHERE rowid = ?", row[:1])
            database.execute("DELETE FROM vectors WHERE item = ?", row[:1])
            words.subtract(set(_words(sort, row[1])))
        if content:
            cursor = database.execute("INSERT INTO items (sort, name, content) VALUES (?, ?, ?)", (sort, name, content))
            if said := _words(sort, content):
                database.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (cursor.lastrowid, " ".join(said)))
                words.update(set(said))
    database.executemany(
        "INSERT INTO counts VALUES (?, ?) ON CONFLICT (word) DO UPDATE SET items = items + excluded.items",
        words.items(),
    )


def _words(sort: str, content: str) -> list[str]:
    """What an item can be found by."""
    entry = _entry(sort, content)
    return stems(entry.text) if isinstance(entry, Concept | Lesson) else []

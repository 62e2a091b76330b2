"""Searching the files of a folder: full text by SQLite's FTS5, and by meaning where an embedding is given."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeAlias

from ..errors import InputError
from .tool import Tool, tool

Embed: TypeAlias = Callable[[Sequence[str]], Awaitable[Sequence[Sequence[float]]]]
"""Texts to vectors of one length; nearer in meaning is a greater cosine."""

PASSAGE = 1_000
"""Characters that a passage has at most, as far as its paragraphs allow."""
_RANK = 60
"""Reciprocal rank fusion (Cormack et al. 2009): a passage's score is the sum of 1 / (60 + its rank) over the orders."""


@dataclass(frozen=True, slots=True)
class Passage:
    """Some paragraphs of a file; `line` is the first one's, from 1."""

    file: str
    line: int
    text: str


def file_search(
    folder: str | Path, *, suffixes: Sequence[str] = (".md", ".rst", ".txt"), embed: Embed | None = None, cap: int = 8
) -> Tool[[str, int], list[Passage]]:
    """A tool that finds passages in the files below a folder; files that change are read again.

    Links that lead out of the folder are not followed. Raises InputError if there is no such folder.
    """
    index = FileIndex(Path(folder), tuple(suffixes), embed)

    @tool(name="search_files", cap=cap, idempotent=True)
    async def search_files(query: str, limit: int = 5) -> list[Passage]:
        """Find the passages of the user's files that speak of the query, best first.

        Args:
            query: Words to look for.
            limit: How many passages to give.
        """
        return await index.search(query, limit)

    return search_files


@dataclass(slots=True)
class FileIndex:
    """The passages of a folder's files, kept up with them at every search."""

    folder: Path
    suffixes: tuple[str, ...]
    embed: Embed | None = None
    _database: sqlite3.Connection = field(init=False)
    _known: dict[Path, tuple[int, int]] = field(default_factory=dict)
    _vectors: dict[int, Sequence[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise InputError(f"there is no folder {self.folder} to search; give one that exists")
        self.folder = self.folder.resolve()
        self._database = sqlite3.connect(":memory:")
        self._database.execute(
            "CREATE VIRTUAL TABLE passages "
            "USING fts5(text, file UNINDEXED, line UNINDEXED, tokenize='porter unicode61')"
        )

    async def search(self, query: str, limit: int) -> list[Passage]:
        """Passages in the order of relevance; with an embedding, of both orders fused."""
        self._read_changes()
        orders = [self._by_words(query)]
        if self.embed is not None:
            orders.append(await self._by_meaning(query, self.embed))
        scores: dict[int, float] = {}
        for order in orders:
            for rank, passage in enumerate(order):
                scores[passage] = scores.get(passage, 0.0) + 1 / (_RANK + rank)
        best = sorted(scores, key=lambda passage: (-scores[passage], passage))
        found = (self._passage(passage) for passage in best)
        return list(islice((passage for passage in found if passage is not None), max(limit, 0)))

    def _by_words(self, query: str) -> list[int]:
        words = ["".join(letter for letter in word if letter.isalnum()) for word in query.split()]
        wanted = " OR ".join(f'"{word}"' for word in words if word)
        if not wanted:
            return []
        found = self._database.execute("SELECT rowid FROM passages WHERE passages MATCH ? ORDER BY rank", (wanted,))
        return [row for (row,) in found]

    async def _by_meaning(self, query: str, embed: Embed) -> list[int]:
        new = [
            (row, text)
            for row, text in self._database.execute("SELECT rowid, text FROM passages")
            if row not in self._vectors
        ]
        vectors = await embed([query, *(text for _, text in new)])
        there = {row for (row,) in self._database.execute("SELECT rowid FROM passages")}  # files may have changed
        made = zip((row for row, _ in new), vectors[1:], strict=True)
        self._vectors.update((row, vector) for row, vector in made if row in there)
        return sorted(self._vectors, key=lambda row: (-_cosine(vectors[0], self._vectors[row]), row))

    def _passage(self, row: int) -> Passage | None:
        """None if its file has changed since it was found."""
        found = self._database.execute("SELECT file, line, text FROM passages WHERE rowid = ?", (row,)).fetchone()
        return Passage(*found) if found else None

    def _read_changes(self) -> None:
        """Read new and changed files, and forget those that are gone."""
        there = {path: (stat.st_mtime_ns, stat.st_size) for path in self._files() if (stat := path.stat())}
        for path in self._known.keys() - there.keys():
            self._forget(path)
        for path, state in there.items():
            if self._known.get(path) != state:
                self._forget(path)
                self._known[path] = state
                rows = [(text, str(path.relative_to(self.folder)), line) for line, text in passages(_read(path))]
                self._database.executemany("INSERT INTO passages (text, file, line) VALUES (?, ?, ?)", rows)

    def _forget(self, path: Path) -> None:
        if self._known.pop(path, None) is None:
            return
        name = str(path.relative_to(self.folder))
        for (row,) in self._database.execute("SELECT rowid FROM passages WHERE file = ?", (name,)).fetchall():
            self._vectors.pop(row, None)
        self._database.execute("DELETE FROM passages WHERE file = ?", (name,))

    def _files(self) -> list[Path]:
        found = (path for path in self.folder.rglob("*") if path.suffix in self.suffixes and path.is_file())
        return sorted(path for path in found if path.resolve().is_relative_to(self.folder))


def passages(text: str) -> Iterator[tuple[int, str]]:
    """Paragraphs joined to passages of up to PASSAGE characters, each with the number of its first line."""
    kept: list[str] = []
    first = 1
    for number, line in enumerate([*text.splitlines(), ""], 1):
        kept.append(line)
        if not line.strip() and sum(map(len, kept)) >= PASSAGE:
            yield from _passage_of(first, kept)
            kept, first = [], number + 1
    yield from _passage_of(first, kept)


def _passage_of(first: int, lines: list[str]) -> Iterator[tuple[int, str]]:
    text = "\n".join(lines)
    if text.strip():
        blank = len(text) - len(text.lstrip("\n"))
        yield first + blank, text.strip("\n")


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _cosine(left: Sequence[float], right: Sequence[float]) -> float:
    product = sum(a * b for a, b in zip(left, right, strict=True))
    sizes = sum(a * a for a in left) * sum(b * b for b in right)
    return product / sizes**0.5 if sizes else 0.0

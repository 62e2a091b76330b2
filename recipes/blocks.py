"""Parallel blocks, read while they are written: text in, outlines, counts and placed faults out (Multiverse, 2025).

    <Parallel><Goal><Outline>1: …</Outline>…</Goal><Path>1: …</Path>…<Conclusion>…</Conclusion></Parallel>

Blocks nest inside paths, at any depth; the outlines of a block in path 2 count 2.1, 2.2, ….
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Self

from ..errors import BlockError, DataError

_TAG = re.compile(r"<(/?)(Parallel|Goal|Outline|Path|Conclusion)>")
_TAGS = tuple(
    f"<{slash}{name}>" for slash in ("", "/") for name in ("Parallel", "Goal", "Outline", "Path", "Conclusion")
)
_INDEX = re.compile(r"\s*([0-9]+(?:\.[0-9]+)*)\s*:")
_INDEX_GOES_ON = re.compile(r"[\s0-9.]*")
_CLOSING_BLOCK = {
    "Goal": "<Goal></Goal><Conclusion></Conclusion></Parallel>",
    "Path": "<Conclusion></Conclusion></Parallel>",
    "end": "</Parallel>",
}
"""What closes a block, by the part that may come next."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a character stands in a text; both count from 1."""

    line: int = 1
    column: int = 1

    def after(self, text: str) -> Place:
        """The place behind a text that begins here."""
        lines = text.count("\n")
        return Place(self.line + lines, len(text) - text.rfind("\n") if lines else self.column + len(text))


@dataclass(frozen=True, slots=True)
class Outline:
    """What a path is to do. `index` is "" where the text names none."""

    index: str
    text: str


@dataclass(frozen=True, slots=True)
class BlockCount:
    """Closed blocks, paths and conclusions of a text, and how deep its blocks nest."""

    blocks: int = 0
    paths: int = 0
    conclusions: int = 0
    depth: int = 0


@dataclass(slots=True)
class _Element:
    """An element that is open.

    `head` is an outline's or path's text as long as its index isn't known. A Parallel knows the indices of its parts
    and which part may come `next`: its goal, its paths, or nothing but its end.
    """

    tag: str
    place: Place
    index: str | None = None
    head: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    outlines: set[str] = field(default_factory=set)
    paths: set[str] = field(default_factory=set)
    next: str = "Goal"


class Blocks:
    """Reads a text in pieces of any size; pieces make no difference.

    A tag where it can't stand is a BlockError at once. What a runtime can mend is a fault: outlines that are missing or
    named twice, paths without an outline, outlines without a path. `faults` holds them in order, and `close`, which
    judges a finished text, raises the first.
    """

    def __init__(self) -> None:
        self.faults: list[BlockError] = []
        self.outlines: list[Outline] = []
        """Those of the goal that closed last, or is open."""
        self._blocks = self._paths = self._conclusions = self._depth = self._level = 0
        self._open: list[_Element] = []
        self._held = ""
        self._place = Place()

    @classmethod
    def of_path(cls, index: str) -> Self:
        """A reader of what a path holds, up to its end tag; the path's opening tag and index have been read."""
        reader = cls()
        reader._open = [_Element("Path", Place(), index)]
        return reader

    def feed(self, text: str) -> None:
        """Read on. Raises BlockError."""
        text, position = self._held + text, 0
        for found in _TAG.finditer(text):
            self._read_text(text[position : found.start()])
            if found[1]:
                self._end(found[2])
            else:
                self._begin(found[2])
            self._place = self._place.after(found[0])
            position = found.end()
        whole = len(text) - _unfinished(text[position:])
        self._read_text(text[position:whole])
        self._held = text[whole:]

    def close(self) -> BlockCount:
        """The end of a finished text. Raises BlockError for what is open, or else the first fault."""
        held, self._held = self._held, ""
        self._read_text(held)
        if self.faults:
            raise self.faults[0]
        if self._open:
            last = self._open[-1]
            self._refuse(f"the text ends inside <{last.tag}> of {_at(last.place)}; expected </{last.tag}>")
        return self.count

    @property
    def open(self) -> tuple[str, ...]:
        """The tags that are open, outermost first."""
        return tuple(element.tag for element in self._open)

    @property
    def closing(self) -> str:
        """The shortest text that closes everything that is open. A tag that was cut while it was written stays text."""
        return "".join(
            _CLOSING_BLOCK[element.next] if element.tag == "Parallel" else f"</{element.tag}>"
            for element in reversed(self._open)
        )

    @property
    def count(self) -> BlockCount:
        return BlockCount(self._blocks, self._paths, self._conclusions, self._depth)

    # ---- text and tags, one by one

    def _read_text(self, text: str) -> None:
        inside = self._open[-1] if self._open else None
        if inside is not None and inside.tag == "Parallel":
            stray = text.lstrip()
            if stray:
                self._place = self._place.after(text[: len(text) - len(stray)])
                self._refuse(
                    f"text from {stray[0]!r} on stands in <Parallel> outside its parts{self._expected(inside)}"
                )
        elif inside is not None and inside.index is None and inside.tag in ("Outline", "Path"):
            inside.head.append(text)
            if ":" in text or not _INDEX_GOES_ON.fullmatch(text):
                self._read_index(inside)
        elif inside is not None and inside.tag == "Outline":
            inside.text.append(text)
        self._place = self._place.after(text)

    def _read_index(self, element: _Element) -> None:
        """The head of an outline or path is as long as it gets: what index does it name?"""
        head = "".join(element.head)
        found = _INDEX.match(head)
        element.index = found[1] if found else ""
        element.text.append(head[found.end() if found else 0 :])
        if not found:
            self._fault(element, f"<{element.tag}> has no index such as '1:'")
        elif element.tag == "Outline":
            self._check_outline(element)
        else:
            self._check_path(element)

    def _check_outline(self, element: _Element) -> None:
        block = self._open[-3]
        inside = self._open[-4].index if len(self._open) > 3 else ""
        due = f"{inside}.{len(block.outlines) + 1}".lstrip(".")
        if element.index in block.outlines:
            self._fault(element, f"outline {element.index} is there twice")
        elif element.index != due:
            self._fault(element, f"outline {due} is missing: {element.index} stands in its place")
        block.outlines.add(element.index or "")

    def _check_path(self, element: _Element) -> None:
        block = self._open[-2]
        if element.index in block.paths:
            self._fault(element, f"path {element.index} is there twice")
        elif element.index not in block.outlines:
            self._fault(element, f"path {element.index} has no outline")
        block.paths.add(element.index or "")

    def _begin(self, tag: str) -> None:
        inside = self._open[-1] if self._open else None
        self._settle_index(inside)
        match tag, inside.tag if inside else "":
            case "Parallel", "" | "Path":
                self._level += 1
                self._depth = max(self._depth, self._level)
            case "Goal", "Parallel" if inside and inside.next == "Goal":
                inside.next, self.outlines = "Path", []
            case "Outline", "Goal":
                pass
            case "Path", "Parallel" if inside and inside.next == "Path":
                pass
            case "Conclusion", "Parallel" if inside and inside.next == "Path":
                self._check_complete(inside)
                inside.next = "end"
            case _:
                where = f"<{inside.tag}> of {_at(inside.place)}" if inside else "the text"
                self._refuse(f"<{tag}> can't stand here in {where}{self._expected(inside)}")
        self._open.append(_Element(tag, self._place))

    def _end(self, tag: str) -> None:
        inside = self._open[-1] if self._open else None
        self._settle_index(inside)
        if inside is None or inside.tag != tag:
            where = f"<{inside.tag}> of {_at(inside.place)}" if inside else "the text"
            self._refuse(f"</{tag}> closes nothing in {where}{self._expected(inside)}")
        match tag:
            case "Parallel" if inside.next != "end":
                self._refuse(f"</Parallel> comes before the block's <{inside.next}>")
            case "Parallel":
                self._blocks += 1
                self._level -= 1
            case "Goal" if not self.outlines:
                self._fault(inside, "<Goal> has no outline")
            case "Outline":
                self.outlines.append(Outline(inside.index or "", "".join(inside.text).strip()))
            case "Path":
                self._paths += 1
            case "Conclusion":
                self._conclusions += 1
        self._open.pop()

    def _settle_index(self, inside: _Element | None) -> None:
        if inside is not None and inside.index is None and inside.tag in ("Outline", "Path"):
            self._read_index(inside)

    def _check_complete(self, block: _Element) -> None:
        missing = sorted(block.outlines - block.paths)
        if missing:
            self._fault(block, f"path {missing[0]} is missing before <Conclusion> of {_at(self._place)}")

    def _expected(self, inside: _Element | None) -> str:
        if inside is None:
            return ""
        part = inside.tag == "Parallel" and inside.next != "end"
        return f"; expected <{inside.next}>" if part else f"; expected </{inside.tag}>"

    def _fault(self, element: _Element, message: str) -> None:
        self.faults.append(BlockError(message, element.place.line, element.place.column))

    def _refuse(self, message: str) -> NoReturn:
        raise BlockError(message, self._place.line, self._place.column)


def check_blocks(text: str) -> BlockCount:
    """Read a finished text. Raises BlockError: the first fault, or where it can't be read further."""
    blocks = Blocks()
    try:
        blocks.feed(text)
    except BlockError as error:
        raise (blocks.faults or [error])[0] from None
    return blocks.close()


@dataclass(frozen=True, slots=True)
class FileReport:
    """What a file holds, or the error that its text gives (a DataError if it can't be read at all)."""

    file: str
    count: BlockCount
    error: BlockError | DataError | None = None

    @property
    def ok(self) -> bool:
        return self.error is None

    def as_dict(self) -> dict[str, Any]:
        if self.error is None:
            return {"file": self.file, "ok": True, **asdict(self.count)}
        placed = self.error if isinstance(self.error, BlockError) else None
        error = {
            "type": type(self.error).__name__,
            "message": placed.message if placed else str(self.error),
            "line": placed and placed.line,
            "column": placed and placed.column,
        }
        return {"file": self.file, "ok": False, "error": error}

    def describe(self) -> str:
        if self.error is None:
            return f"{self.file}: ok, " + ", ".join(f"{name} {number}" for name, number in asdict(self.count).items())
        if isinstance(self.error, BlockError):
            return f"{self.file}:{self.error.line}:{self.error.column}: {self.error.message}"
        return str(self.error)


def check_file(path: Path) -> FileReport:
    """Read a file with a finished text (UTF-8)."""
    try:
        return FileReport(str(path), check_blocks(_read_file(path)))
    except (BlockError, DataError) as error:
        return FileReport(str(path), BlockCount(), error)


def _read_file(path: Path) -> str:
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        place = Place().after(data[: error.start].decode())
        message = f"byte {data[error.start]:#04x} is not UTF-8; save the trace as UTF-8"
        raise BlockError(message, place.line, place.column) from error


def _at(place: Place) -> str:
    return f"line {place.line}, column {place.column}"


def _unfinished(text: str) -> int:
    """How many characters at the end may be the beginning of a tag."""
    start = text.rfind("<", -max(map(len, _TAGS)))
    return len(text) - start if start >= 0 and any(tag.startswith(text[start:]) for tag in _TAGS) else 0

"""ArcMemo's files: memories, annotations and lessons, read and written (arXiv:2509.04439, its released data).

A *memory* is a mapping of `concepts`, `solutions`, `custom_types` and `lessons`. *Annotations* say by problem what was
found in it: `summary`, `pseudocode` and a list of `concepts`, or a mapping of concepts by name. *Lessons* are lists of
`situation` and `suggestion` by problem. Keys are written either way: `routine_subtype` or `Routine Subtype`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import InputError, MissingExtraError
from .concept import KINDS, Concept, Entry, Lesson, Parameter, Solution, TypeName
from .marked import Marked, MarkedError, read_json, read_yaml

OLDER_KINDS = {
    "term definition": ("structure", ""),
    "grid manipulation": ("routine", "grid manipulation"),
    "intermediate operation": ("routine", "intermediate operation"),
    "parameter selection": ("routine", "parameter selection"),
}
"""What ArcMemo's earlier files have for a kind: our kind, and the subtype."""

_TEXTS = ("concept", "name", "kind", "routine_subtype", "output_typing", "description")
_LISTS = ("parameters", "cues", "implementation", "used_in")
_PARTS = ("concepts", "solutions", "custom_types", "lessons")
_BLOCK = re.compile(r"^(?=[^\s#])", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Found:
    """An entry, and where it stands."""

    entry: Entry
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Rejection:
    """What could not be taken from a file, and why."""

    file: str
    line: int
    reason: str


@dataclass(slots=True)
class Reading:
    """What was read from files."""

    found: list[Found] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)


def read_files(paths: Sequence[Path]) -> Reading:
    """All that files of any of the three forms hold, as JSON or YAML. What is malformed is rejected, the rest is kept.

    Raises InputError for a file that can't be opened, MissingExtraError for YAML without PyYAML.
    """
    reading = Reading()
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"memory file {path} can't be read: {error}") from error
        read_text(text, str(path), reading)
    return reading


def read_text(text: str, file: str, reading: Reading) -> None:
    """Add what one text holds to a reading. What begins with a brace or a bracket is JSON, all else YAML."""
    reader = _Reader(file, reading)
    read = read_json if text.lstrip()[:1] in ("{", "[") else read_yaml
    try:
        reader.read(read(text))
    except MarkedError as error:
        if read is read_json:
            reader.reject(error.line, error.reason)
        else:
            reader.read_blocks(text)


def write_json(entries: Iterable[Entry]) -> str:
    """A memory as ArcMemo's JSON; what is empty is null there."""
    return json.dumps(_memory(entries), indent=2, ensure_ascii=False) + "\n"


def write_yaml(entries: Iterable[Entry]) -> str:
    """A memory as YAML, of the same form. Raises MissingExtraError."""
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise MissingExtraError("writing YAML", "memory") from error
    text: str = yaml.dump(_memory(entries), Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=120)
    return text


class _Malformed(Exception):  # noqa: N818
    """An entry can't be taken; its line and the reason."""

    def __init__(self, at: Marked, reason: str) -> None:
        self.line = at.line
        self.reason = reason


class _Reader:
    """Reads the documents of one file."""

    def __init__(self, file: str, reading: Reading) -> None:
        self._file = file
        self._reading = reading

    def read(self, document: Marked) -> None:
        if set(document.mapping) & set(_PARTS):
            self._read_memory(document.mapping)
        elif document.mapping:
            for problem, said in document.mapping.items():
                self._attempt(partial(self._read_problem, problem, said))
        elif document.items:
            self._each(document.items, "")
        else:
            self.reject(document.line, "neither concepts nor lessons are here: a mapping or a list is")

    def read_blocks(self, text: str) -> None:
        """Read a broken YAML text part by part, each of which begins at the left margin."""
        starts = [match.start() for match in _BLOCK.finditer(text)] or [0]
        for start, stop in zip(starts, [*starts[1:], len(text)], strict=True):
            try:
                document = read_yaml("\n" * text.count("\n", 0, start) + text[start:stop])
            except MarkedError as error:
                self.reject(error.line, error.reason)
            else:
                self.read(document)

    def reject(self, line: int, reason: str) -> None:
        self._reading.rejections.append(Rejection(self._file, line, reason))

    # ---- the three forms

    def _read_memory(self, parts: Mapping[str, Marked]) -> None:
        nothing = Marked(0, "")
        self._attempt(partial(self._read_concepts, parts.get("concepts", nothing), ""))
        for problem, said in parts.get("solutions", nothing).mapping.items():
            self._attempt(partial(self._read_solution, problem, said))
        for name, said in parts.get("custom_types", nothing).mapping.items():
            self._attempt(partial(self._read_type, name, said))
        lessons = parts.get("lessons", nothing)
        self._each(lessons.items, "")
        for problem, said in lessons.mapping.items():
            self._each(said.items, problem)

    def _read_problem(self, problem: str, said: Marked) -> None:
        if said.items:
            self._each(said.items, problem)
        elif {_field(name) for name in said.mapping} & {"concepts", "summary", "pseudocode", "solution"}:
            self._read_solution(problem, said)
            self._read_concepts(said.mapping.get("concepts", Marked(said.line, "")), problem)
        elif said.mapping:
            self._read_concepts(said, problem)
        elif said.value:
            raise _Malformed(said, f"'{problem}' has a text where its concepts or lessons should be")

    def _read_concepts(self, said: Marked, problem: str) -> None:
        self._each(said.items, problem)
        for name, fields in said.mapping.items():
            self._attempt(partial(self._read_concept, fields, name, problem))
        if said.text:
            raise _Malformed(said, "'concepts' is a text; it should be a list or a mapping")

    def _each(self, items: Sequence[Marked], problem: str) -> None:
        for item in items:
            self._attempt(partial(self._read_item, item, problem))

    def _read_item(self, item: Marked, problem: str) -> None:
        """A lesson, or a concept that has its name among its fields."""
        if not item.mapping:
            raise _Malformed(item, "an entry of a list is no mapping")
        if "situation" not in item.mapping:
            self._read_concept(item, "", problem)
            return
        fields = {name: item.mapping.get(name, Marked(item.line, "")).text for name in ("situation", "suggestion")}
        if missing := [name for name, text in fields.items() if not text]:
            raise _Malformed(item, f"a lesson has no '{missing[0]}'")
        source = item.mapping.get("source", Marked(item.line, "")).text
        self._add(Lesson(**fields, source=problem or source), item)

    # ---- entries

    def _read_concept(self, said: Marked, name: str, problem: str) -> None:
        fields = {_field(key): value for key, value in said.mapping.items()}
        if said.value and not fields:
            raise _Malformed(said, f"concept '{name}' is no mapping")
        name = next((fields[key].text for key in ("concept", "name") if key in fields), name)
        if not name:
            raise _Malformed(said, "a concept has neither 'concept' nor 'name'")
        kind, subtype = _kind(fields.get("kind"), name)
        concept = Concept(
            name=name,
            kind=kind,
            subtype=_text(fields, "routine_subtype") or subtype,
            output_typing=_text(fields, "output_typing"),
            parameters=tuple(_parameters(fields.get("parameters"))),
            description=_text(fields, "description"),
            cues=tuple(_lines(fields, "cues")),
            implementation=tuple(_lines(fields, "implementation")),
            used_in=tuple(dict.fromkeys([*_lines(fields, "used_in"), *([problem] if problem else [])])),
        )
        self._add(concept, said)
        for key, value in fields.items():
            if key not in (*_TEXTS, *_LISTS) and value.mapping:
                self.reject(value.line, f"concept '{name}' has no field '{key}'; is this a concept set in too far?")

    def _read_solution(self, problem: str, said: Marked) -> None:
        fields = {_field(key): value for key, value in said.mapping.items()}
        texts = {key: _text(fields, key) for key in ("solution", "summary")}
        steps = "\n".join(_lines(fields, "pseudocode"))
        if any(texts.values()) or steps:
            self._add(Solution(problem=problem, **texts, pseudocode=steps), said)

    def _read_type(self, name: str, said: Marked) -> None:
        if not said.text:
            raise _Malformed(said, f"type '{name}' has no definition")
        self._add(TypeName(name=name, definition=said.text), said)

    def _add(self, entry: Entry, at: Marked) -> None:
        self._reading.found.append(Found(entry, self._file, at.line))

    def _attempt(self, read: Callable[[], None]) -> None:
        try:
            read()
        except _Malformed as error:
            self.reject(error.line, error.reason)


def _field(name: str) -> str:
    return name.strip().lower().replace(" ", "_")


def _text(fields: Mapping[str, Marked], name: str) -> str:
    said = fields.get(name, Marked(0, ""))
    if not isinstance(said.value, str):
        raise _Malformed(said, f"'{name}' is no text")
    return "" if said.text == "N/A" else said.text


def _kind(said: Marked | None, concept: str) -> tuple[str, str]:
    """A kind, and the subtype that an earlier kind stands for."""
    kind = _text({"kind": said}, "kind").lower() if said is not None else ""
    if kind in OLDER_KINDS:
        return OLDER_KINDS[kind]
    if said is not None and kind not in ("", *KINDS):
        raise _Malformed(said, f"concept '{concept}' is of kind '{kind}'; known: {', '.join((*KINDS, *OLDER_KINDS))}")
    return kind, ""


def _parameters(said: Marked | None) -> Iterator[Parameter]:
    if said is None:
        return
    if said.text not in ("", "N/A"):
        raise _Malformed(said, "'parameters' is a text; it should be a list")
    for name, description in said.mapping.items():
        yield Parameter(name=name, description=description.text)
    for item in said.items:
        name = item.mapping["name"].text if "name" in item.mapping else item.text
        if not name:
            raise _Malformed(item, "a parameter has no 'name'")
        yield Parameter(name=name, typing=_text(item.mapping, "typing"), description=_text(item.mapping, "description"))


def _lines(fields: Mapping[str, Marked], name: str) -> Iterator[str]:
    """Lines of a list, or a text as one; `key: value` is what YAML makes of a line with a colon in it."""
    said = fields.get(name, Marked(0, ""))
    for item in said.items if isinstance(said.value, list) else [said]:
        if len(item.mapping) == 1:
            [(key, value)] = item.mapping.items()
            yield f"{key}: {value.text}"
        elif not isinstance(item.value, str):
            raise _Malformed(item, f"'{name}' should be a list of lines")
        elif item.text not in ("", "N/A"):
            yield item.text


def _memory(entries: Iterable[Entry]) -> dict[str, Any]:
    entries = list(entries)
    lessons = [_written(entry) for entry in entries if isinstance(entry, Lesson)]
    return {
        "concepts": {entry.name: _written(entry) for entry in entries if isinstance(entry, Concept)},
        "solutions": {entry.problem: _written(entry) for entry in entries if isinstance(entry, Solution)},
        "custom_types": {entry.name: entry.definition for entry in entries if isinstance(entry, TypeName)},
        **({"lessons": lessons} if lessons else {}),
    }


def _written(entry: Entry) -> dict[str, Any]:
    names = {"subtype": "routine_subtype", "problem": "problem_id"}
    return {names.get(name, name): _plain(value) for name, value in asdict(entry).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value or None

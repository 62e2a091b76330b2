"""Concepts, lessons and solutions: what a memory holds, and how what several runs say of one concept becomes one
(ArcMemo, arXiv:2509.04439)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

KINDS = ("structure", "routine")
_TYPE = re.compile(r"\s*([^:=\s]+(?: [^:=\s]+)*)\s*:=\s*(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """What a routine or a structure depends on."""

    name: str
    typing: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Concept:
    """A typed, parameterised routine or structure (ArcMemo's program-synthesis form).

    `cues` say when it may help, `implementation` how it is done, `used_in` which problems it was found in. `kind` is
    empty where an entry only mentions a concept that another one defines.
    """

    name: str
    kind: str = ""
    subtype: str = ""
    output_typing: str = ""
    parameters: tuple[Parameter, ...] = ()
    description: str = ""
    cues: tuple[str, ...] = ()
    implementation: tuple[str, ...] = ()
    used_in: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All that it says, to be searched."""
        parameters = (f"{parameter.name} {parameter.description}" for parameter in self.parameters)
        return "\n".join((self.name, self.subtype, self.description, *parameters, *self.cues, *self.implementation))

    def types(self) -> Iterator[tuple[str, str]]:
        """The types that it defines, `name := definition`."""
        for typing in (self.output_typing, *(parameter.typing for parameter in self.parameters)):
            if match := _TYPE.fullmatch(typing):
                yield match[1], match[2].strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What to do in a situation (ArcMemo's open-ended form). `source` is the problem that taught it."""

    situation: str
    suggestion: str
    source: str = ""

    @property
    def name(self) -> str:
        return self.text

    @property
    def text(self) -> str:
        """All that it says, to be searched."""
        return f"{self.situation}\n{self.suggestion}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """How a problem was solved: the program, what it does in a sentence, and its steps."""

    problem: str
    solution: str = ""
    summary: str = ""
    pseudocode: str = ""

    @property
    def name(self) -> str:
        return self.problem


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeName:
    """A type that concepts speak of."""

    name: str
    definition: str


Entry: TypeAlias = Concept | Lesson | Solution | TypeName
"""One thing said once. A memory is a function of the set of its entries, so their order never matters."""


def merge_concepts(entries: Sequence[Concept]) -> Concept:
    """What several entries say of one concept, in their order: the first kind, description and typing that is given;
    parameters by name, of which a later one wins; cues and implementation without repetition; all problems."""
    parameters = {parameter.name: parameter for entry in entries for parameter in entry.parameters}
    return Concept(
        name=entries[0].name,
        kind=_first(entry.kind for entry in entries),
        subtype=_first(entry.subtype for entry in entries),
        output_typing=_first(entry.output_typing for entry in entries),
        parameters=tuple(parameters.values()),
        description=_first(entry.description for entry in entries),
        cues=_distinct(line for entry in entries for line in entry.cues),
        implementation=_distinct(line for entry in entries for line in entry.implementation),
        used_in=_distinct(problem for entry in entries for problem in entry.used_in),
    )


def merge_solutions(entries: Sequence[Solution]) -> Solution:
    """The first solution, summary and pseudocode that is given."""
    return Solution(
        problem=entries[0].problem,
        solution=_first(entry.solution for entry in entries),
        summary=_first(entry.summary for entry in entries),
        pseudocode=_first(entry.pseudocode for entry in entries),
    )


def _first(values: Iterable[str]) -> str:
    return next((value for value in values if value), "")


def _distinct(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))

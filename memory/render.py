"""Rendering: a page of concepts and lessons for a prompt, by kind and subtype (ArcMemo, arXiv:2509.04439).

What a memory says is data. Each entry's text is set in from the margin and the page stands in a fence that nothing in
it can close, so a concept that reads like an instruction is still quoted text.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence

from .concept import Concept, Lesson, TypeName

LEAST_USED = 2
"""Concepts found in fewer problems are listed by name only."""


def render(
    entries: Sequence[Concept | Lesson],
    *,
    types: Sequence[TypeName] = (),
    least_used: int = LEAST_USED,
    budget: int = 0,
    count: Callable[[str], int] = len,
) -> str:
    """A page of the entries, the most important given first; of concepts used in fewer than `least_used` problems only
    the name. `budget` bounds the page, in what `count` counts (characters, or tokens by a tokenizer); entries are left
    out from the end until it fits. 0 sets no bound."""

    def page(number: int) -> str:
        return _fenced("\n\n".join(_sections(entries[:number], types if number else (), least_used)))

    if not budget or count(page(len(entries))) <= budget:
        return page(len(entries)) if entries else ""
    fits = bisect_right(range(1, len(entries) + 1), budget, key=lambda number: count(page(number)))
    return page(fits) if fits else ""


def render_entry(entry: Concept | Lesson) -> str:
    """One entry in full."""
    return "\n".join(_lesson(entry) if isinstance(entry, Lesson) else _concept(entry))


def _sections(entries: Iterable[Concept | Lesson], types: Sequence[TypeName], least_used: int) -> Iterator[str]:
    entries = list(entries)
    concepts = [entry for entry in entries if isinstance(entry, Concept)]
    structures = [concept for concept in concepts if concept.kind == "structure"]
    routines = [concept for concept in concepts if concept.kind != "structure"]
    if structures:
        yield _section("structures", structures, least_used)
    if types:
        yield "\n".join(["## types", *(f"- {_line(type_.name)} := {_line(type_.definition)}" for type_ in types)])
    for subtype in sorted({routine.subtype for routine in routines}):
        title = f"routines: {_line(subtype)}" if subtype else "routines"
        yield _section(title, [routine for routine in routines if routine.subtype == subtype], least_used)
    lessons = [entry for entry in entries if isinstance(entry, Lesson)]
    if lessons:
        yield "\n".join(["## lessons", *(line for lesson in lessons for line in _lesson(lesson))])


def _section(title: str, concepts: Sequence[Concept], least_used: int) -> str:
    full = [line for concept in concepts if len(concept.used_in) >= least_used for line in _concept(concept)]
    names = sorted(_line(concept.name) for concept in concepts if len(concept.used_in) < least_used)
    return "\n".join([f"## {title}", *full, *([f"- less used: {', '.join(names)}"] if names else [])])


def _concept(concept: Concept) -> Iterator[str]:
    yield f"- concept: {_line(concept.name)}"
    for title, text in (("description", concept.description), ("output", concept.output_typing)):
        if text:
            yield f"  {title}: {_line(text)}"
    parameters = [
        _line(parameter.name)
        + (f" ({_line(parameter.typing)})" if parameter.typing else "")
        + (f": {_line(parameter.description)}" if parameter.description else "")
        for parameter in concept.parameters
    ]
    for title, lines in (
        ("parameters", parameters),
        ("cues", concept.cues),
        ("implementation", concept.implementation),
    ):
        if lines:
            yield f"  {title}:"
            yield from (f"    - {_line(line)}" for line in lines)


def _lesson(lesson: Lesson) -> Iterator[str]:
    yield f"- situation: {_line(lesson.situation)}"
    yield f"  suggestion: {_line(lesson.suggestion)}"


def _line(text: str) -> str:
    """A text on one line."""
    return " ".join(text.split())


def _fenced(text: str) -> str:
    """A text between fences that are longer than any in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"

"""Answers in candidates: where the answer stands in a text, and when two answers are the same."""

from __future__ import annotations

import re

_BOXED = re.compile(r"\\boxed\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}")
_STATED = re.compile(r"(?:^|\n)\s*(?:so\s+)?(?:the\s+)?(?:final\s+)?answer(?:\s+is)?\s*[:=]?\s*(\S.*)", re.IGNORECASE)
_MARKED = re.compile(r"####\s*(\S.*)")


def answer_of(text: str, pattern: str = "") -> str:
    """The last match of a pattern (its first group, if it has one), or else of the usual marks: a box, "####", a line
    "The answer is …"; a text without any is its own answer."""
    if pattern:
        found = list(re.finditer(pattern, text, re.DOTALL))
        return (found[-1][1] if found[-1].re.groups else found[-1][0]) or "" if found else ""
    for mark in (_BOXED, _MARKED, _STATED):
        stated = mark.findall(text)
        if stated:
            return str(stated[-1]).strip()
    return text.strip()


def same_form(answer: str) -> str:
    """An answer in the form in which equal ones are equal: no case, extra spaces, closing marks, 1,000's comma."""
    plain = " ".join(answer.casefold().split()).strip(" .!?\"'`*$")
    plain = re.sub(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))", "", plain)
    if re.fullmatch(r"-?[0-9]{1,300}(\.[0-9]{1,300})?", plain):
        return plain.rstrip("0").rstrip(".") if "." in plain else plain
    return plain

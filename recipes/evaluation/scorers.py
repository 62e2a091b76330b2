"""Scorers: how good an answer to an item is, from 0 to 1."""

from __future__ import annotations

import inspect
import math
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeAlias

from ...engines import Engine
from ...errors import FormatError, InputError, UnknownNameError
from ...orchestrator.fingerprint import deep_fingerprint
from ...tools.sandbox import Bounds, run_python
from ..prompt import render, source
from ..techniques.answers import answer_of, same_form
from .embedded import right_path
from .items import Item

Score: TypeAlias = Callable[[Item, str], float | bool | Awaitable[float | bool]]
"""`score(item, answer)`: from 0 to 1, or whether it is right."""

TOLERANCE = 1e-6
_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+)(?:\.\d+)?(?:[eE][+-]?\d+)?%?|-?\.\d+%?")
_CODE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|$)", re.DOTALL)
_VERDICT = re.compile(r"VERDICT:\s*\**\s*(CORRECT|INCORRECT)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Scorer:
    """A score by its name; `version` is equal where two scorers judge alike."""

    name: str
    score: Score
    version: str

    async def __call__(self, item: Item, answer: str) -> float:
        """The score of an answer. Raises InputError for one that is no number from 0 to 1."""
        found = self.score(item, answer)
        value = await found if inspect.isawaitable(found) else found
        if not isinstance(value, int | float) or not 0 <= value <= 1 or math.isnan(value):
            raise InputError(f"scorer '{self.name}' gave {value!r:.60}; a score is a number from 0 to 1, or a bool")
        return float(value)


def exact(item: Item, answer: str) -> bool:
    """Whether the answer is the right one: case, spaces and closing marks aside."""
    return same_form(answer) == same_form(item.answer)


def numeric(item: Item, answer: str) -> bool:
    """Whether the last number of the answer is the right one, to one part in a million. A percentage is a fraction."""
    given, right = _last_number(answer), _last_number(item.answer)
    if right is None:
        raise InputError(f"item '{item.id}' has no number as its answer ({item.answer[:40]!r}); use another scorer")
    return given is not None and math.isclose(given, right, rel_tol=TOLERANCE, abs_tol=1e-9)


def choice(item: Item, answer: str) -> bool:
    """Whether the right choice was named: by its letter, or by its text. The item's answer is either, or its index."""
    if not item.choices:
        raise InputError(f"item '{item.id}' has no choices; use another scorer, or name the field that holds them")
    right = _index_of(item, item.answer)
    if right is None:
        raise InputError(f"item '{item.id}' has the answer {item.answer[:40]!r}, which is none of its choices")
    return _chosen(item, answer) == right


def f1(item: Item, answer: str) -> float:
    """The harmonic mean of precision and recall of the answer's words (SQuAD)."""
    given, right = _words(answer), _words(item.answer)
    shared = sum((Counter(given) & Counter(right)).values())
    if not shared:
        return float(not given and not right)
    precision, recall = shared / len(given), shared / len(right)
    return 2 * precision * recall / (precision + recall)


async def code(item: Item, answer: str) -> bool:
    """Whether the answer's Python code (its last block, or all of it) passes the item's tests in the sandbox."""
    if not item.tests:
        raise InputError(f"item '{item.id}' has no tests; use another scorer, or name the field that holds them")
    blocks = _CODE.findall(answer)
    ran = await run_python(f"{blocks[-1] if blocks else answer}\n\n{item.tests}\n", bounds=Bounds(seconds=20))
    return ran.outcome == "ok"


def countdown(item: Item, answer: str) -> bool:
    """Whether a path solves the item's Countdown task."""
    return right_path(item.task, answer)


SCORES: Mapping[str, Score] = {
    "exact": exact, "numeric": numeric, "choice": choice, "f1": f1, "code": code, "countdown": countdown,
}  # fmt: skip


def find_scorer(name: str | Score | Scorer, *, judge: Engine | None = None) -> Scorer:
    """The scorer of a name, or of a user's function. "judge" needs an engine. Raises UnknownNameError, InputError."""
    if isinstance(name, Scorer):
        return name
    if callable(name):
        return Scorer(getattr(name, "__name__", "score"), name, deep_fingerprint(name))
    if name == "judge":
        if judge is None:
            raise InputError("the scorer 'judge' asks a model: name its engine, such as --judge openai:MODEL")
        return judging(judge)
    if name not in SCORES:
        known = [*SCORES, "judge"]
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise UnknownNameError(f"unknown scorer '{name}'; {hint}known: {', '.join(known)}")
    return Scorer(name, SCORES[name], deep_fingerprint(SCORES[name]))


def judging(engine: Engine, *, max_tokens: int = 256) -> Scorer:
    """A model that says whether the answer means the right one, greedily, by a prompt that is part of the version."""

    async def judge(item: Item, answer: str) -> bool:
        prompt = render("judge_answer", task=item.task, right=item.answer, given=answer)
        context = await engine.start(prompt)
        written = await context.generate(max_tokens=max_tokens)
        written.context.release()
        context.release()
        verdicts = _VERDICT.findall(written.text)
        if not verdicts:
            raise FormatError(f"the judge gave no verdict: {written.text[-80:]!r}")
        return bool(verdicts[-1].upper() == "CORRECT")

    return Scorer("judge", judge, deep_fingerprint(source("judge_answer"), engine.name, max_tokens))


def extract(answer: str, pattern: str) -> str:
    """Where the answer stands in a text: by the dataset's pattern, or, where that is not found, by the usual marks."""
    return (answer_of(answer, pattern) if pattern else "").strip() or answer_of(answer).strip()


# ---- parts


def _last_number(text: str) -> float | None:
    found = _NUMBER.findall(text)
    if not found:
        return None
    plain = found[-1].replace(",", "")
    return float(plain[:-1]) / 100 if plain.endswith("%") else float(plain)


def _index_of(item: Item, text: str) -> int | None:
    """Which choice a letter, a text or an index from 0 means."""
    plain = text.strip()
    for index, option in enumerate(item.choices):
        if same_form(option) == same_form(plain):
            return index
    if re.fullmatch(r"\(?[A-Za-z]\)?[.)]?", plain):
        index = ord(plain.strip("().").upper()) - ord("A")
        return index if index < len(item.choices) else None
    return int(plain) if plain.isdecimal() and int(plain) < len(item.choices) else None


def _chosen(item: Item, answer: str) -> int | None:
    found = _index_of(item, answer)
    if found is not None:
        return found
    letters = re.findall(r"(?<![A-Za-z])\(?([A-Z])\)?(?![A-Za-z'])", answer)
    named = [letter for letter in letters if ord(letter) - ord("A") < len(item.choices)]
    return ord(named[-1]) - ord("A") if named else None


def _words(text: str) -> list[str]:
    kept = re.sub(r"[^\w\s]", " ", text.casefold())
    return [word for word in kept.split() if word not in ("a", "an", "the")]

"""Scores of answers: exact match, F1, and accuracy over what it cost (the measures of HybridDeepSearcher, 2025)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from ..errors import InputError

_ARTICLES = re.compile(r"\b(a|an|the)\b")


def exact_match(answer: str, right: str) -> float:
    """1 where both are the same words, case, articles and punctuation aside (SQuAD's measure); else 0."""
    return float(_words(answer) == _words(right))


def f1(answer: str, right: str) -> float:
    """The harmonic mean of how many of the answer's words are right and how many of the right ones it has."""
    given, wanted = _words(answer), _words(right)
    common = sum((Counter(given) & Counter(wanted)).values())
    if not given or not wanted:
        return float(given == wanted)
    return 2 * common / (len(given) + len(wanted))


def area_under(costs: Sequence[float], scores: Sequence[float], limit: float) -> float:
    """The area under the curve of the mean score that is reached within a cost, from 0 to `limit`, from 0 to 1.

    A run counts from its cost on: 1 is reached by right answers that cost nothing. Costs are turns, calls, tokens or
    seconds. Raises InputError for no runs, for as many costs as there are not scores, and for a limit of 0.
    """
    if not costs or len(costs) != len(scores) or limit <= 0:
        raise InputError(f"{len(costs)} costs, {len(scores)} scores and a limit of {limit:g} make no curve")
    gained = (score * max(limit - cost, 0.0) / limit for cost, score in zip(costs, scores, strict=True))
    return sum(gained) / len(costs)


def _words(text: str) -> list[str]:
    plain = "".join(letter for letter in text.casefold() if letter not in string.punctuation)
    return _ARTICLES.sub(" ", plain).split()

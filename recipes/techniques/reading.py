"""Reading what models answer to judges' prompts: rankings, critiques, verdicts, tests, scores. None of it ever raises.

What can't be read is told as such (an empty critique, no verdict), never guessed at from other words.
"""

from __future__ import annotations

import ast
import json
import re
from contextlib import suppress

_NUMBER = r"\[\s*([0-9]{1,6})\s*\]"
_CHAIN = re.compile(rf"{_NUMBER}(?:\s*>\s*{_NUMBER})+")
_HEADING = re.compile(rf"^[ \t>*#-]*{_NUMBER}[ \t:.*)-]*", re.MULTILINE)
_VERDICT = re.compile(r"\[\s*(correct|incorrect)\s*\]", re.IGNORECASE)
_PASS = re.compile(r"\b(pass(?:es|ed)?|fail(?:s|ed|ure)?)\b", re.IGNORECASE)
_BULLET = re.compile(r"^\s*(?:[-*•]|\(?[0-9]{1,3}[.):])\s+(\S.*)$")
_SCORE = re.compile(r"(?<![\w.])(-?[0-9]{1,6}(?:\.[0-9]{1,6})?)(?:\s*/\s*[0-9]{1,6})?(?![\w]|\.[0-9])")
_CLAIM = re.compile(r"\b(?:score|rating|grade)\b[^0-9\n-]{0,20}(-?[0-9]{1,6}(?:\.[0-9]{1,6})?)", re.IGNORECASE)
_LONGEST_LIST = 100_000


def read_ranking(text: str, count: int) -> list[int]:
    """The places 0 … count−1 in the order of the last "[4] > [2]" (or of all bracketed numbers, where there is none).

    Numbers that are no candidate's and repetitions are dropped; candidates that are not named follow in their order.
    """
    chains = list(_CHAIN.finditer(text))
    named = re.findall(_NUMBER, chains[-1][0] if chains else text)
    found = dict.fromkeys(int(number) - 1 for number in named if 0 < int(number) <= count)
    return [*found, *(index for index in range(count) if index not in found)]


def read_critiques(text: str, count: int) -> list[str]:
    """What stands under each "[i]" that begins a line, for candidates 1 … count; empty for one that is left out."""
    found = [""] * count
    for place, body in _sections(text):
        if 0 < place <= count and not found[place - 1]:
            found[place - 1] = body
    return found


def read_verdict(text: str) -> bool | None:
    """Whether the last of "[Correct]" and "[Incorrect]" is the former; None without either."""
    verdicts = _VERDICT.findall(text)
    return verdicts[-1].lower() == "correct" if verdicts else None


def read_tests(text: str, cap: int = 0) -> list[str]:
    """The statements of a list in JSON or Python, or else of numbered and bulleted lines; each once, `cap` at most."""
    listed = _written_list(text)
    if listed is None:
        listed = [match[1] for line in text.splitlines() if (match := _BULLET.match(line))]
    found = list(dict.fromkeys(filter(None, (" ".join(item.split()) for item in listed))))
    return found[:cap] if cap else found


def read_passes(text: str, count: int) -> list[bool]:
    """Which tests 1 … count are passed: "[i]" at the beginning of a line, and "pass" as the first verdict after it."""
    found: dict[int, bool] = {}
    for place, body in _sections(text):
        verdict = _PASS.search(body)
        if verdict:
            found.setdefault(place, verdict[1].lower().startswith("pass"))
    return [found.get(place, False) for place in range(1, count + 1)]


def read_score(text: str, low: float, high: float) -> float | None:
    """The last number that is called a score, or else the last number at all, held to [low, high]; None without one."""
    found = _CLAIM.findall(text) or _SCORE.findall(text)
    return min(high, max(low, float(found[-1]))) if found else None


def _sections(text: str) -> list[tuple[int, str]]:
    """Each "[i]" that begins a line, with what stands before the next one."""
    heads = list(_HEADING.finditer(text))
    ends = [*(head.start() for head in heads[1:]), len(text)][: len(heads)]
    return [(int(head[1]), text[head.end() : end].strip()) for head, end in zip(heads, ends, strict=True)]


def _written_list(text: str) -> list[str] | None:
    """The texts of the outermost brackets, if they hold a list of texts."""
    inner = text[text.find("[") : text.rfind("]") + 1]
    if not inner or len(inner) > _LONGEST_LIST:
        return None
    for read in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            found = read(inner)
            if isinstance(found, list) and all(isinstance(item, str) for item in found):
                return found
    return None

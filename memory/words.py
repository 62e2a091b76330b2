"""Words: what a text is searched by."""

from __future__ import annotations

import re

_WORD = re.compile(r"[^\W_]+")
_ENDINGS = (("ies", "y"), ("ing", ""), ("ed", ""), ("es", ""), ("s", ""))
_LEAST = 3
"""How many letters are left of a word."""


def stems(text: str) -> list[str]:
    """The words of a text in lower case, without the commonest English endings."""
    return [_stem(word) for word in _WORD.findall(text.lower())]


def _stem(word: str) -> str:
    for ending, instead in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _LEAST:
            return word.removesuffix(ending) + instead
    return word

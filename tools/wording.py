"""Wording: the keys under which names and attributes are found, whatever their case, accents, articles or synonyms."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import Final

SYNONYMS: Final = (
    ("population", "people", "inhabitants", "residents", "persons", "pop"),
    ("area", "size", "surface", "surface area", "total area", "land size", "square kilometres", "square kilometers"),
    ("capital", "capital city"),
    ("currency", "money", "currency name"),
    ("continent", "continents"),
    (
        "neighbours", "neighbors", "neighbour", "neighbor", "neighbouring countries", "neighboring countries",
        "neighbour countries", "neighbor countries", "border", "borders", "bordering countries", "border countries",
        "adjacent countries",
    ),
    ("largest city", "biggest city", "largest town", "biggest town", "most populous city"),
    ("official languages", "official language", "languages", "language"),
)  # fmt: skip
"""Words for one attribute; a table may use any of them as a column's name and a query any other."""

FILLERS: Final = frozenset(
    "a an the of in on at for to by is are was be do does did has have how many much what which who where when "  # noqa: SIM905
    "there it its that live lives living lie lies use uses used please tell give me name s".split()
)
"""Words that a question has and a fact has not."""

_LETTERS = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "\u0131": "i", "ə": "e"}
)
_MARKS = re.compile("[\u0300-\u036f'`.\u00b4\u02bb\u02bc\u2018\u2019]")
_LEADS = (("the",), ("total", "number", "of"), ("number", "of"), ("name", "of"))  # in the order in which they stand


def words(text: str) -> tuple[str, ...]:
    """The words of a text without case, accents, apostrophes and full stops: "Côte d'Ivoire" is cote, divoire."""
    folded = unicodedata.normalize("NFKD", text.casefold()).translate(_LETTERS)
    plain = _MARKS.sub("", folded).replace("&", " and ").replace("_", " ")
    return tuple(re.findall(r"\w+", plain))


def name_key(text: str) -> str:
    """The key of an entity's name: its words without a leading article."""
    found = words(text)
    return " ".join(found[1:] if found[:1] == ("the",) and len(found) > 1 else found)


def attribute_keys(text: str) -> tuple[str, ...]:
    """The keys of an attribute, its own word first, then synonyms, singular and plural."""
    own = _attribute_key(text)
    forms = (own, own.removesuffix("s"), f"{own}s")
    return tuple(dict.fromkeys(word for form in forms for word in (form, *_synonyms().get(form, ()))))


def _attribute_key(text: str) -> str:
    found = words(text)
    for lead in _LEADS:
        if found[: len(lead)] == lead and len(found) > len(lead):
            found = found[len(lead) :]
    return " ".join(found)


@cache
def _synonyms() -> dict[str, tuple[str, ...]]:
    return {word: group for group in SYNONYMS for word in group}

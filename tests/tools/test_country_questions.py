"""Every stored answer of the hand-written country questions follows from the built-in tables."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import plait
from plait.tools.calculator import evaluate
from plait.tools.facts import UNKNOWN, FactTable

PATH = Path(plait.__file__).parent / "recipes" / "training" / "country_questions.jsonl"
QUESTIONS: list[dict[str, Any]] = [json.loads(line) for line in PATH.read_text(encoding="utf-8").splitlines()]
FAMILIES = {"number", "text", "total", "difference", "comparison", "hop", "unknown"}
TABLE = FactTable.load()


def look_up(query: str) -> str:
    found = TABLE.find(query)
    return UNKNOWN if found is None else found.value


def calculate(expression: str) -> str:
    """The calculator's answer to an expression over queries, such as "max people of Peru,people of Chile"."""
    operation, rest = re.fullmatch(r"(max |min |sub )?(.*)", expression).groups()  # type: ignore[union-attr]
    return evaluate((operation or "") + re.sub(r"[^+,]+", lambda query: look_up(query[0]), rest))


def derive(question: dict[str, Any]) -> str:
    results = [look_up(query) for query in question["queries"]]
    if UNKNOWN in results:
        return UNKNOWN
    if "expression" not in question:
        return results[-1]
    result = calculate(question["expression"])
    return question["sides"][("first", "second").index(result)] if "sides" in question else result


def test_there_are_enough_questions_of_each_family() -> None:
    assert len({question["question"] for question in QUESTIONS}) == len(QUESTIONS) >= 120
    counts = Counter(question["family"] for question in QUESTIONS)
    assert set(counts) == FAMILIES
    assert min(counts.values()) >= 20


def test_every_answer_follows_from_the_tables() -> None:
    for question in QUESTIONS:
        assert question["answer"] == derive(question), question
        assert (question["answer"] == UNKNOWN) == (question["family"] == "unknown"), question
        assert UNKNOWN not in [look_up(query) for query in question["queries"][:-1]]  # the first unknown ends it


def test_queries_ask_for_what_the_question_names_or_an_earlier_query_found() -> None:
    for question in QUESTIONS:
        named = without_articles(question["question"])
        found: set[str] = set()
        for query in question["queries"]:
            entity = query.split(" of ", 1)[1]
            assert without_articles(entity) in named or entity in found, query
            found.add(look_up(query))
        assert all(without_articles(side) in named for side in question.get("sides", ())), question
        used = re.split(r"[+,]", re.sub(r"^(max|min|sub) ", "", question.get("expression", "")))
        assert set(used) <= {*question["queries"], ""}, question


def without_articles(text: str) -> str:
    return text.replace("the ", "")

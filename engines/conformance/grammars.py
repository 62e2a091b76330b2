"""Checks of grammars: what is written under one fits it, as a parser of our own sees it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from ...errors import GrammarError
from ..base import Choice, Ebnf, Grammar, JsonSchema, Lark, Regex
from .check import Check, ConformanceError, Trial, require
from .listing import listed

CHECKS: list[Check] = []
KINDS: tuple[str, ...] = ("JsonSchema", "Regex", "Choice", "Lark", "Ebnf")

COLOURS = ("red", "green", "blue")
FIELDS: dict[str, Any] = {
    "colour": {"type": "string", "enum": list(COLOURS)},
    "count": {"type": "integer", "minimum": 0, "maximum": 99},
    "sure": {"type": "boolean"},
}
NOTE: dict[str, Any] = {"note": {"type": "string", "maxLength": 5}}


def schema_of(fields: dict[str, Any]) -> JsonSchema:
    """An object of just these fields."""
    return JsonSchema({"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False})


def _is_record(text: str) -> bool:
    value = json.loads(text)
    colour, count, sure = (value[name] for name in FIELDS)
    fits = colour in COLOURS and type(count) is int and 0 <= count <= 99 and type(sure) is bool
    return fits and list(value) == list(FIELDS)


def _is_note(text: str) -> bool:
    value = json.loads(text)
    return list(value) == ["note"] and type(value["note"]) is str and len(value["note"]) <= 5


def _matches(pattern: str) -> Callable[[str], bool]:
    return lambda text: re.fullmatch(pattern, text) is not None


GRAMMARS: dict[str, tuple[str, Grammar, str, Callable[[str], bool]]] = {
    "grammar JsonSchema": (
        "JsonSchema",
        schema_of(FIELDS),
        "A colour, a count below 100, and sure or not:",
        _is_record,
    ),
    "grammar JsonSchema text": ("JsonSchema", schema_of(NOTE), "A note of at most 5 letters:", _is_note),
    "grammar Regex": ("Regex", Regex("[0-9]{3}-[0-9]{2}"), "A number such as 123-45:", _matches("[0-9]{3}-[0-9]{2}")),
    "grammar Choice": ("Choice", Choice(COLOURS), "A colour:", COLOURS.__contains__),
    "grammar Lark": ("Lark", Lark('start: "<" /[a-z]{2,4}/ ">"'), "A tag such as <abc>:", _matches("<[a-z]{2,4}>")),
    "grammar Ebnf": (
        "Ebnf",
        Ebnf('root ::= "(" [0-9] [0-9]? ")"'),
        "A number such as (12):",
        _matches(r"\([0-9]{1,2}\)"),
    ),
}
"""By name of the check: the kind, the grammar, the prompt, and whether a text fits."""


async def _fits(trial: Trial, grammar: Grammar, prompt: str, fits: Callable[[str], bool]) -> None:
    said = await (await trial.engine.start(prompt)).generate(max_tokens=96, grammar=grammar)
    require(said.finish == "grammar", f"it says {said.text!r} and finished by {said.finish!r}")
    try:
        right = fits(said.text)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConformanceError(f"it says {said.text!r}: {error}") from None
    require(right, f"it says {said.text!r}")
    require(
        said.grammar is not None and said.grammar.complete, f"{said.text!r} ends by the grammar, which isn't complete"
    )


def _check(name: str, kind: str, grammar: Grammar, prompt: str, fits: Callable[[str], bool]) -> Check:
    run = partial(_fits, grammar=grammar, prompt=prompt, fits=fits)
    return Check(
        name, f"what is written under it fits, and ends where it is complete ({prompt})", run, (f"grammar:{kind}",)
    )


CHECKS += [_check(name, *rest) for name, rest in GRAMMARS.items()]


@listed(CHECKS, "grammar goes on", needs=["grammar_states"], silent=True)
async def grammar_goes_on(trial: Trial) -> None:
    """a generation cut short goes on under the state that it gave"""
    kind = next((kind for kind in KINDS[1:] if trial.offers(f"grammar:{kind}")), KINDS[0])
    _, grammar, prompt, fits = GRAMMARS[f"grammar {kind}"]
    context = await trial.engine.start(prompt)
    first = await context.generate(max_tokens=1, grammar=grammar)
    rest = await first.context.generate(max_tokens=96, grammar=first.grammar) if first.finish == "length" else first
    text = first.text + rest.text if rest is not first else first.text
    require(fits(text), f"cut after {first.text!r}, it went on to {text!r}")
    require(rest.finish == "grammar", f"{text!r} finished by {rest.finish!r}")


@listed(CHECKS, "wrong grammar", needs=["grammar:Regex"])
async def wrong_grammar(trial: Trial) -> None:
    """a grammar that can't be read is a GrammarError"""
    context = await trial.engine.start("A number:")
    try:
        said = await context.generate(max_tokens=4, grammar=Regex("[0-9"))
    except GrammarError:
        return
    raise ConformanceError(f"under the regular expression '[0-9' it says {said.text!r}")

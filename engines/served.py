"""Served grammars: held to by a server, which says nothing of how; whether the text fits is checked when it has ended.

The scripted engine checks its replies in the same way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import GrammarError
from .base import Choice, Grammar, GrammarState, JsonSchema, Regex


@dataclass(frozen=True, slots=True)
class ServedGrammar:
    """What was said so far under a grammar. Any text is accepted on the way; a complete one is checked."""

    grammar: Grammar
    text: str = ""

    def force(self, text: str) -> ServedGrammar:
        return ServedGrammar(self.grammar, self.text + text)

    @property
    def complete(self) -> bool:
        return misfit(self.grammar, self.text) == ""

    def check(self, who: str) -> None:
        """Raise GrammarError if the text of `who` does not fit."""
        fault = misfit(self.grammar, self.text)
        if fault:
            shown = self.text if len(self.text) <= 80 else "…" + self.text[-80:]
            raise GrammarError(f"the text {shown!r} of {who} does not fit its {type(self.grammar).__name__}: {fault}")


def follow_served(grammar: Grammar | GrammarState | None) -> ServedGrammar | None:
    """The state in which a generation starts. Raises GrammarError for a state of another engine."""
    if grammar is None or isinstance(grammar, ServedGrammar):
        return grammar
    if isinstance(grammar, GrammarState):
        raise GrammarError(f"a grammar state of another engine ({type(grammar).__name__}) can't be continued here")
    return ServedGrammar(grammar)


def misfit(grammar: Grammar, text: str) -> str:
    """Why a complete text does not fit a grammar; empty where it does. Lark and EBNF grammars and JSON formats are not
    checked."""
    match grammar:
        case JsonSchema(schema):
            try:
                value = json.loads(text)
            except (ValueError, RecursionError) as error:
                return f"not JSON ({error})"
            return _misfit(value, schema, schema, "$")
        case Regex(pattern):
            return "" if re.fullmatch(pattern, text) else f"no match of {pattern!r}"
        case Choice(options):
            return "" if text in options else f"not one of {', '.join(options)}"
        case _:
            return ""


_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}


def _misfit(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], where: str) -> str:
    """The first place where a value departs from the common keywords of JSON schema; empty where it fits."""
    if not isinstance(schema, Mapping):  # `true`: anything fits
        return ""
    if "$ref" in schema:
        target = root
        for name in schema["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        return _misfit(value, target, root, where)
    if "anyOf" in schema:
        faults = [_misfit(value, option, root, where) for option in schema["anyOf"]]
        return "" if "" in faults else faults[0]
    if "enum" in schema and value not in schema["enum"]:
        return f"{where} is {value!r}, not one of {schema['enum']}"
    if "const" in schema and value != schema["const"]:
        return f"{where} is {value!r}, not {schema['const']!r}"
    kind = schema.get("type")
    if isinstance(kind, str):
        allowed = _JSON_TYPES[kind]
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            return f"{where} is {value!r}, not of type {kind}"
    return _misfit_inside(value, schema, root, where)


def _misfit_inside(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], where: str) -> str:
    if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        faults = (_misfit(item, schema["items"], root, f"{where}[{i}]") for i, item in enumerate(value))
        return next((fault for fault in faults if fault), "")
    if isinstance(value, dict):
        missing = [name for name in schema.get("required", ()) if name not in value]
        if missing:
            return f"{where} lacks {', '.join(missing)}"
        known = schema.get("properties", {})
        faults = (_misfit(item, known[name], root, f"{where}.{name}") for name, item in value.items() if name in known)
        return next((fault for fault in faults if fault), "")
    return ""

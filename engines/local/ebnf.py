"""EBNF: grammars in llama.cpp's GBNF or the W3C's notation, translated for llguidance (DESIGN.md §8).

A lexer takes the longest word that it can, so that `word "s"` could never end with that s. Here every lexeme is one
character: nothing is longer than anything else, and the grammar means what its rules say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from ...errors import GrammarError

_TOKENS = re.compile(
    r"""(?P<space>\s+|\#[^\n]*|/\*.*?\*/)
    |(?P<define>[A-Za-z][\w-]*\s*::=)
    |(?P<name>[A-Za-z][\w-]*)
    |(?P<literal>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
    |(?P<range>\[\^?(?:\\.|[^\]\\\n])*\])
    |(?P<repeat>[*+?]|\{\s*\d+\s*(?:,\s*\d*\s*)?\})
    |(?P<mark>[().|])""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL)
_NAMED = {"n": "\n", "r": "\r", "t": "\t"}
_PLAIN = frozenset("\"'\\[]^-/")
_ANY = r"/[^\n]/"


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    line: int


def ebnf_to_lark(text: str) -> str:
    """The grammar in llguidance's Lark syntax. It begins at the rule `root`, or at the first one if there is none.

    Raises GrammarError, naming what is wrong and the line.
    """
    return _Translation(text).lark


class _Translation:
    """Reads rules one after the other, and writes each as it goes."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._place = 0
        defined = [token.text for token in self._tokens if token.kind == "define"]
        names = [name.removesuffix("::=").rstrip() for name in defined]
        if not names:
            raise GrammarError('an EBNF grammar has no rule; write one like: root ::= "yes" | "no"')
        if twice := [name for name in names if names.count(name) > 1]:
            raise GrammarError(f"EBNF rule '{twice[0]}' is defined twice; join both with |")
        self._rules = {name: f"r{index}" for index, name in enumerate(names)}
        first = self._rules.get("root", "r0")
        self.lark = "\n".join([f"start: {first}", *(self._rule() for _ in names)])

    def _rule(self) -> str:
        token = self._take()
        if token.kind != "define":
            raise _wrong(token, "a rule begins with its name and ::=")
        name = token.text.removesuffix("::=").rstrip()
        written = f"{self._rules[name]}: {self._alternatives()}"
        if self._next("mark") and self._tokens[self._place].text == ")":
            raise _wrong(self._take(), "no bracket is open here")
        return written

    def _alternatives(self) -> str:
        found = [self._sequence()]
        while self._next("mark") and self._tokens[self._place].text == "|":
            self._take()
            found.append(self._sequence())
        return " | ".join(found)

    def _sequence(self) -> str:
        found = []
        while self._next("name", "literal", "range", "repeat") or (
            self._next("mark") and self._tokens[self._place].text in "(."
        ):
            found.append(self._item())
        return " ".join(found) or '""'

    def _item(self) -> str:
        token = self._take()
        item = self._single(token)
        while self._next("repeat"):
            times = re.sub(r"\s", "", self._take().text)
            item = f"({item}){times}"
        return item

    def _single(self, token: _Token) -> str:
        match token.kind, token.text:
            case "name", name if name in self._rules:
                return self._rules[name]
            case "name", name:
                raise _wrong(token, f"there is no rule '{name}'; known: {', '.join(self._rules)}")
            case "literal", literal:
                return _characters(literal[1:-1], token)
            case "range", marked:
                return _character_of(marked, token)
            case "mark", ".":
                return _ANY
            case "mark", "(":
                return self._group(token)
        raise _wrong(token, "there is nothing to repeat before it")

    def _group(self, opened: _Token) -> str:
        inner = self._alternatives()
        if not self._next("mark"):
            raise _wrong(opened, "it is not closed")
        self._take()
        return f"({inner})"

    def _next(self, *kinds: str) -> bool:
        return self._place < len(self._tokens) and self._tokens[self._place].kind in kinds

    def _take(self) -> _Token:
        self._place += 1
        return self._tokens[self._place - 1]


def _tokens(text: str) -> Iterator[_Token]:
    place = 0
    while place < len(text):
        line = text.count("\n", 0, place) + 1
        found = _TOKENS.match(text, place)
        if found is None:
            rest = text[place:].split("\n")[0][:30]
            raise GrammarError(
                f"EBNF line {line}: can't read {rest!r}; known are name ::=, | ( ) . * + ? {{m,n}}, quoted text, "
                "[ranges] and comments. For anything else write a Lark grammar"
            )
        place = found.end()
        if found.lastgroup != "space":
            yield _Token(str(found.lastgroup), found[0], line)


def _characters(text: str, token: _Token) -> str:
    """A quoted text, character by character."""
    return " ".join(json.dumps(character, ensure_ascii=False) for character, _ in _unescaped(text, token)) or '""'


def _character_of(marked: str, token: _Token) -> str:
    """A range like [^a-z_], as a regular expression of one character."""
    inner = marked[1:-1]
    negated = inner.startswith("^")
    written = "".join(
        "-" if character == "-" and not escaped else _in_class(character)
        for character, escaped in _unescaped(inner[negated:], token)
    )
    if not written:
        raise _wrong(token, "it holds no character")
    return f"/[{'^' * negated}{written}]/"


def _unescaped(text: str, token: _Token) -> Iterator[tuple[str, bool]]:
    """Its characters, and whether each was written with a backslash."""
    place = 0
    while place < len(text):
        if text[place] != "\\":
            yield text[place], False
            place += 1
            continue
        found = _ESCAPE.match(text, place)
        code = found and next((digits for digits in found.groups()[:3] if digits), None)
        plain = found[4] if found else None
        if code:
            yield chr(int(code, 16)), True
        elif plain in _NAMED or plain in _PLAIN:
            yield _NAMED.get(str(plain), str(plain)), True
        else:
            raise _wrong(token, f"unknown escape '\\{plain}'")
        place = found.end() if found else len(text)


def _in_class(character: str) -> str:
    if character in "\n\r\t":
        return {"\n": r"\n", "\r": r"\r", "\t": r"\t"}[character]
    return f"\\{character}" if character in r"\]^[-/&~" else character


def _wrong(token: _Token, what: str) -> GrammarError:
    return GrammarError(f"EBNF line {token.line}, at {token.text!r}: {what}")

"""The script of the scripted engine: replies, the rules that choose them, and grammars that are checked at the end."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ..errors import DataError, EngineError, GrammarError, InputError, TransientEngineError
from .base import Grammar, GrammarState, Prompt, Regex
from .served import misfit


@dataclass(frozen=True, slots=True)
class Reply:
    """One scripted answer: `latency` seconds spread over its tokens, then `error` raised if there is one.

    All that a model and its server do to a graph can be written so:

    - slow: `Reply("text", latency=2.0)`; one that never ends, for timeouts: `latency=math.inf`.
    - a fault before the first token: `Reply("", error=TransientEngineError("busy", retry_after=5.0))`; in the middle of
      an answer: `Reply("half of", error=…)`. Any exception will do; a policy retries those that it names.
    - cut: the whole text in the script, `max_tokens` or the engine's `window` in the test; the next `generate` on that
      context goes on with the rest.
    - malformed: JSON that breaks off, a value of another type, an option that is none, `"\\ufffd"` and
      `"\\ud800"` (what is left of a broken encoding). It is given as it is, whatever the grammar, because the driver or
      the node's type has to say what is wrong; with `ScriptedEngine(…, checks_grammar=True)` it is a GrammarError.
    - different each time: a list of replies, or a function of the prompt and of the number of replies given before.
    """

    text: str
    latency: float = 0.0
    error: Exception | None = None


Answer: TypeAlias = str | Reply
Rules: TypeAlias = Sequence[Answer] | Mapping[Any, Answer | Sequence[Answer]] | Callable[[str, int], Answer]
"""Replies in order; or `{substring or re.Pattern: reply or replies in order}`, of which the one that matches last in
the prompt answers; or a function of the prompt's text and the number of replies given before."""


class Script:
    """Chooses replies by rules and counts what it has given."""

    def __init__(self, rules: Rules) -> None:
        if isinstance(rules, str):
            raise InputError(f"a script is a list of replies, a mapping or a function; for one reply write [{rules!r}]")
        self._rules = rules
        self._given: dict[Any, int] = {}
        self._count = 0

    def reply(self, prompt: str) -> Reply:
        """The reply to a prompt. Raises EngineError where the script has none."""
        answer = self._choose(prompt)
        self._count += 1
        return answer if isinstance(answer, Reply) else Reply(answer)

    def _choose(self, prompt: str) -> Answer:
        rules = self._rules
        if callable(rules):
            return rules(prompt, self._count)
        if not isinstance(rules, Mapping):
            return self._in_order("the script", rules, prompt)
        ends = {key: _last_end(key, prompt) for key in rules}
        matching = [key for key, end in ends.items() if end >= 0]
        if not matching:
            keys = ", ".join(repr(_shown(key)) for key in rules)
            raise EngineError(f"no rule of the script matches the prompt {_tail(prompt)!r}; rules: {keys}")
        key = max(matching, key=lambda key: ends[key])
        answer = rules[key]
        if isinstance(answer, str | Reply):
            return answer
        return self._in_order(f"rule {_shown(key)!r}", answer, prompt, key)

    def _in_order(self, what: str, answers: Sequence[Answer], prompt: str, key: Any = None) -> Answer:
        index = self._given.get(key, 0)
        if index >= len(answers):
            raise EngineError(f"{what} has no more than {len(answers)} replies; asked again with {_tail(prompt)!r}")
        self._given[key] = index + 1
        return answers[index]


@dataclass(frozen=True, slots=True)
class ScriptedGrammar:
    """What was said so far under a grammar. Any text is accepted on the way; a complete reply is checked."""

    grammar: Grammar
    text: str = ""

    def force(self, text: str) -> ScriptedGrammar:
        return ScriptedGrammar(self.grammar, self.text + text)

    @property
    def complete(self) -> bool:
        return self.fault() == ""

    def check(self) -> None:
        """Raise GrammarError if the text does not fit the grammar."""
        fault = self.fault()
        if fault:
            kind = type(self.grammar).__name__
            raise GrammarError(f"the scripted reply {_tail(self.text)!r} does not fit its {kind}: {fault}")

    def fault(self) -> str:
        """Why the text does not fit; empty where it does."""
        return misfit(self.grammar, self.text)


def follow(grammar: Grammar | GrammarState | None) -> ScriptedGrammar | None:
    """The state in which a generation starts. Raises GrammarError for another engine's, and for no expression."""
    if grammar is None or isinstance(grammar, ScriptedGrammar):
        return grammar
    if isinstance(grammar, GrammarState):
        raise GrammarError(f"a grammar state of another engine ({type(grammar).__name__}) can't be continued here")
    if isinstance(grammar, Regex):
        try:
            re.compile(grammar.pattern)
        except re.error as error:
            raise GrammarError(f"the regular expression {grammar.pattern!r} can't be read: {error}") from error
    return ScriptedGrammar(grammar)


def read_script(path: str | Path) -> Rules:
    """Rules from a JSON file. Raises DataError."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"script {path} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"script {path} is not JSON: {error}") from error
    if isinstance(data, list):
        return [_read_reply(item, path) for item in data]
    if isinstance(data, dict):
        return {
            key: [_read_reply(item, path) for item in value] if isinstance(value, list) else _read_reply(value, path)
            for key, value in data.items()
        }
    raise DataError(
        f"script {path} holds a {type(data).__name__}; it must be a list of replies or a mapping to replies"
    )


def tokenise(text: str) -> tuple[str, ...]:
    """Words and punctuation marks, each with the white space before it; joined they are the text again."""
    return tuple(re.findall(r"\s*\w+|\s*[^\w\s]|\s+", text))


def render_messages(messages: Prompt) -> str:
    """The messages as this engine's chat template shows them, with the assistant's turn opened."""
    shown = "".join(f"<|{message.role}|>{message.content}\n" for message in messages if not isinstance(message, str))
    return shown + "<|assistant|>"


def _read_reply(item: Any, path: str | Path) -> Reply:
    if isinstance(item, str):
        return Reply(item)
    if isinstance(item, dict) and set(item) <= {"text", "latency", "error", "retry_after"}:
        text, error = item.get("text", ""), item.get("error")
        latency, wait = item.get("latency", 0.0), item.get("retry_after", 0.0)
        fit = isinstance(latency, int | float) and isinstance(wait, int | float)
        if isinstance(text, str) and isinstance(error, str | None) and fit:
            fault = TransientEngineError(error, retry_after=float(wait)) if error else None
            return Reply(text, float(latency), fault)
    raise DataError(f"script {path}: {item!r} is no reply; write a text or {{'text': …, 'latency': …, 'error': …}}")


def _last_end(key: Any, prompt: str) -> int:
    """Where the last match of a rule ends; -1 without one."""
    if isinstance(key, re.Pattern):
        return max((match.end() for match in key.finditer(prompt)), default=-1)
    start = prompt.rfind(key)
    return start + len(key) if start >= 0 else -1


def _shown(key: Any) -> str:
    return str(key.pattern if isinstance(key, re.Pattern) else key)


def _tail(text: str, length: int = 80) -> str:
    return text if len(text) <= length else "…" + text[-length:]

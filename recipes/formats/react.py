"""ReAct: thought, action, observation, one call a turn (Yao et al. 2022, arXiv:2210.03629); the baseline."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ...errors import FormatError
from .base import Answer, Format, Move, Result, ToolCall, read_arguments, spaced
from .ids import Ids
from .scan import ValueScanner

MOVE = re.compile(r"\n(?:Final Answer:|Action:[ \t]*(.*)\n+Action Input:)")
OBSERVATION = "\nObservation:"


class ReAct(Format):
    """`Action: NAME`, `Action Input: {…}`, then `Observation: …`; `Final Answer: …` ends it."""

    name = "react"
    stop = (OBSERVATION,)
    force = "\nFinal Answer: "

    def parser(self, ids: Ids) -> ReActParser:
        return ReActParser(ids)

    def write(self, results: Sequence[Result]) -> str:
        """Goes on in the same text, after the word at which the model has stopped."""
        return "".join(f" {result.text}\n" for result in results)

    def say(self, calls: Sequence[ToolCall]) -> str:
        """Raises FormatError for more than one call, which this format has no place for."""
        if len(calls) != 1:
            raise FormatError(f"react calls one tool a turn, not {len(calls)}")
        return f"Action: {calls[0].name}\nAction Input: {spaced(calls[0].arguments)}{OBSERVATION}"

    def conclude(self, answer: str) -> str:
        return f"Final Answer: {answer}"


class ReActParser:
    """A call is complete at the last bracket of its input; what a turn says after that is not read."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._text = "\n"  # so that the first line begins like all others
        self._at = self._scanned = 0
        self._name: str | None = None  # the action's; empty for the final answer
        self._value: ValueScanner | None = None
        self._called = False

    def feed(self, text: str) -> list[Move]:
        self._text += text
        if self._called or (self._name is None and not self._find()) or not self._opened():
            return []
        assert self._value is not None
        end = self._value.feed(self._text, self._scanned)
        self._scanned = len(self._text)
        if end < 0:
            return []
        self._called = True
        return [self._call(self._text[self._at : end])]

    def end(self) -> list[Move]:
        said, called, name = self._text[self._at :].partition(OBSERVATION)[0].strip(), self._called, self._name
        call = self._call(said) if name and not called else None
        if called:
            return []
        if call is not None:
            return [call]
        if name is None or not said:
            raise FormatError(f"a turn holds neither an action nor a final answer: {said[-200:]!r}")
        return [Answer(said)]

    def _find(self) -> bool:
        """Go behind the words that open an action's input or the final answer."""
        found = MOVE.search(self._text, self._scanned)
        if found is None:  # the last action may still get its input, and the last line may become one
            last = self._text.rfind("\nAction:", self._scanned)
            self._scanned = last if last >= 0 else self._text.rfind("\n")
            return False
        self._name, self._at = (found[1] or "").strip(), found.end()
        return True

    def _opened(self) -> bool:
        """Whether the input's object has begun. An answer, or an input that is no object, is read at the turn's end."""
        if self._value is not None or not self._name:
            return self._value is not None
        start = len(self._text) - len(self._text[self._at :].lstrip())
        if not self._text.startswith("{", start):
            return False
        self._value, self._at, self._scanned = ValueScanner(), start, start
        return True

    def _call(self, written: str) -> ToolCall:
        return read_arguments(self._ids.next(), self._name or "", written)

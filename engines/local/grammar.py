"""Grammars: which tokens may come next, by llguidance (DESIGN.md §4, grammar state)."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import TypeAlias

import numpy as np
import torch
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray
from torch import Tensor

from ...errors import GrammarError
from ..base import Choice, Ebnf, Grammar, JsonSchema, Lark, Regex
from .ebnf import ebnf_to_lark
from .tokenizer import Tokenizer

GRAMMARS = frozenset({"JsonSchema", "Regex", "Choice", "Lark", "Ebnf"})
Mask: TypeAlias = NDArray[np.bool_]
"""Which tokens are allowed, [vocab]."""

_KEPT = 64
_NOTHING_FITS = "NoExtensionBias"
_SLASH = re.compile(r"(\\.)|/", re.DOTALL)


class Matcher:
    """Follows one generation through its grammar. Mutable; `GrammarState` is what is handed out of it."""

    def __init__(self, matcher: LLMatcher, tokenizer: Tokenizer) -> None:
        self._matcher = matcher
        self._tokenizer = tokenizer

    @property
    def complete(self) -> bool:
        """True where the output may end."""
        return bool(self._matcher.is_accepting())

    @property
    def ended(self) -> bool:
        """True where the output can only end."""
        return bool(self._matcher.is_stopped())

    def copy(self) -> Matcher:
        return Matcher(self._matcher.deep_copy(), self._tokenizer)

    def mask(self, vocabulary: int) -> Mask:
        """Which tokens may come next, [vocabulary]; all False if the output can only end. Raises GrammarError where it
        can neither go on nor end."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        if self._matcher.is_error():
            reason = self._matcher.get_error().partition("\n")[0]  # what follows is llguidance's own state
            if reason == _NOTHING_FITS:
                raise GrammarError("the grammar can't be satisfied: no text fits it from here on. Correct it")
            raise GrammarError(f"grammar gave up: {reason}. Simplify it")
        allowed = np.zeros(vocabulary, dtype=np.bool_)
        found = np.unpackbits(bits, bitorder="little")[:vocabulary]
        allowed[: len(found)] = found
        if np.count_nonzero(allowed) <= len(self._tokenizer.eos) and self._only_ends(allowed):
            allowed[:] = False
            if not self.complete:
                raise GrammarError(
                    "the grammar can't go on: the vocabulary has no token that it allows here. Change it"
                )
        return allowed

    def _only_ends(self, allowed: Mask) -> bool:
        return set(np.flatnonzero(allowed).tolist()) <= self._tokenizer.eos

    def accept(self, token: int) -> None:
        """Go on over a token that the mask allowed."""
        if self._matcher.try_consume_tokens([token]) != 1:
            raise GrammarError(f"token {token} is not allowed here: {self._matcher.get_error()}")

    def force(self, text: str) -> None:
        """Go on over a text that was not sampled, tokenised on its own."""
        tokens = self._tokenizer.encode_more(text)
        taken = self._matcher.try_consume_tokens(tokens)
        if taken != len(tokens):
            allowed = self._tokenizer.data(tokens[:taken]).decode("utf-8", "replace")
            raise GrammarError(f"the grammar does not allow {text!r} here: it stops after {allowed!r}")

    def replace_last(self, instead: Sequence[int]) -> None:
        """As if other tokens had been taken in place of the last."""
        self._matcher.rollback(1)
        if self._matcher.try_consume_tokens(list(instead)) != len(instead):
            raise GrammarError(f"tokens {list(instead)} are not allowed here: {self._matcher.get_error()}")


class LocalGrammarState:
    """Where a generation stands in its grammar: an immutable value (see engines.base.GrammarState)."""

    __slots__ = ("_matcher", "tokenizer")

    def __init__(self, matcher: Matcher, tokenizer: Tokenizer) -> None:
        """Takes the matcher over: nobody else may move it afterwards."""
        self._matcher = matcher
        self.tokenizer = tokenizer

    def force(self, text: str) -> LocalGrammarState:
        """The state after `text` was inserted. Raises GrammarError if it isn't allowed here."""
        matcher = self.matcher()
        matcher.force(text)
        return LocalGrammarState(matcher, self.tokenizer)

    @property
    def complete(self) -> bool:
        return self._matcher.complete

    def matcher(self) -> Matcher:
        """A matcher that goes on from here."""
        return self._matcher.copy()


class GrammarCompiler:
    """Compiles grammars for one tokenizer, and keeps the latest."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._compiled: OrderedDict[str, Matcher] = OrderedDict()
        self._lock = Lock()

    def known(self, grammar: Grammar) -> Matcher | None:
        """As `matcher`, but None where it would have to be compiled, which can take long."""
        with self._lock:
            found = self._compiled.get(_source(grammar))
            return found.copy() if found else None

    def matcher(self, grammar: Grammar) -> Matcher:
        """A matcher at the grammar's start. Raises GrammarError."""
        source = _source(grammar)
        compiled = Matcher(_compile(source, self._tokenizer.trie), self._tokenizer)
        with self._lock:
            self._compiled[source] = compiled
            if len(self._compiled) > _KEPT:
                self._compiled.popitem(last=False)
            return compiled.copy()


def forbid(logits: Tensor, allowed: Sequence[Mask | None]) -> None:
    """Forbid, in each row of logits [rows, vocab], what its mask doesn't allow; None allows everything."""
    rows = [row for row, mask in enumerate(allowed) if mask is not None]
    if rows:
        masks = np.stack([mask for mask in allowed if mask is not None])
        index = torch.tensor(rows, device=logits.device)
        logits[index] = logits[index].masked_fill(torch.from_numpy(~masks).to(logits.device), -torch.inf)


def _compile(source: str, trie: LLTokenizer) -> LLMatcher:
    matcher = LLMatcher(trie, source, log_level=0)
    if matcher.is_error():
        raise GrammarError(f"grammar can't be compiled, correct it: {matcher.get_error().strip()}")
    return matcher


def _source(grammar: Grammar) -> str:
    """The grammar as llguidance reads it.

    Without `no_forcing` it would allow nothing but its own tokenisation of text that can't be otherwise, whatever
    tokens the model was trained to write that text with.
    """
    try:
        return str(LLMatcher.grammar_from_lark(f'{_lark(grammar)}\n%llguidance {{"no_forcing": true}}\n'))
    except (TypeError, ValueError) as error:
        raise GrammarError(f"grammar can't be compiled, correct it: {error}") from error


def _lark(grammar: Grammar) -> str:
    match grammar:
        case JsonSchema(schema):
            return "start: %json " + json.dumps({**schema, "x-guidance": {"whitespace_flexible": False}})
        case Regex(pattern):
            slashes_escaped = _SLASH.sub(lambda found: found[1] or r"\/", pattern)
            return "start: /" + slashes_escaped.replace("\n", r"\n") + "/"
        case Choice(options):
            return _choice(options)
        case Lark(text):
            return text
        case Ebnf(text):
            return ebnf_to_lark(text)
    raise GrammarError(f"unknown grammar {grammar!r}; known: {', '.join(sorted(GRAMMARS))}")


def _choice(options: Sequence[str]) -> str:
    if not options or not all(options):
        raise GrammarError(f"a choice needs options that are not empty, got {list(options)!r}")
    return "start: " + " | ".join(json.dumps(option, ensure_ascii=False) for option in options)

"""Generations: sampled tokens become text, and stop where they should (DESIGN.md §5)."""

from __future__ import annotations

import codecs
import time
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING

from ...usage import Usage
from ..base import Chunk, Finish, Likely, Sampling, Stop, TokenLogprobs
from .grammar import Mask, Matcher
from .mailbox import Mailbox
from .sampling import Adjustment, Chance, Row
from .work import Work

if TYPE_CHECKING:
    from .thread import Thread
    from .tokenizer import Tokenizer


class TextReader:
    """Turns tokens into text as they come. A character that isn't whole yet is left for the tokens to come."""

    def __init__(self, tokenizer: Tokenizer, before: Sequence[int]) -> None:
        """`before` are the tokens before the first, whose last character may not be whole."""
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._decoder.decode(tokenizer.data(before[-4:]))

    def read(self, token: int) -> str:
        return self._decoder.decode(self._tokenizer.data((token,)))

    def mark(self) -> tuple[bytes, int]:
        return self._decoder.getstate()

    def bytes_for(self, token: int, characters: int, mark: tuple[bytes, int]) -> bytes:
        """The first bytes of a token that, read from `mark`, give so many characters."""
        self._decoder.setstate(mark)
        data, read = self._tokenizer.data((token,)), 0
        for length in range(len(data) + 1):
            if read >= characters:
                return data[:length]
            read += len(self._decoder.decode(data[length : length + 1]))
        return data


class Generation(Work):
    """Samples tokens until something ends it. `text` is what was sampled, up to and including a stop string."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        before: Sequence[int],
        *,
        room: int,
        max_tokens: int,
        stop: Sequence[Stop],
        matcher: Matcher | None,
        sampling: Sampling,
        streams: bool = False,
        mailbox: Mailbox | None = None,
    ) -> None:
        """`before` are the tokens of the context (a repetition penalty asks for all, otherwise the last few do);
        `room` is how many more the window holds."""
        super().__init__((), mailbox)
        self.sampling = sampling
        self.matcher = matcher
        self.text = ""
        self.sampled: list[int] = []
        self.kept: tuple[int, ...] = ()
        """The tokens of `text`, known at the end."""
        self.allowed: Mask | None = None
        self.finish: Finish | None = None
        self.stop: Stop | None = None
        self.logprobs: list[TokenLogprobs] = []
        self._tokenizer = tokenizer
        self._reader = TextReader(tokenizer, before)
        self._stops = tuple(text for text in stop if isinstance(text, str))
        self._stop_tokens = frozenset(token for token in stop if isinstance(token, int))
        self._adjustment = Adjustment.of(sampling, before, tokenizer.size)
        self._room = room
        self._max_tokens = max_tokens
        self._streams = streams
        self._random = Random(sampling.seed)
        self._dropped = self._forced = self._given = 0
        self._check_room()
        if matcher is not None and matcher.ended:
            self.finish = "grammar"

    @property
    def needs_logits(self) -> bool:
        return not self.sampled and self.finish is None

    @property
    def expected(self) -> int:
        return min(self._max_tokens, self._room) - len(self.sampled)

    def done(self, thread: Thread) -> bool:
        return self.finish is not None

    def wanted(self, thread: Thread, start: int, stop: int) -> range:
        return range(len(thread.own) - 1, stop) if self.finish is None else range(0)

    def look_ahead(self, vocabulary: int) -> None:
        """See what the grammar allows next; if that is only the end, this is it. Raises GrammarError."""
        if self.matcher is None:
            return
        self.allowed = self.matcher.mask(vocabulary)
        if not self.allowed.any():
            self.finish = "grammar"

    def row(self) -> Row:
        """How its next token is to be chosen. Takes a random number of its own: nothing else in the batch has a part
        in it."""
        return Row(self.sampling, self._random.random(), self._adjustment, self.allowed)

    def accept(self, token: int, thread: Thread, chance: Chance | None = None) -> None:
        """Take the token that was sampled; `chance`, if log-probabilities were asked for."""
        if token in self._tokenizer.eos:
            self.finish = "eos"
            return
        if self.matcher is not None:
            self.matcher.accept(token)
        if self._adjustment is not None:
            self._adjustment.note(token)
        if chance is not None:
            best = tuple(Likely(other, self._name(other), logprob) for other, logprob in chance.best)
            self.logprobs.append(TokenLogprobs(token, self._name(token), chance.logprob, best))
        thread.own.append(token)
        self.sampled.append(token)
        mark, known = self._reader.mark(), len(self.text)
        self.text += self._reader.read(token)
        self._check_room()
        if self.matcher is not None and self.matcher.ended:
            self.finish = "grammar"
        if token in self._stop_tokens:
            self.finish, self.stop = "stop", token
        self._look_for_stop(token, known, mark, thread)
        if self._streams:
            self.mailbox.put(Chunk(self.text[known:]))

    def insert(self, tokens: Sequence[int], thread: Thread) -> None:
        """Go on from tokens that it is given. They are part of its text; no stop string is looked for in them."""
        thread.own += tokens
        self._forced += len(tokens)
        known = len(self.text)
        self.text += "".join(self._reader.read(token) for token in tokens)
        self._given = len(self.text)
        if self._streams:
            self.mailbox.put(Chunk(self.text[known:], 0))

    def account(self, thread: Thread) -> None:
        self.kept = tuple(thread.own[thread.lead :])
        sampled, forced, dropped = len(self.sampled), self._forced, self._dropped
        held = thread.holding.length
        self.usage = Usage(
            prompt=forced,
            generated=sampled,
            prefilled=forced - thread.cached,
            cached=thread.cached,
            recomputed=thread.recomputed,
            pruned=dropped,
            live=sampled + forced - dropped,
            peak_live=held + sampled + max(forced - dropped, 0),
            steps=sampled,
            critical_path=sampled + forced,
            seconds=time.monotonic() - self.started,
        )

    def _name(self, token: int) -> str:
        return self._tokenizer.data((token,)).decode("utf-8", "replace")

    def _check_room(self) -> None:
        if len(self.sampled) >= self._max_tokens:
            self.finish = "length"
        elif len(self.sampled) >= self._room:
            self.finish = "window"

    def _look_for_stop(self, token: int, known: int, mark: tuple[bytes, int], thread: Thread) -> None:
        """Find the stop string that ends first (of two that end together, the longer). It ends before a stop token."""
        found = []
        for stop in self._stops:
            start = self.text.find(stop, max(self._given, known - len(stop) + 1))
            if start >= 0:
                found.append((start + len(stop), start, stop))
        if not found:
            return
        end, _, self.stop = min(found)
        self.finish = "stop"
        kept = self._reader.bytes_for(token, end - known, mark)
        self.text = self.text[:end]
        if kept != self._tokenizer.data((token,)):
            self._replace_last(kept, thread)

    def _replace_last(self, kept: bytes, thread: Thread) -> None:
        """The last token goes beyond the stop string: have tokens of the part before its end instead. It isn't encoded
        yet, so nothing in the pool has to go."""
        instead = self._tokenizer.encode_bytes(kept)
        thread.own[-1:] = instead
        self._dropped, self._forced = 1, len(instead)
        if self.matcher is not None:
            self.matcher.replace_last(instead)

"""Token maps: where the characters of a text that is being written stand among the tokens of its context."""

from __future__ import annotations

from bisect import bisect_left, bisect_right


class TokenMap:
    """Boundaries between tokens, taken from the chunks of a text and kept true while parts of it are dropped.

    `before` is how many tokens the context holds before the text. Characters keep their numbers when some are dropped.
    """

    def __init__(self, before: int) -> None:
        self.characters = 0
        """Characters of the text so far, dropped ones included."""
        self._characters = [0]
        self._tokens = [before]
        """Boundaries: after so many characters stand so many tokens, counted as if none had been dropped."""
        self._dropped: list[tuple[int, int]] = []
        self._unread = 0

    def add(self, text: str, tokens: int) -> None:
        """A chunk of the text, and how many tokens it is.

        One without text is part of a character yet to come; of one without tokens an engine could not tell: there is
        no boundary after either.
        """
        self.characters += len(text)
        self._unread += tokens
        if text and tokens:
            self._characters.append(self.characters)
            self._tokens.append(self._tokens[-1] + self._unread)
            self._unread = 0

    def settle(self, length: int) -> None:
        """The context holds `length` tokens after all chunks, which need not be their sum: an engine may have cut the
        last token into several."""
        if self._characters[-1] == self.characters and len(self._tokens) > 1:
            del self._characters[-1], self._tokens[-1]
        self._characters.append(self.characters)
        self._tokens.append(length + self._gone_for_good())
        self._unread = 0

    def boundary(self, character: int) -> tuple[int, int]:
        """The last boundary at or before a character: its own character, and its index in the context."""
        at = bisect_right(self._characters, character) - 1
        return self._characters[at], self._tokens[at] - self._gone(self._tokens[at])

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """The tokens that lie wholly in characters [start, stop), as indices of the context."""
        first, last = self._span(start, stop)
        return first - self._gone(first), last - self._gone(last)

    def drop(self, start: int, stop: int) -> None:
        """The tokens that lie wholly in characters [start, stop) are gone from the context."""
        first, last = self._span(start, stop)
        kept = [part for part in self._dropped if not first <= part[0] < last]
        self._dropped = [*kept, (first, last)]

    def _span(self, start: int, stop: int) -> tuple[int, int]:
        first = self._tokens[bisect_left(self._characters, start)]
        return first, max(first, self._tokens[bisect_right(self._characters, stop) - 1])

    def _gone_for_good(self) -> int:
        return sum(stop - start for start, stop in self._dropped)

    def _gone(self, token: int) -> int:
        """How many of the tokens before this one have been dropped."""
        return sum(min(stop, token) - min(start, token) for start, stop in self._dropped)

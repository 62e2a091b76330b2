"""Views: what one thread attends to, as an ordered list of spans, and the edits of that list (DESIGN.md §4).

Every edit is arithmetic on the host and returns a new view; no key or value moves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .segment import Segment


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens [start, stop) of a segment, the first of them at view position `position`.

    `exact` says that its keys and values are what a prefill of the tokens before it would give: it hasn't moved since
    it was encoded, and nothing that it saw has gone. `branch` says which parallel groups it is in, outermost first, and
    which sibling of each it belongs to: pairs of numbers (see `structure`). `teamed` says that a team wrote it: what
    its tokens saw is in the team's record and in no view.
    """

    segment: Segment
    start: int
    stop: int
    position: int
    exact: bool = True
    branch: tuple[tuple[int, int], ...] = ()
    teamed: bool = False

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def offset(self) -> int:
        """View position − rotation position; queries are rotated by it."""
        return self.position - self.segment.origin - self.start

    @property
    def end(self) -> int:
        """The position after the last token."""
        return self.position + len(self)

    @property
    def tokens(self) -> list[int]:
        return self.segment.tokens[self.start : self.stop]

    def part(self, start: int, stop: int) -> Span:
        """Its tokens [start, stop), counted from its own first, where they stand."""
        return replace(self, start=self.start + start, stop=self.start + stop, position=self.position + start)

    def moved(self, by: int) -> Span:
        """The same keys, seen elsewhere and after other tokens."""
        return replace(self, position=self.position + by, exact=False)

    def joins(self, other: Span) -> bool:
        """True if `other` goes on where this one ends, in the segment and in the view."""
        return (
            self.segment is other.segment
            and self.stop == other.start
            and self.end == other.position
            and self.exact == other.exact
            and self.branch == other.branch
        )


@dataclass(frozen=True, slots=True)
class View:
    """Spans in view order; the next token stands at position `next`. Neighbours that join are one span."""

    spans: tuple[Span, ...] = ()
    next: int = 0

    def __len__(self) -> int:
        return sum(len(span) for span in self.spans)

    @property
    def exact(self) -> bool:
        """True if this equals a fresh prefill of its tokens."""
        return self.next == len(self) and all(span.exact and not span.branch for span in self.spans)

    @property
    def ends_side_by_side(self) -> bool:
        """True if its last token is in a parallel group: no token has seen all of the view yet."""
        return bool(self.spans and self.spans[-1].branch)

    @property
    def tokens(self) -> list[int]:
        return [token for span in self.spans for token in span.tokens]

    def pages(self) -> list[int]:
        """The pages that hold its tokens, each once."""
        found: dict[int, None] = {}
        for span in self.spans:
            size = span.segment.page_size
            found.update(dict.fromkeys(span.segment.pages[span.start // size : -(-span.stop // size)]))
        return list(found)

    def append(self, *spans: Span) -> View:
        """With spans after its own, each where it says it stands; empty ones are left out."""
        kept, end = list(self.spans), self.next
        for span in spans:
            if not span:
                continue
            if kept and kept[-1].joins(span):
                span = replace(kept.pop(), stop=span.stop)
            kept.append(span)
            end = max(end, span.end)
        return View(tuple(kept), end)

    def cut(self, index: int) -> tuple[View, tuple[Span, ...]]:
        """The view of the first `index` tokens, and the spans of the rest where they stand."""
        head, rest, seen = View(), [], 0
        for span in self.spans:
            kept = min(max(index - seen, 0), len(span))
            head = head.append(span.part(0, kept))
            if kept < len(span):
                rest.append(span.part(kept, len(span)))
            seen += len(span)
        return (head, tuple(rest)) if rest else (self, ())

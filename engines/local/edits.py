"""Edits of views: prune and splice (DESIGN.md §4). Each says what it would keep and what must be encoded again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import CapabilityError
from ..base import Placement
from .view import Span, View


@dataclass(frozen=True, slots=True)
class Edit:
    """`view` is what stays as it is; `again` are tokens to encode after it, `added` of them new to the context."""

    view: View
    again: tuple[int, ...] = ()
    added: int = 0


def prune_shift(view: View, start: int, stop: int) -> Edit:
    """Later spans slide down with the keys they have: exact at one layer only, approximate beyond."""
    _refuse_groups(view)
    return Edit(view.without(start, stop))


def prune_exact(view: View, start: int, stop: int) -> Edit:
    """What follows the cut, or the first token that isn't exact, is encoded again."""
    _refuse_groups(view)
    kept, first = view.tokens, min(start, _first_inexact(view))
    again = kept[first:start] + kept[max(stop, first) :]
    return Edit(view.cut(first)[0], tuple(again))


def splice_shift(view: View, others: Sequence[View], at: Placement) -> Edit:
    """The others' own spans come in with the keys they have."""
    pieces = _own(view, others)
    return Edit(view.followed_by(pieces) if at == "sequence" else view.joined_by(pieces))


def splice_exact(view: View, others: Sequence[View], at: Placement) -> Edit:
    """In sequence the others' own tokens are encoded again, each seeing those before it. Side by side nothing moves if
    they all were forked where this context ends: that is exact as it is."""
    pieces = _own(view, others)
    if at == "sequence":
        again = tuple(token for piece in pieces for span in piece for token in span.tokens)
        return Edit(view, again, added=len(again))
    if any(piece and piece[0].position != view.next for piece in pieces):
        raise CapabilityError("an exact parallel splice needs contexts forked where this one ends; use mode='shift'")
    return Edit(view.joined_by(pieces))


def _own(view: View, others: Sequence[View]) -> list[tuple[Span, ...]]:
    """What each of the others holds beyond its longest common prefix with the view."""
    return [other.cut(view.common(other))[1] for other in others]


def _refuse_groups(view: View) -> None:
    if view.next != len(view):
        raise CapabilityError("can't prune a context that holds a parallel group; prune its parts before the splice")


def _first_inexact(view: View) -> int:
    seen = 0
    for span in view.spans:
        if not span.exact:
            return seen
        seen += len(span)
    return seen

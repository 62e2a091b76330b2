"""Edits of views: prune and splice (DESIGN.md §4). Each says what it would keep and what must be encoded again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ...errors import CapabilityError
from ..base import Placement
from .structure import Group, Piece, followed_by, joined_by, level, own_spans, pieces, unmarked, without
from .view import Span, View


@dataclass(frozen=True, slots=True)
class Sibling:
    """One side of a parallel group: what stays of it, and what is to be encoded after that."""

    kept: tuple[Span, ...]
    again: tuple[Again, ...]


@dataclass(frozen=True, slots=True)
class Fork:
    """Siblings side by side, each of which sees what stands before them all and no other."""

    siblings: tuple[Sibling, ...]


Again: TypeAlias = tuple[int, ...] | Fork
"""Tokens to encode, or siblings that hold some."""


@dataclass(frozen=True, slots=True)
class Edit:
    """`view` is what stays as it is; `again` is encoded after it, `added` of its tokens new to the context."""

    view: View
    again: tuple[Again, ...] = ()
    added: int = 0

    @property
    def next(self) -> int:
        """The position after all of it."""
        return _end(self.again, self.view.next)

    @property
    def recomputed(self) -> int:
        """Tokens to encode again."""
        return _count(self.again)


@dataclass(frozen=True, slots=True)
class Other:
    """A view to be spliced in, of which the first `common` tokens are the context's own too.

    `stays` says whether what follows them saw just what the context holds: it was forked where that ends.
    """

    view: View
    common: int
    stays: bool

    @property
    def own(self) -> tuple[Span, ...]:
        return own_spans(self.view, self.common)


def prune_shift(view: View, start: int, stop: int) -> Edit:
    """Later spans slide down with the keys they have: exact at one layer only, approximate beyond."""
    return Edit(without(view, start, stop))


def prune_exact(view: View, start: int, stop: int) -> Edit:
    """What has seen a token of the cut, or one that isn't exact, is encoded again, siblings masked as they were."""
    side, _ = _rewritten(pieces(view, start, stop))
    return Edit(View().append(*side.kept), side.again)


def splice_shift(view: View, others: Sequence[Other], at: Placement) -> Edit:
    """The others' own spans come in with the keys they have."""
    placed = followed_by if at == "sequence" else joined_by
    return Edit(placed(view, [other.own for other in others], [other.stays for other in others]))


def splice_exact(view: View, others: Sequence[Other], at: Placement) -> Edit:
    """What has not seen just what stands before it now is encoded again."""
    side, stale = _rewritten(pieces(view, 0, 0))
    edit = Edit(View().append(*side.kept), side.again)
    return _in_sequence(edit, others, stale) if at == "sequence" else _side_by_side(edit, others, stale)


def _in_sequence(edit: Edit, others: Sequence[Other], stale: bool) -> Edit:
    """Each sees those before it; only the first may have seen no more and no less already."""
    view, again, added = edit.view, edit.again, 0
    for other in others:
        side, _ = _rewritten(map(Piece, other.own), stale=stale or not other.stays)
        view, again, added = view.append(*side.kept), _chained(again, side.again), added + _count(side.again)
        stale = stale or bool(other.own)
    return Edit(view, again, added)


def _side_by_side(edit: Edit, others: Sequence[Other], stale: bool) -> Edit:
    """Those that were forked where the context ends have seen what they see now."""
    if not others:
        return edit
    sides = [_rewritten(map(Piece, other.own), stale=stale or not other.stays) for other in others]
    if not any(touched for _, touched in sides):
        return Edit(joined_by(edit.view, [other.own for other in others], [True] * len(others)))
    fork = Fork(tuple(side for side, _ in sides))
    return Edit(edit.view, (*edit.again, fork), sum(_count(side.again) for side, _ in sides))


def _rewritten(pieces: Iterable[Piece], depth: int = 0, stale: bool = False) -> tuple[Sibling, bool]:
    """What stays of the pieces and what is encoded again, and whether what follows has to be. `stale` says whether
    what stands before the pieces isn't what they saw."""
    kept, again = list[Span](), tuple[Again, ...]()
    for part in level(pieces, depth):
        if isinstance(part, Group):
            sides = [_rewritten(sibling, depth + 1, stale) for sibling in part.siblings]
            stale = any(touched for _, touched in sides)
            if stale:
                again = _chained(again, (Fork(tuple(side for side, _ in sides if side.kept or side.again)),))
            else:
                kept += (unmarked(piece.span, depth) for sibling in part.siblings for piece in sibling)
        elif not part.kept:
            stale = True
        elif stale or not part.span.exact:
            _refuse_teamed(part.span)
            stale, again = True, _chained(again, (tuple(part.span.tokens),))
        else:
            kept.append(unmarked(part.span, depth))
    return Sibling(tuple(kept), again), stale


def _refuse_teamed(span: Span) -> None:
    if span.teamed:
        raise CapabilityError(
            "tokens of a team can't be encoded again outside of it, since no view holds what they saw; edit with "
            "mode='shift', or edit the members' contexts before they work together"
        )


def _chained(first: tuple[Again, ...], then: tuple[Again, ...]) -> tuple[Again, ...]:
    """One after the other; tokens that follow tokens are one run, and what is empty is left out."""
    for part in then:
        if first and isinstance(first[-1], tuple) and isinstance(part, tuple):
            first = (*first[:-1], first[-1] + part)
        elif isinstance(part, tuple) or part.siblings:
            first = (*first, part)
    return first


def _count(again: Sequence[Again]) -> int:
    """Tokens to be encoded."""
    sides = (side for part in again if isinstance(part, Fork) for side in part.siblings)
    return sum(len(part) for part in again if isinstance(part, tuple)) + sum(_count(side.again) for side in sides)


def _end(again: Sequence[Again], position: int) -> int:
    """The position after what is encoded from `position` on."""
    for part in again:
        if isinstance(part, tuple):
            position += len(part)
        else:
            begin = position
            position = max(_end(side.again, max((s.end for s in side.kept), default=begin)) for side in part.siblings)
    return position

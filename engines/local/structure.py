"""The structure of a view: parallel groups, as the branch marks of its spans spell them (DESIGN.md §4).

A token sees those before it in the view, but for those in another sibling of a group that it is in. The siblings of a
group all begin at one position; what follows the group stands after the longest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, groupby

from ...errors import ContextError
from .view import Span, View

_groups = count()
"""Numbers of groups; a splice gives new ones, so that no two groups of a view share one."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A span and whether an edit keeps it."""

    span: Span
    kept: bool = True


@dataclass(frozen=True, slots=True)
class Group:
    """The pieces of each sibling."""

    siblings: tuple[tuple[Piece, ...], ...]


def level(pieces: Iterable[Piece], depth: int) -> Iterator[Piece | Group]:
    """What stands one after the other: pieces that are in no group below `depth`, and groups."""
    for group, run in groupby(pieces, lambda piece: piece.span.branch[depth][0] if piece.span.branch[depth:] else None):
        if group is None:
            yield from run
        else:
            yield Group(tuple(tuple(sibling) for _, sibling in groupby(run, lambda piece: piece.span.branch[depth])))


def pieces(view: View, start: int, stop: int) -> list[Piece]:
    """The view's spans, of which an edit keeps all but the tokens [start, stop). Raises ContextError where the cut
    crosses a boundary of a group."""
    _check_cut(view, start, stop)
    found, seen = list[Piece](), 0
    for span in view.spans:
        low, high = (min(max(at - seen, 0), len(span)) for at in (start, stop))
        parts = ((span.part(0, low), True), (span.part(low, high), False), (span.part(high, len(span)), True))
        found += [Piece(part, kept) for part, kept in parts if part]
        seen += len(span)
    return found


def without(view: View, start: int, stop: int) -> View:
    """Without tokens [start, stop): what follows in the same sibling slides down with the keys it has, and what
    follows its groups as far as they end earlier. Raises ContextError as `pieces` does."""
    spans, _, _ = _slid(pieces(view, start, stop), 0, 0, False)
    return View().append(*spans)


def followed_by(view: View, own: Sequence[Sequence[Span]], stays: Sequence[bool]) -> View:
    """With other views' own spans after it, one after the other. `stays` says which saw just this view before them:
    those keep being exact as long as they need not move."""
    for spans, unmoved in zip(own, stays, strict=True):
        exact = unmoved and view.next == spans[0].position if spans else True
        view = view.append(*_placed(spans, view.next, (), exact))
    return view


def joined_by(view: View, own: Sequence[Sequence[Span]], stays: Sequence[bool]) -> View:
    """With other views' own spans side by side, all from `next`, as a group; it goes on after the longest."""
    group, position = next(_groups), view.next
    for sibling, (spans, unmoved) in enumerate(zip(own, stays, strict=True)):
        view = view.append(*_placed(spans, position, ((group, sibling),), unmoved))
    return view


def own_spans(view: View, common: int) -> tuple[Span, ...]:
    """The spans after the first `common` tokens, and after no part of a group: one that begins before is theirs as a
    whole."""
    for first, last in _ranges(view):
        common = first if first < common < last else common
    return view.cut(common)[1]


def unmarked(span: Span, depth: int) -> Span:
    """As a view sees it that begins within `depth` groups."""
    return replace(span, branch=span.branch[depth:])


def _slid(pieces: Iterable[Piece], depth: int, by: int, changed: bool) -> tuple[list[Span], int, bool]:
    """The kept spans, moved; by how much what follows moves; and whether it misses or sees otherwise what it saw."""
    spans = list[Span]()
    for part in level(pieces, depth):
        if isinstance(part, Group):
            inside = [_slid(sibling, depth + 1, by, changed) for sibling in part.siblings]
            whole = [piece.span for sibling in part.siblings for piece in sibling]
            kept = [span for sibling, _, _ in inside for span in sibling]
            end = max((span.end for span in kept), default=whole[0].position + by)
            spans += kept
            by, changed = end - max(span.end for span in whole), any(touched for _, _, touched in inside)
        elif part.kept:
            spans.append(part.span.moved(by) if changed else part.span)
        else:
            by, changed = by - len(part.span), True
    return spans, by, changed


def _placed(spans: Sequence[Span], position: int, marks: tuple[tuple[int, int], ...], exact: bool) -> list[Span]:
    """Spans from a position on, in groups with numbers of their own, within the groups of `marks`."""
    by = position - spans[0].position if spans else 0
    renewed = {group: next(_groups) for span in spans for group, _ in span.branch}
    return [
        replace(
            span if exact else span.moved(by),
            branch=marks + tuple((renewed[group], sibling) for group, sibling in span.branch),
        )
        for span in spans
    ]


def _check_cut(view: View, start: int, stop: int) -> None:
    for first, last in _ranges(view):
        overlaps = start < last and first < stop
        if overlaps and not (start <= first and last <= stop) and not (first <= start and stop <= last):
            raise ContextError(
                f"prune({start}, {stop}) crosses the boundary of a parallel group or of one of its siblings, which "
                f"holds the tokens {first} to {last}: prune within it, or all of it"
            )


def _ranges(view: View) -> list[tuple[int, int]]:
    """Where each group and each sibling begins and ends, outer ones first, counted in tokens of the view."""
    found, seen = dict[tuple[object, ...], tuple[int, int]](), 0
    for span in view.spans:
        for depth, (group, _) in enumerate(span.branch):
            for node in ((*span.branch[:depth], group), span.branch[: depth + 1]):
                found[node] = (found.get(node, (seen, seen))[0], seen + len(span))
        seen += len(span)
    return list(found.values())

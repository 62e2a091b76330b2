"""Views against lists of (token, position): every edit is the same edit of the list."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from plait.engines.local.edits import Edit, Other, prune_exact, prune_shift, splice_exact, splice_shift
from plait.engines.local.segment import Segment
from plait.engines.local.view import Span, View


def segment_of(count: int, origin: int = 0, first: int = 0) -> Segment:
    segment = Segment(origin, 4)
    segment.add_pages(range(-(-count // 4)))
    segment.append(range(first, first + count))
    return segment


def view_of(*counts: int) -> View:
    """A view over one whole segment for each count, tokens numbered through."""
    view = View()
    for count in counts:
        view = view.append(Span(segment_of(count, view.next, view.next), 0, count, view.next))
    return view


def listed(view: View) -> list[tuple[int, int]]:
    return [(token, span.position + i) for span in view.spans for i, token in enumerate(span.tokens)]


def encoded_again(edit: Edit) -> list[int]:
    """The tokens of an edit without groups that are to be encoded."""
    return [token for part in edit.again if isinstance(part, tuple) for token in part]


def forks(*views: View, common: int, stays: bool = True) -> list[Other]:
    return [Other(view, common, stays) for view in views]


counts = st.lists(st.integers(1, 9), min_size=1, max_size=5)


@given(counts, st.data())
def test_cut_splits_the_list(sizes: list[int], data: st.DataObject) -> None:
    view = view_of(*sizes)
    index = data.draw(st.integers(0, len(view)))
    head, rest = view.cut(index)
    assert listed(head) == listed(view)[:index]
    assert listed(View(rest)) == listed(view)[index:]
    assert listed(head.append(*rest)) == listed(view)
    assert head.append(*rest).spans == view.spans, "what joins is one span again"


@given(counts, st.data())
def test_prune_slides_later_tokens_down_and_keeps_their_rotation(sizes: list[int], data: st.DataObject) -> None:
    view = view_of(*sizes)
    start = data.draw(st.integers(0, len(view)))
    stop = data.draw(st.integers(start, len(view)))
    pruned = prune_shift(view, start, stop).view
    assert pruned.tokens == view.tokens[:start] + view.tokens[stop:]
    assert [position for _, position in listed(pruned)] == list(range(len(view) - (stop - start)))
    for span in pruned.spans:
        assert span.position - span.offset == span.segment.origin + span.start
        assert span.exact == (span.offset == 0)
    assert pruned.exact == (start == stop or stop == len(view))


@given(counts, st.data())
def test_exact_prune_encodes_again_from_the_earlier_of_cut_and_first_inexact_token(
    sizes: list[int], data: st.DataObject
) -> None:
    view = view_of(*sizes)
    start = data.draw(st.integers(0, len(view)))
    stop = data.draw(st.integers(start, len(view)))
    edit = prune_exact(view, start, stop)
    assert edit.view.tokens == (view.tokens[:start] if start < stop else view.tokens)
    assert [*edit.view.tokens, *encoded_again(edit)] == view.tokens[:start] + view.tokens[stop:]
    shifted = prune_shift(view, 0, min(2, len(view))).view
    again = prune_exact(shifted, len(shifted), len(shifted))
    assert len(again.view) == (0 if len(view) > 2 else len(shifted))
    assert [*again.view.tokens, *encoded_again(again)] == shifted.tokens


def test_splice_in_sequence_places_own_spans_one_after_the_other() -> None:
    parent = view_of(5)
    a = parent.append(Span(segment_of(3, 5, 50), 0, 3, 5))
    b = parent.append(Span(segment_of(2, 5, 60), 0, 2, 5))
    joined = splice_shift(parent, forks(a, b, common=5), "sequence").view
    assert listed(joined)[5:] == [(50, 5), (51, 6), (52, 7), (60, 8), (61, 9)]
    assert [span.exact for span in joined.spans] == [True, True, False], "the second one has moved"
    edit = splice_exact(parent, forks(a, b, common=5), "sequence")
    assert edit.view.tokens == [*parent.tokens, 50, 51, 52], "the first stands where it stood, after what it saw"
    assert (edit.again, edit.added, edit.next) == (((60, 61),), 2, 10)
    grown = splice_exact(parent, forks(a, b, common=5, stays=False), "sequence")
    assert (grown.view, grown.again, grown.added) == (parent, ((50, 51, 52, 60, 61),), 5)


def test_parallel_splice_moves_nothing_and_goes_on_after_the_longest() -> None:
    parent = view_of(5)
    a = parent.append(Span(segment_of(3, 5, 50), 0, 3, 5))
    b = parent.append(Span(segment_of(2, 5, 60), 0, 2, 5))
    edit = splice_exact(parent, forks(a, b, common=5), "parallel")
    joined = edit.view
    assert (edit.again, edit.added) == ((), 0)
    assert listed(joined)[5:] == [(50, 5), (51, 6), (52, 7), (60, 5), (61, 6)]
    assert (joined.next, len(joined)) == (8, 10)
    assert all(span.offset == 0 for span in joined.spans)
    assert not joined.exact, "it is no fresh prefill of its tokens"

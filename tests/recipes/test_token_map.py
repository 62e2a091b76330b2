"""Token maps: spans of characters become spans of tokens, whatever was dropped before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from plait.recipes.token_map import TokenMap


def test_only_whole_tokens_are_in_a_span() -> None:
    tokens = TokenMap(10)
    for text in ("ab", "[c", "d", "e]", "f"):
        tokens.add(text, 1)
    assert tokens.span(2, 7) == (11, 14)
    assert tokens.span(3, 6) == (12, 13)
    assert tokens.span(3, 4) == (12, 12)
    assert tokens.boundary(3) == (2, 11)
    assert tokens.characters == 8


def test_the_last_token_may_have_been_cut_into_several() -> None:
    tokens = TokenMap(3)
    tokens.add("ab", 1)
    tokens.add("c", 1)
    tokens.settle(6)
    assert tokens.boundary(3) == (3, 6)
    tokens.add("d", 1)
    assert tokens.boundary(4) == (4, 7)


def test_tokens_without_text_belong_to_the_character_that_they_begin() -> None:
    tokens = TokenMap(0)
    for text, count in (("a", 1), ("", 1), ("", 1), ("é", 1), ("b", 1)):
        tokens.add(text, count)
    assert tokens.span(1, 2) == (1, 4)


def test_where_an_engine_can_not_tell_only_the_ends_of_generations_are_known() -> None:
    tokens = TokenMap(5)
    for text in ("ab", "cd"):
        tokens.add(text, 0)
    tokens.settle(8)
    tokens.add("ef", 0)
    tokens.settle(10)
    assert tokens.span(0, 4) == (5, 8)
    assert tokens.span(1, 3) == (8, 8)
    assert tokens.boundary(5) == (4, 8)
    tokens.drop(0, 4)
    tokens.add("gh", 0)
    tokens.settle(9)
    assert tokens.span(4, 8) == (5, 9)


Piece = tuple[str, int]


@given(
    st.lists(st.tuples(st.text("ab[]", min_size=1, max_size=3), st.integers(1, 3)), max_size=12),
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=5),
    st.integers(0, 4),
)
def test_dropping_inner_parts_first_keeps_the_map_true(
    pieces: list[Piece], cuts: list[tuple[int, int]], before: int
) -> None:
    """Against a list of (token, characters) from which the spans are really deleted."""
    tokens, held, position = TokenMap(before), [(-1, -1)] * before, 0
    for text, count in pieces:
        tokens.add(text, count)
        held += [(position, position + len(text))] * count
        position += len(text)
    done: list[tuple[int, int]] = []
    for one, other in cuts:
        start, stop = sorted((min(one, position), min(other, position)))
        if any(a < stop and start < b and not (start <= a and b <= stop) for a, b in done):
            continue  # parts of a tree: one holds another, or they are apart
        first, last = tokens.span(start, stop)
        assert [part for part in held if start <= part[0] and part[1] <= stop] == held[first:last]
        del held[first:last]
        tokens.drop(start, stop)
        done.append((start, stop))
        assert tokens.boundary(position)[1] == len(held)

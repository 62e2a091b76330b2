"""The page pool and segments: pure accounting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.engines.local.pages import PagePool
from plait.engines.local.segment import Segment


def test_free_and_referenced_pages_make_up_the_pool() -> None:
    pool = PagePool(8, 4)
    mine = pool.take(3)
    pool.hold(mine[:1])
    pool.check_integrity([mine, mine[:1]])
    assert (pool.free, pool.used, pool.count(mine[0])) == (5, 3, 2)
    pool.drop(mine)
    assert (pool.free, pool.used) == (7, 1)
    with pytest.raises(AssertionError, match="page 0: count 1, holders 0"):
        pool.check_integrity([])


def test_pages_go_on_after_a_tail_where_there_is_room() -> None:
    pool = PagePool(16, 4)
    first = pool.take(2)
    assert pool.take(1, wanted=3, after=first[-1]) == [2, 3, 4]
    assert pool.take(2, after=first[-1]) == [5, 6], "the place after the first is taken: a run elsewhere"


def test_a_reserve_is_one_run_and_shrinks_before_it_scatters() -> None:
    pool = PagePool(10, 4)
    everything = pool.take(10)
    pool.drop([everything[place] for place in (1, 4, 5, 8)])
    assert pool.take(2, wanted=3) == [4, 5]
    assert pool.take(2) == [1, 8]


def test_a_free_page_cannot_be_shared_or_dropped() -> None:
    pool = PagePool(2, 4)
    with pytest.raises(ValueError, match="page 1 is free"):
        pool.hold([1])
    with pytest.raises(ValueError, match="page 0 is free"):
        pool.drop([0])


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40)), max_size=60))
def test_any_history_of_taking_and_dropping_keeps_the_books(history: list[tuple[bool, int]]) -> None:
    pool, held = PagePool(20, 4), list[list[int]]()
    for take, number in history:
        if take and number <= pool.free:
            held.append(pool.take(number, wanted=number + 3, after=held[-1][-1] if held and held[-1] else -1))
            assert len(held[-1]) >= number
        elif held:
            pool.drop(held.pop(number % len(held)))
        pool.check_integrity(held)


def test_a_segment_finds_its_tokens_across_gaps_between_pages() -> None:
    segment = Segment(origin=100, page_size=4)
    segment.add_pages([3, 4, 9])
    segment.append(range(10))
    assert segment.slots(0, 10) == (12, 13, 14, 15, 16, 17, 18, 19, 36, 37)
    assert [(run.index, run.slot, run.count) for run in segment.runs(6, 10)] == [(6, 18, 2), (8, 36, 2)]
    assert segment.runs(4, 4) == []


def test_a_segment_refuses_tokens_beyond_its_pages() -> None:
    segment = Segment(0, 4)
    segment.add_pages([0])
    with pytest.raises(ValueError, match="room for 4"):
        segment.append(range(5))


def test_trimming_gives_up_only_pages_without_tokens() -> None:
    segment = Segment(0, 4)
    segment.add_pages([5, 6, 7, 8])
    segment.append(range(5))
    assert segment.trim(4) == [8]
    assert segment.trim(0) == [7]
    assert (segment.capacity, segment.runs(0, 5)[0].slot) == (8, 20)

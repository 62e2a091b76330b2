"""Call graphs: edge strings, the sole sink, circles, levels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.errors import DataError
from plait.recipes.trajectories import CallGraph


@pytest.mark.parametrize(
    ("size", "edges", "levels"),
    [
        (1, "", [(1,)]),
        (2, "1->2", [(1,), (2,)]),
        (4, "1->4,2->4,3->4", [(1, 2, 3), (4,)]),
        (4, "1->2,2->3,3->4", [(1,), (2,), (3,), (4,)]),
        (5, "1->3, 2->3,3->5,4 -> 5", [(1, 2, 4), (3,), (5,)]),
        (5, "1->2,1->3,2->4,3->4,4->5", [(1,), (2, 3), (4,), (5,)]),
        (5, "1->5,1->2,2->3,3->4,4->5", [(1,), (2,), (3,), (4,), (5,)]),
        (6, "1->2,2->6,3->4,4->6,5->6", [(1, 3, 5), (2, 4), (6,)]),
    ],
)
def test_levels_of_graphs_made_by_hand(size: int, edges: str, levels: list[tuple[int, ...]]) -> None:
    graph = CallGraph.parse(edges, size)
    assert list(graph.levels) == levels
    assert CallGraph.parse(graph.text, size) == graph


@pytest.mark.parametrize(
    ("size", "edges", "words"),
    [
        (3, "1->2,2->1,2->3", "in a circle: 1->2,2->1"),
        (3, "1->1,1->3,2->3", "in a circle: 1->1"),
        (4, "1->2,2->3,3->1,3->4", "in a circle"),
        (3, "1->2", "must be the answer, 3; here it is 2, 3"),
        (3, "1->3", "must be the answer, 3; here it is 2, 3"),
        (3, "2->3,3->1", "must be the answer, 3; here it is 1"),
        (3, "1->2,2->4", "edge 2->4 is of no node; the nodes are 1 to 3"),
        (3, "0->3,1->3,2->3", "edge 0->3 is of no node"),
        (2, "1=>2", "'1=>2' is no edge; write them as 1->2"),
        (2, "1->2,,", "'' is no edge"),
        (2, "1->-2", "is no edge"),
    ],
)
def test_what_is_no_graph_is_refused_by_name(size: int, edges: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        CallGraph.parse(edges, size)


@given(st.text(alphabet="0123456789->, a\n", max_size=40), st.integers(1, 6))
def test_any_text_is_read_or_refused_by_name(text: str, size: int) -> None:
    try:
        CallGraph.parse(text, size)
    except DataError:
        return


def graphs(most: int = 9) -> st.SearchStrategy[CallGraph]:
    """Graphs in which no call needs a later one."""

    def of(size: int) -> st.SearchStrategy[CallGraph]:
        pairs = [(before, after) for after in range(1, size + 1) for before in range(1, after)]
        some = st.lists(st.sampled_from(pairs), unique=True) if pairs else st.just([])
        return some.map(lambda edges: CallGraph.closed(size, edges))

    return st.integers(1, most).flatmap(of)


@given(graphs())
def test_a_level_needs_only_earlier_ones_and_comes_as_early_as_it_can(graph: CallGraph) -> None:
    level_of = {node: number for number, level in enumerate(graph.levels) for node in level}
    assert sorted(level_of) == list(range(1, graph.size + 1))
    for node, level in level_of.items():
        needed = [level_of[before] for before, after in graph.edges if after == node]
        assert level == max(needed, default=-1) + 1
    assert graph.levels[-1] == (graph.size,)

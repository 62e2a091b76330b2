"""Spaces: what their points are, which rules they keep, and what is said of contradictions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.errors import InputError
from plait.orchestrator.compile import compile_graph
from plait.recipes.archon import read_config, violations
from plait.recipes.search import PUBLISHED, Choice, Real, Rule, Space, Whole, archon_space, orders, readings
from plait.recipes.search.grid import Grid
from plait.recipes.search.space import RandomDraw, key_of


def chain(point: Any) -> Any:
    return [{"component": "generate", "samples": point.get("samples", 1)}]


SPACE = Space(
    "small",
    [
        Choice("technique", ("greedy", "vote")),
        Whole("samples", 1, 5, when={"technique": ("vote",)}),
        Choice("prompt", ("short", "long")),
    ],
    chain,
    [Rule("a vote of one is none", lambda point: point.get("samples") != 1)],
)


def test_a_dimension_applies_only_under_its_condition() -> None:
    points = list(SPACE.points())
    assert len(points) == 2 + 2 * 4
    assert all(("samples" in point) == (point["technique"] == "vote") for point in points)


@given(st.randoms(use_true_random=False))
def test_what_is_drawn_keeps_all_rules_or_breaks_one_in_words(random: Any) -> None:
    point = SPACE.draw(RandomDraw(random))
    valid = {key_of(one) for one in SPACE.points()}
    assert (key_of(point) in valid) == (SPACE.broken(point) == [])
    assert SPACE.broken(point) in ([], ["a vote of one is none"])


@pytest.mark.parametrize(
    ("dimensions", "rules", "said"),
    [
        ([], [], "no dimensions"),
        ([Choice("a", ())], [], "dimension 'a' of space 's' has no options"),
        ([Choice("a", (1, 1))], [], "has an option twice"),
        ([Whole("a", 3, 2)], [], "goes from 3 to 2"),
        ([Real("a", 0.0, 1.0, log=True)], [], "goes from 0.0 to 1.0"),
        ([Whole("a", 1, 2), Whole("a", 1, 2)], [], "is there twice"),
        ([Whole("a", 1, 2, when={"b": (1,)}), Whole("b", 1, 2)], [], "depends on 'b', which does not come before"),
        ([Whole("a", 1, 2), Whole("b", 1, 2, when={"a": (7,)})], [], "never applies"),
        ([Whole("a", 1, 2)], [Rule("a is over 5", lambda point: point["a"] > 5)], "contradicts itself.*a is over 5"),
        ([Real("a", 0, 1)], [Rule("a is greater than 5", lambda point: point["a"] > 5)], "contradicts itself"),
    ],
)  # fmt: skip
def test_a_contradiction_is_named(dimensions: Any, rules: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Space("s", dimensions, chain, rules)


def test_a_point_that_is_none_of_the_space_has_no_graph() -> None:
    for point, said in [
        ({"technique": "greedy", "prompt": "short", "samples": 2}, "'samples' does not apply"),
        ({"technique": "vote", "prompt": "short"}, "it has no 'samples'"),
        ({"technique": "vote", "prompt": "short", "samples": 9}, "samples=9 is not in its dimension"),
        ({"technique": "vote", "prompt": "short", "samples": 1}, "a vote of one is none"),
    ]:
        with pytest.raises(InputError, match=said):
            SPACE.graph(point)


def test_orders_are_all_permutations_of_all_sizes_asked_for() -> None:
    assert len(orders("steps", "abc", least=0).options) == 1 + 3 + 6 + 6


def test_the_nearest_free_point_is_found_until_none_is_left() -> None:
    grid, points = Grid(SPACE, seed=1), list(SPACE.points())
    target = {"technique": "vote", "samples": 3, "prompt": "long"}
    assert grid.nearest(target) == target
    seen = []
    while (near := grid.nearest(target)) is not None:
        seen.append(near)
        grid.take([key_of(near)])
    assert sorted(map(key_of, seen)) == sorted(map(key_of, points))
    assert seen[1]["technique"] == "vote"


def test_archons_space_holds_what_its_rules_say_and_the_paper_is_shown_beside() -> None:
    found = readings()
    assert found[0].count == len(list(archon_space().points())) == 38 * 16 * 2 * 3
    assert found[-1].count == PUBLISHED == 38 * 252
    assert PUBLISHED not in {reading.count for reading in found[:-1]}


def test_candidates_of_archons_space_compile_and_break_none_of_the_papers_rules() -> None:
    import json

    space = archon_space(("a", "b"))
    for point in list(space.points())[::61]:
        assert violations(read_config(json.dumps(space.architecture(point)))) == []
        assert compile_graph(space.graph(point), None).graph.name == "archon"


@pytest.mark.long
def test_every_candidate_of_archons_space_compiles() -> None:
    from plait.recipes.search import count_compiled

    assert count_compiled(archon_space()) == 3648

"""The coverage benchmark: what it counts, against numbers computed by hand."""

from __future__ import annotations

import pytest

from plait.benchmarks.coverage import Plan, Written, coverage, enumeration, floyd_warshall, measure, shortest_paths
from plait.engines.scripted import ScriptedEngine


def written(*texts: str) -> Written:
    """One token a text."""
    return Written(tuple((text, 1) for text in texts))


def test_items_of_all_members_count_once() -> None:
    task = enumeration(10)
    members = [written("10", ", 11", ", 12"), written("11", ", 13", ", 103 7")]
    assert [coverage(task, members, steps) for steps in (0, 1, 2, 3)] == [0.0, 0.2, 0.3, 0.4]


def test_given_text_takes_no_step() -> None:
    one = Written((("Alice: ", 0), ("10", 1), (" 20 given", 0), (" 30", 1)))
    assert (one.after(0), one.after(1), one.after(9)) == ("Alice: ", "Alice: 10 20 given", "Alice: 10 20 given 30")


def test_lengths_of_shortest_paths() -> None:
    edges = {("A", "B"): 3, ("B", "C"): 4, ("C", "A"): 1, ("A", "C"): 9}
    assert floyd_warshall("ABC", edges) == {"A-B": 3, "A-C": 7, "B-A": 5, "B-C": 4, "C-A": 1, "C-B": 4}


def test_a_pair_that_is_also_stated_wrongly_is_not_found() -> None:
    task = shortest_paths(0, nodes=3)
    assert task.required == 6
    right = {pair: length for pair in ("A-B", "B-C") for length in range(99) if task.found(f"{pair}={length}")}
    (first, length), (second, other) = right.items()
    assert task.found(f"{first}={length}, {second}={other}. Z-A=1") == {first, second}
    assert task.found(f"{first}={length}, then {first}={length + 1}; {second}={other}") == {second}
    assert task.found(f"{first} = {length}") == set()


@pytest.mark.anyio
@pytest.mark.parametrize("held", [False, True])
async def test_the_tables_of_an_ideal_team(held: bool) -> None:
    """Two members, eight steps, a number and a comma each two of them; a team shares the numbers out."""

    teams = 0

    def reply(prompt: str, call: int) -> str:
        nonlocal teams
        in_team = "thinkers" in prompt or "assistants" in prompt
        start = 10 + 40 * (teams % 2) * in_team  # members are asked in their order
        teams += in_team
        return ", ".join(str(number) for number in range(start, start + 20))

    engine = ScriptedEngine(reply)
    steps, tokens = await measure(engine, Plan(2, 8, held), problems=1)
    rows = {row[1]: row[2:] for row in steps.rows if row[0] == "enumeration"}
    assert steps.columns == ("task", "arm", "1 steps", "2 steps", "4 steps", "8 steps")
    assert rows["one"] == rows["independent"] == pytest.approx((0.02, 0.02, 0.04, 0.08))
    assert rows["group_think"] == rows["hogwild"] == pytest.approx((0.04, 0.04, 0.08, 0.16))
    rows = {row[1]: row[2:] for row in tokens.rows if row[0] == "enumeration"}
    assert tokens.columns == ("task", "arm", "2 tokens", "4 tokens", "8 tokens", "16 tokens")
    assert rows["independent"] == pytest.approx((0.02, 0.02, 0.04, 0.08))
    assert rows["one"] == pytest.approx((0.02, 0.04, 0.08, 0.16))
    assert rows["group_think"] == rows["hogwild"] == pytest.approx((0.04, 0.04, 0.08, 0.16))
    assert {row[2:] for row in (*steps.rows, *tokens.rows) if row[0] == "shortest paths"} == {(0.0,) * 4}

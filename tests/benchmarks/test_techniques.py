"""The benchmark of techniques: its verifiers, and one technique measured as all are."""

from __future__ import annotations

import anyio
import pytest

from plait.benchmarks import techniques
from plait.recipes.evaluation import embedded_dataset


@pytest.mark.parametrize(
    ("text", "worth"),
    [
        ("3+8=11;11 1:", 0.9),
        ("3+8=12;12 1:1+1=2", 0.45),
        ("nothing yet", 0.5),
        ("<ret>3*8=24,24*1=24</ret>", 1.0),
        ("3*8=24;24 1:<ret>3*8=25,25-1=24</ret>", 0.0),
        ("<ret>none</ret>", 0.0),
        ("1/0=3", 0.0),
    ],
)
def test_beginnings_are_worth_what_of_their_arithmetic_is_right(text: str, worth: float) -> None:
    pattern = embedded_dataset("countdown:1").answer
    assert techniques.path_so_far("24: 3 8 1", text, pattern=pattern) == pytest.approx(worth)


def test_a_task_has_the_techniques_that_it_allows() -> None:
    made = {tasks: techniques.techniques(embedded_dataset(f"{tasks}:1"), tasks) for tasks in techniques.TEMPERATURES}
    assert set(made["queries"]) < set(made["countdown"])
    assert all(stages for sized in made["countdown"].values() for stages in [sized(1)])


def test_a_layer_is_measured_beside_its_longest_call() -> None:
    components, samples, longest, layer = anyio.run(techniques._layer, 2, 3)
    assert (components, samples) == (2, 3)
    assert isinstance(longest, float)
    assert isinstance(layer, float)
    assert min(longest, layer) >= techniques.CALL_SECONDS

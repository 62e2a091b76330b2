"""Sampling: filters, seeds, and independence of the batch."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from plait.engines import GREEDY, Sampling
from plait.engines.local.sampling import choose

LOGITS = torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05]).log()
DRAWS = [(i + 0.5) / 1000 for i in range(1000)]


def shares(sampling: Sampling) -> list[float]:
    """How often each token comes over evenly spread draws."""
    tokens = choose(LOGITS.expand(1000, -1), [sampling] * 1000, DRAWS)
    return [tokens.count(token) / 1000 for token in range(5)]


def test_draws_follow_the_distribution() -> None:
    assert shares(Sampling(1.0)) == [0.5, 0.2, 0.15, 0.1, 0.05]
    halved = [math.exp(2 * value) for value in LOGITS.tolist()]
    expected = [value / sum(halved) for value in halved]
    assert all(abs(a - b) < 0.002 for a, b in zip(shares(Sampling(0.5)), expected, strict=True))


def test_top_k_top_p_and_min_p_keep_the_likely_ones() -> None:
    assert [share > 0 for share in shares(Sampling(1.0, top_k=2))] == [True, True, False, False, False]
    assert [share > 0 for share in shares(Sampling(1.0, top_p=0.75))] == [True, True, True, False, False]
    assert [share > 0 for share in shares(Sampling(1.0, min_p=0.25))] == [True, True, True, False, False]
    assert [share > 0 for share in shares(Sampling(1.0, top_k=4, top_p=0.5))] == [True, False, False, False, False]
    assert shares(Sampling(1.0, top_p=0.0))[0] == 1.0
    assert shares(Sampling(1.0, top_k=50)) == [0.5, 0.2, 0.15, 0.1, 0.05]


def test_greedy_takes_the_first_of_the_likeliest() -> None:
    assert choose(torch.tensor([[1.0, 3.0, 3.0]]), [GREEDY], [0.0]) == [1]


def test_what_is_forbidden_is_never_drawn() -> None:
    logits = torch.tensor([-math.inf, 0.0, -math.inf])
    for sampling in (GREEDY, Sampling(1.0), Sampling(2.0, top_k=3), Sampling(1.0, top_p=0.9)):
        assert set(choose(logits.expand(3, -1), [sampling] * 3, [0.0, 0.5, 1 - 1e-16])) == {1}


samplings = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.7, 1.0, 3.0]),
    top_k=st.sampled_from([0, 1, 7]),
    top_p=st.sampled_from([1.0, 0.9, 0.3]),
    min_p=st.sampled_from([0.0, 0.1]),
)


@given(st.lists(st.tuples(samplings, st.floats(0, 1, exclude_max=True)), min_size=1, max_size=9), st.integers(0, 9))
def test_a_row_is_drawn_the_same_alone_and_in_any_batch(rows: list[tuple[Sampling, float]], seed: int) -> None:
    logits = torch.randn(len(rows), 50, generator=torch.Generator().manual_seed(seed))
    together = choose(logits, [sampling for sampling, _ in rows], [draw for _, draw in rows])
    alone = [choose(logits[i : i + 1], [sampling], [draw])[0] for i, (sampling, draw) in enumerate(rows)]
    assert together == alone

"""Sampling: filters, seeds, and independence of the batch."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plait.engines import GREEDY, Sampling
from plait.engines.base import seeds
from plait.engines.local.sampling import Adjustment, Row, choose, sample
from plait.errors import InputError

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


# ---- penalties, biases and filters, held against plain arithmetic on lists


def adjusted(logits: list[float], sampling: Sampling, before: list[int], sampled: list[int]) -> list[float]:
    found = []
    for token, logit in enumerate(logits):
        if token in before or token in sampled:
            logit = logit / sampling.repetition_penalty if logit > 0 else logit * sampling.repetition_penalty
        if token in sampled:
            logit -= sampling.presence_penalty
        found.append(logit + sampling.logit_bias.get(token, 0.0))
    return found


def kept(logits: list[float], sampling: Sampling) -> dict[int, float]:
    """Tokens that may be drawn, in the order in which they share [0, 1), with their shares of it."""
    top = max(logits)
    weights = {token: math.exp((logit - top) / sampling.temperature) for token, logit in enumerate(logits)}
    total = sum(weights.values())
    shares = {token: weight / total for token, weight in weights.items() if weight}
    if sampling.top_k or sampling.top_p < 1 or sampling.min_p:
        likely = sorted(shares, key=lambda token: -shares[token])
        likely = likely[: sampling.top_k or None]
        total, before, left = sum(shares[token] for token in likely), 0.0, []
        for token in likely:
            if not left or (before < sampling.top_p * total and shares[token] >= sampling.min_p * shares[likely[0]]):
                left.append(token)
            before += shares[token]
        shares = {token: shares[token] for token in left}
    total = sum(shares.values())
    return {token: share / total for token, share in shares.items()}


all_samplings = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.5, 1.0, 1.7]),
    top_k=st.sampled_from([0, 0, 1, 3, 40]),
    top_p=st.sampled_from([1.0, 1.0, 0.8937, 0.3141]),
    min_p=st.sampled_from([0.0, 0.0, 0.1, 0.4]),
    repetition_penalty=st.sampled_from([1.0, 1.3, 0.7]),
    presence_penalty=st.sampled_from([0.0, 0.75, -0.5]),
    logit_bias=st.dictionaries(st.integers(0, 11), st.sampled_from([-100.0, -1.0, 0.5, 20.0]), max_size=3),
    logprobs=st.sampled_from([0, 1, 4]),
)
tokens = st.lists(st.integers(0, 11), max_size=6)
allowed = st.none() | st.sets(st.integers(0, 11), min_size=1)
cases = st.tuples(all_samplings, tokens, tokens, allowed, st.floats(0, 1, exclude_max=True))


@given(st.lists(cases, min_size=1, max_size=5), st.integers(0, 10_000))
def test_a_batch_is_sampled_as_plain_arithmetic_says(batch: list[tuple[object, ...]], seed: int) -> None:
    logits = torch.randn(len(batch), 12, generator=torch.Generator().manual_seed(seed)).mul(3)
    rows = []
    for sampling, before, sampled, may, draw in batch:
        adjustment = Adjustment.of(sampling, before, 12)
        for token in sampled if adjustment else ():
            adjustment.note(token)
        mask = None if may is None else np.isin(np.arange(12), list(may))
        rows.append(Row(sampling, draw, adjustment, mask))
    chosen, chances = sample(logits.clone(), rows)
    for index, (sampling, before, sampled, may, draw) in enumerate(batch):
        raw, token = logits[index].double(), chosen[index]
        expected = adjusted(raw.tolist(), sampling, before, sampled)
        expected = [value if may is None or place in may else -math.inf for place, value in enumerate(expected)]
        if sampling.temperature == 0:
            assert expected[token] == pytest.approx(max(expected), abs=1e-5)
        else:
            shares, start = kept(expected, sampling), 0.0
            assert token in shares
            for other, share in shares.items():
                if other == token:
                    break
                start += share
            assert start - 1e-5 <= draw <= start + shares[token] + 1e-5
        assert (index in chances) == (sampling.logprobs > 0)
        if index in chances:
            plain = raw.log_softmax(-1)
            assert chances[index].logprob == pytest.approx(float(plain[token]), abs=1e-5)
            best = sorted(plain.tolist(), reverse=True)[: sampling.logprobs]
            assert [value for _, value in chances[index].best] == pytest.approx(best, abs=1e-5)
            assert all(value == pytest.approx(float(plain[other]), abs=1e-5) for other, value in chances[index].best)


def test_what_leaves_the_logits_alone_costs_nothing() -> None:
    assert Adjustment.of(GREEDY, [1, 2], 12) is None
    assert Adjustment.of(Sampling(1.0, top_k=3, logprobs=2), [1, 2], 12) is None


# ---- values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": -0.1}, "temperature is -0.1; it must be 0 or more"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"top_k": -1}, "top_k is -1; it must be 0 or more"),
        ({"top_p": 1.2}, "top_p is 1.2; it must be between 0 and 1"),
        ({"min_p": -0.5}, "min_p is -0.5; it must be between 0 and 1"),
        ({"repetition_penalty": 0.0}, "repetition_penalty is 0.0; it must be more than 0"),
        ({"presence_penalty": math.inf}, "presence_penalty is inf; it must be a number, and finite"),
        ({"logit_bias": {3: -math.inf}}, r"logit_bias\[3\] is -inf"),
        ({"logit_bias": {-3: 1.0}}, r"logit_bias\[-3\]"),
        ({"logit_bias": {3: 1e300}}, r"logit_bias\[3\] is 1e\+300; it must be 0, or 1e-15 to 1e\+15 in size"),
        ({"temperature": 5e-324}, "temperature is 5e-324; it must be 0, or 1e-15"),
        ({"logprobs": -1}, "logprobs is -1; it must be 0 or more"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_value_that_cannot_be_used_is_named(values: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Sampling(**values)


def test_each_sample_has_a_seed_of_its_own_and_the_same_in_any_count() -> None:
    sampling = Sampling(0.8, seed=3)
    eight = seeds(sampling, 8)
    assert len({seeded.seed for seeded in eight}) == 8
    assert seeds(sampling, 3) == eight[:3]
    assert all(replace(seeded, seed=3) == sampling for seeded in eight)
    assert seeds(Sampling(0.8, seed=4), 1) != eight[:1]
    with pytest.raises(InputError, match="0 samples"):
        seeds(sampling, 0)
    assert hash(sampling) == hash(Sampling(0.8, seed=3))

"""Replicas: contexts that belong together meet on one server, and go to the next when it is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.engines.remote import Server
from plait.engines.replicas import AFFINITY, Replicas
from plait.errors import InputError


def servers(count: int) -> list[Server]:
    return [Server.at("e", f"http://host{number}/v1", environment={}) for number in range(count)]


@given(st.integers(2, 6), st.lists(st.text(), min_size=1))
def test_an_affinity_has_its_server_whatever_the_order(count: int, affinities: list[str]) -> None:
    ahead, behind = Replicas(servers(count)), Replicas(servers(count)[::-1])
    for affinity in affinities:
        assert ahead.choose(affinity) == behind.choose(affinity) == ahead.choose(affinity)


def test_affinities_are_spread_over_the_servers() -> None:
    replicas = Replicas(servers(4))
    counts = [sum(replicas.choose(f"run {n}") == server for n in range(400)) for server in replicas.servers]
    assert min(counts) > 50


@given(st.integers(2, 6))
def test_only_what_a_lost_server_had_moves(count: int) -> None:
    now = 0.0
    replicas = Replicas(servers(count), rest=30.0, clock=lambda: now)
    before = {f"{n}": replicas.choose(f"{n}") for n in range(50)}
    lost = replicas.servers[0]
    replicas.lose(lost)
    after = {name: replicas.choose(name) for name in before}
    assert lost not in after.values()
    assert all(after[name] == server for name, server in before.items() if server != lost)
    now = 30.0
    assert {name: replicas.choose(name) for name in before} == before


def test_a_server_that_answers_is_no_longer_lost() -> None:
    replicas = Replicas(servers(2))
    first = replicas.choose("run")
    replicas.lose(first)
    assert replicas.choose("run") != first
    replicas.find(first)
    assert replicas.choose("run") == first


def test_where_all_are_lost_the_one_lost_longest_ago_is_asked() -> None:
    now = 0.0
    replicas = Replicas(servers(3), clock=lambda: now)
    for server in replicas.servers:
        replicas.lose(server)
        now += 1.0
    assert replicas.choose("run") == replicas.servers[0]


def test_contexts_of_a_run_belong_together_and_others_to_themselves() -> None:
    replicas = Replicas(servers(2))
    assert replicas.affinity() != replicas.affinity()
    token = AFFINITY.set("run")
    assert replicas.affinity() == replicas.affinity() == "run"
    AFFINITY.reset(token)


def test_an_engine_needs_a_server() -> None:
    with pytest.raises(InputError, match="at least one"):
        Replicas([])

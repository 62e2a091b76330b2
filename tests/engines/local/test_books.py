"""Law 1 as a state machine: whatever is asked in whatever order, pages and holders agree after every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from plait.engines import Sampling
from plait.engines.base import Layout, Placement, Teamwork
from plait.engines.local.decoder import Decoder
from plait.engines.local.edits import Other, prune_shift, splice_shift
from plait.engines.local.generation import Generation
from plait.engines.local.holding import Holding
from plait.engines.local.loop import StepLoop
from plait.engines.local.pages import PagePool
from plait.engines.local.teaming import MemberMailbox, Part, Teaming, TeamMailbox
from plait.engines.local.tokenizer import Tokenizer
from plait.engines.local.view import View
from plait.engines.local.work import Extension, Lease, Scoring, Settling, Work
from plait.engines.teamwork import StepRule
from plait.errors import EngineError, PoolError

PAGES, PAGE_SIZE = 9, 4


@pytest.fixture(scope="module")
def model(smallest_checkpoint: Path) -> tuple[Decoder, Tokenizer]:
    decoder = Decoder.load(smallest_checkpoint, dtype="float64")
    return decoder, Tokenizer.load(smallest_checkpoint, vocabulary=decoder.config.vocab_size, eos=(0,))


def books(decoder: Decoder, tokenizer: Tokenizer) -> type[RuleBasedStateMachine]:
    class Books(RuleBasedStateMachine):
        """Drives the loop step by step. `contexts` maps leases to the tokens that they must hold."""

        def __init__(self) -> None:
            super().__init__()
            pool = PagePool(PAGES, PAGE_SIZE)
            self.loop = StepLoop(decoder, pool, tokens=tokenizer.size, step_tokens=6, max_batch=4, threads=0)
            self.contexts: list[tuple[Lease, list[int]]] = []
            self.under_way: list[tuple[Work, list[int]]] = []
            self.teams: list[tuple[Teaming, list[list[int]]]] = []
            self.written: dict[Holding, tuple[Any, list[torch.Tensor]]] = {}

        @property
        def readable(self) -> list[tuple[Lease, list[int]]]:
            """Contexts with a last token, which has seen them as a whole."""
            return [(lease, held) for lease, held in self.contexts if held and not lease.holding.ends_side_by_side]

        @rule(tokens=st.lists(st.integers(10, 40), max_size=12))
        def create(self, tokens: list[int]) -> None:
            self._begin(None, [], Extension(tokens), tokens)

        @precondition(lambda self: self.contexts)
        @rule(data=st.data(), tokens=st.lists(st.integers(10, 40), max_size=12))
        def extend(self, data: st.DataObject, tokens: list[int]) -> None:
            lease, held = data.draw(st.sampled_from(self.contexts))
            self._begin(lease, held, Extension(tokens), tokens)

        @precondition(lambda self: self.readable)
        @rule(
            data=st.data(), length=st.integers(0, 24), forks=st.integers(1, 3), temperature=st.sampled_from([0.0, 1.0])
        )
        def generate(self, data: st.DataObject, length: int, forks: int, temperature: float) -> None:
            lease, held = data.draw(st.sampled_from(self.readable))
            for seed in range(forks):
                sampling = Sampling(temperature=temperature, seed=seed)
                options: dict[str, Any] = {"room": 500, "max_tokens": length, "stop": ["t"], "matcher": None}
                self._begin(lease, held, Generation(tokenizer, held[-4:], sampling=sampling, **options), [])

        @precondition(lambda self: self.readable)
        @rule(data=st.data(), tokens=st.lists(st.integers(10, 40), min_size=1, max_size=6))
        def score(self, data: st.DataObject, tokens: list[int]) -> None:
            lease, held = data.draw(st.sampled_from(self.readable))
            self._begin(lease, held, Scoring(tokens), [])

        @precondition(lambda self: self.readable)
        @rule(
            data=st.data(), layout=st.sampled_from(get_args(Layout)), count=st.integers(1, 3), same_step=st.booleans()
        )
        def team(self, data: st.DataObject, layout: Layout, count: int, same_step: bool) -> None:
            chosen = [data.draw(st.sampled_from(self.readable)) for _ in range(count)]
            header = "" if layout == "tokenwise" else "cat"
            asked = Teamwork(layout=layout, same_step=same_step, slot=20, step_end="a", own_header=header)
            limits = [(data.draw(st.integers(0, 6)), data.draw(st.integers(0, 4))) for _ in chosen]
            work = teaming(
                tokenizer, asked, [(lease, *limit) for (lease, _), limit in zip(chosen, limits, strict=True)]
            )
            self.loop.submit_team([lease.holding for lease, _ in chosen], work)
            self.teams.append((work, [held for _, held in chosen]))

        @precondition(lambda self: self.loop.scheduler.running)
        @rule(data=st.data())
        def preempt(self, data: st.DataObject) -> None:
            scheduler = self.loop.scheduler
            scheduler._preempt(data.draw(st.sampled_from(scheduler.running)))

        @precondition(lambda self: self.teams)
        @rule(data=st.data())
        def cancel_team(self, data: st.DataObject) -> None:
            work, _ = self.teams.pop(data.draw(st.integers(0, len(self.teams) - 1)))
            self.loop.cancel(work)

        @precondition(lambda self: self.contexts)
        @rule(data=st.data())
        def settle(self, data: st.DataObject) -> None:
            lease, held = data.draw(st.sampled_from(self.contexts))
            self._begin(lease, held, Settling(), [])

        @precondition(lambda self: self.contexts)
        @rule(data=st.data())
        def cut(self, data: st.DataObject) -> None:
            lease, _ = data.draw(st.sampled_from(self.contexts))
            view = lease.holding.view
            start = data.draw(st.integers(0, len(view)))
            stop = data.draw(st.integers(start, len(view)))
            if not any(span.branch for span in view.spans):
                self._hold(prune_shift(view, start, stop).view)

        @precondition(lambda self: self.contexts)
        @rule(data=st.data(), at=st.sampled_from(["sequence", "parallel"]))
        def splice(self, data: st.DataObject, at: Placement) -> None:
            view, *others = (data.draw(st.sampled_from(self.contexts))[0].holding.view for _ in range(3))
            self._hold(splice_shift(view, [Other(other, 0, False) for other in others], at).view)

        @precondition(lambda self: self.contexts)
        @rule(data=st.data())
        def release(self, data: st.DataObject) -> None:
            lease, _ = self.contexts.pop(data.draw(st.integers(0, len(self.contexts) - 1)))
            lease.release()

        @precondition(lambda self: self.under_way)
        @rule(data=st.data())
        def cancel(self, data: st.DataObject) -> None:
            work, _ = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
            self.loop.cancel(work)

        @rule(steps=st.integers(1, 12))
        def step(self, steps: int) -> None:
            for _ in range(steps):
                self.loop.carry_out()
                if self.loop.scheduler.busy:
                    self.loop.step()
                self.check()

        @invariant()
        def check(self) -> None:
            self.loop.carry_out()
            self.loop.scheduler.check_integrity()
            self._collect()
            self._check_slots()

        def teardown(self) -> None:
            for _ in range(2000):
                if not self.loop.scheduler.busy:
                    break
                self.loop.step()
            assert not self.loop.scheduler.busy, "it must come to an end"
            self.check()
            for lease, _ in self.contexts:
                lease.release()
            self.loop.carry_out()
            self.loop.scheduler.check_integrity()
            assert self.loop.pool.used == self.loop.pool.cached
            self.loop.scheduler.cache.clear()
            self.loop.scheduler.check_integrity()
            assert self.loop.pool.free == PAGES

        def _begin(self, lease: Lease | None, held: list[int], work: Work, tokens: list[int]) -> None:
            self.loop.submit(lease.holding if lease else None, work)
            self.under_way.append((work, held + tokens))

        def _hold(self, view: View) -> None:
            self.contexts.append((self.loop.lease(self.loop.scheduler.hold(view)), view.tokens))

        def _collect(self) -> None:
            """Contexts that have come of finished works hold what they must."""
            for work, tokens in [pair for pair in self.under_way if pair[0].mailbox.closed]:
                self.under_way.remove((work, tokens))
                if work.mailbox.failure is not None:
                    assert isinstance(work.mailbox.failure, PoolError)
                elif work.makes_context:
                    expected = tokens + (list(work.kept) if isinstance(work, Generation) else [])
                    lease = work.take_lease()
                    assert lease.holding.tokens == expected
                    self.contexts.append((lease, expected))

            for team, bases in [pair for pair in self.teams if pair[0].mailbox.closed]:
                self.teams.remove((team, bases))
                if team.mailbox.failure is not None:
                    assert isinstance(team.mailbox.failure, PoolError)
                    continue
                leases = [part.generation.take_lease() for part in team.parts]
                for lease, base in zip(leases, bases, strict=True):
                    held = lease.holding.tokens
                    assert held[: len(base)] == base
                    assert sorted(held[len(base) :]) == sorted(said_by(team))
                    self.contexts.append((lease, held))

        def _check_slots(self) -> None:
            """A written slot never changes as long as somebody may read it."""
            holdings = [lease.holding for lease, _ in self.contexts]
            self.written = {holding: seen for holding, seen in self.written.items() if holding in holdings}
            for holding in holdings:
                view, keys = self.written.get(holding, (None, []))
                found = [self.loop._keys[0][:, slot] for slot in _slots(holding)]
                if view is holding.view:
                    assert all(torch.equal(old, new) for old, new in zip(keys, found, strict=True))
                self.written[holding] = (holding.view, [key.clone() for key in found])

    return Books


def teaming(tokenizer: Tokenizer, asked: Teamwork, members: Sequence[tuple[Lease, int, int]]) -> Teaming:
    """A team's work; members are leases on their contexts, `max_tokens` and `joins`."""
    box = TeamMailbox(lambda wake: None)
    parts = []
    for index, (lease, length, joins) in enumerate(members):
        options: dict[str, Any] = {"room": 500, "max_tokens": length, "stop": ["t"], "matcher": None}
        generation = Generation(tokenizer, lease.holding.tokens[-4:], sampling=Sampling(1.0, seed=index), **options)
        generation.mailbox = MemberMailbox(box, index)
        parts.append(Part(generation, "", (), joins, 0))
    rule = StepRule([], asked)
    rule.follow = lambda member: ""  # type: ignore[method-assign]
    encode = partial(_encoded, tokenizer)
    headers = [encode(""), encode(""), encode(asked.own_header)]
    return Teaming(asked, rule, parts, headers, encode, window=500, growth=4, mailbox=box)


def _encoded(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode_more(text)) if text else ()


def said_by(team: Teaming) -> list[int]:
    """What a team adds to the context of each member."""
    return [*team.heading.tokens, *(token for part in team.parts for token in part.generation.kept)]


def _slots(holding: Holding) -> Iterator[int]:
    for span in holding.view.spans:
        yield from span.segment.slots(span.start, span.stop)


def run(machine: type[RuleBasedStateMachine], examples: int, steps: int) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    options = settings(max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=checks)
    run_state_machine_as_test(machine, settings=options)


def test_pages_and_holders_agree_after_every_step(model: tuple[Decoder, Tokenizer]) -> None:
    run(books(*model), examples=20, steps=30)


@pytest.mark.long
def test_pages_and_holders_agree_for_ten_thousand_steps(model: tuple[Decoder, Tokenizer]) -> None:
    run(books(*model), examples=100, steps=100)


def test_a_step_that_fails_takes_only_its_own_threads(
    model: tuple[Decoder, Tokenizer], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    decoder, tokenizer = model
    loop = StepLoop(decoder, PagePool(PAGES, PAGE_SIZE), tokens=tokenizer.size, step_tokens=6, max_batch=4, threads=0)
    forward: Callable[..., torch.Tensor] = decoder.forward
    works = [Extension(range(10, 20)) for _ in range(2)]
    loop.submit(None, works[0])
    loop.carry_out()
    with monkeypatch.context() as patch:
        patch.setattr(decoder, "forward", lambda *_: (_ for _ in ()).throw(RuntimeError("out of memory")))
        loop._try_step()
    assert isinstance(works[0].mailbox.failure, EngineError)
    assert "out of memory" in str(works[0].mailbox.failure)
    loop.scheduler.check_integrity()
    assert loop.pool.free == PAGES
    assert decoder.forward == forward
    loop.submit(None, works[1])
    while not works[1].mailbox.closed:
        loop.carry_out()
        loop.step()
    assert works[1].take_lease().holding.length == 10

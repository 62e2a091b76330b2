"""Law 1 as a state machine on the engine's own interface: whatever is asked in whatever order, of a pool too small for
it all, pages and holders agree after every step, and every context holds what it must."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from plait.engines import Generation, Sampling
from plait.engines.base import Mode, Placement
from plait.engines.local import LocalEngine
from plait.engines.local.context import LocalContext
from plait.engines.local.holding import Holding
from plait.engines.local.loop import StepLoop
from plait.engines.local.view import View
from plait.errors import CapabilityError, ContextError, PoolError

PAGES, PAGE_SIZE = 12, 4
LONGEST = 40
"""Tokens up to which contexts are spliced; the same pages may be in a view more than once."""

texts = st.text("ab ", max_size=14)


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A context and what it must hold: tokens, each with a number of its own, which forks inherit."""

    context: LocalContext
    held: tuple[tuple[int, int], ...]
    plain: bool = True
    """False if it, or one that it comes of, holds siblings."""

    @property
    def tokens(self) -> list[int]:
        return [token for _, token in self.held]

    @property
    def released(self) -> bool:
        return self.context._released

    def common(self, other: Model) -> int:
        pairs = zip(self.held, other.held, strict=False)
        return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(self.held), len(other.held)))


@dataclass(frozen=True, slots=True)
class Asked:
    """Something under way: what it was asked of, and what makes a model of its result."""

    of: tuple[Model, ...]
    made: Callable[[Any], Model | None]

    @property
    def refusable(self) -> bool:
        """Edits of what holds siblings may be, and of what was released meanwhile."""
        return any(not model.plain or model.released for model in self.of)


class Machine(RuleBasedStateMachine):
    """Asks as tasks of an event loop do, and moves the step loop by hand."""

    open: Callable[[], LocalEngine]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.engine = type(self).open()
        self.loop: StepLoop = self.engine._loop
        self.numbers = count()
        self.models: list[Model] = []
        self.asked: dict[asyncio.Task[Any], Asked] = {}
        self.written: dict[Holding, tuple[View, list[torch.Tensor]]] = {}

    # ---- what may be asked

    @rule(text=texts)
    def create(self, text: str) -> None:
        tokens = self.engine.tokenizer.encode(text)
        self._ask(self.engine.start(text), (), lambda context: Model(context, self._new(tokens)))

    @precondition(lambda self: self.models)
    @rule(data=st.data(), text=texts)
    def extend(self, data: st.DataObject, text: str) -> None:
        model, tokens = self._drawn(data), self.engine.tokenizer.encode_more(text)
        self._ask(
            model.context.extend(text),
            (model,),
            lambda context: Model(context, model.held + self._new(tokens), model.plain),
        )

    @precondition(lambda self: self.models)
    @rule(
        data=st.data(),
        length=st.integers(0, 24),
        forks=st.integers(1, 3),
        stop=st.sampled_from(["t", "a", "th"]),
        temperature=st.sampled_from([0.0, 1.0]),
    )
    def generate(self, data: st.DataObject, length: int, forks: int, stop: str, temperature: float) -> None:
        model = self._drawn(data)

        def made(out: Generation) -> Model:
            assert isinstance(out.context, LocalContext)
            assert out.text.find(stop) in (-1, len(out.text) - len(stop)), "it is cut behind the stop string"
            return Model(out.context, model.held + self._new(out.tokens), model.plain)

        for seed in range(forks if model.held else 0):
            sampling = Sampling(temperature=temperature, seed=seed)
            self._ask(model.context.generate(max_tokens=length, stop=[stop], sampling=sampling), (model,), made)

    @precondition(lambda self: self.models)
    @rule(data=st.data(), continuations=st.lists(texts, max_size=3))
    def score(self, data: st.DataObject, continuations: list[str]) -> None:
        model = self._drawn(data)

        def scored(scores: list[float]) -> None:
            assert [score < 0 for score in scores] == [bool(text) for text in continuations]

        if model.held:
            self._ask(model.context.score(continuations), (model,), scored)

    @precondition(lambda self: self.models)
    @rule(data=st.data(), mode=st.sampled_from(["exact", "shift"]))
    def prune(self, data: st.DataObject, mode: Mode) -> None:
        model = self._drawn(data)
        start = data.draw(st.integers(0, len(model.held)))
        stop = data.draw(st.integers(start, len(model.held)))
        kept = model.held[:start] + self._new(model.tokens[stop:])
        self._ask(
            model.context.prune(start, stop, mode=mode), (model,), lambda context: Model(context, kept, model.plain)
        )

    @precondition(lambda self: self.models)
    @rule(
        data=st.data(),
        at=st.sampled_from(["sequence", "parallel"]),
        mode=st.sampled_from(["exact", "shift"]),
        count=st.integers(0, 3),
    )
    def splice(self, data: st.DataObject, at: Placement, mode: Mode, count: int) -> None:
        model, *others = [self._drawn(data) for _ in range(1 + count)]
        own = [token for other in others for token in other.tokens[model.common(other) :]]
        if len(model.held) + len(own) > LONGEST:
            return
        plain = all(part.plain for part in (model, *others)) and at == "sequence"
        held = model.held + self._new(own)
        coroutine = model.context.splice([other.context for other in others], at=at, mode=mode)
        self._ask(coroutine, (model, *others), lambda context: Model(context, held, plain))

    @precondition(lambda self: self.models)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        model = self.models.pop(data.draw(st.integers(0, len(self.models) - 1)))
        model.context.release()
        self._move(0)

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        task = list(self.asked)[data.draw(st.integers(0, len(self.asked) - 1))]
        task.cancel()
        self._move(0)
        assert task.done()

    # ---- what happens of itself

    @precondition(lambda self: len(self.loop.scheduler.running) > 1)
    @rule(data=st.data())
    def preempt(self, data: st.DataObject) -> None:
        running = self.loop.scheduler.running
        self.loop.scheduler._preempt(running[data.draw(st.integers(0, len(running) - 1))])
        self._move(0)

    @rule()
    def drop_cache(self) -> None:
        self.loop.scheduler.cache.clear()
        self._move(0)

    @precondition(lambda self: self.asked)
    @rule(steps=st.integers(1, 12))
    def step(self, steps: int) -> None:
        self._move(steps)

    def teardown(self) -> None:
        self._move(2000)
        assert not self.asked, "all must come to an end"
        while self.models:
            self.models.pop().context.release()
        self.written.clear()
        gc.collect()
        self._move(0)
        pool, scheduler = self.loop.pool, self.loop.scheduler
        assert (scheduler.holdings, scheduler.busy) == (0, False)
        assert pool.used == pool.cached
        scheduler.cache.clear()
        scheduler.check_integrity()
        assert pool.free == PAGES
        self.runner.close()

    # ---- helpers

    def _drawn(self, data: st.DataObject) -> Model:
        return self.models[data.draw(st.integers(0, len(self.models) - 1))]

    def _new(self, tokens: list[int] | tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        return tuple((next(self.numbers), token) for token in tokens)

    def _ask(self, asked: Coroutine[Any, Any, Any], of: tuple[Model, ...], made: Callable[[Any], Model | None]) -> None:
        self.asked[self.runner.get_loop().create_task(asked)] = Asked(of, made)
        self._move(0)

    def _move(self, steps: int) -> None:
        """Let the tasks run, and after that so many steps, as far as there is work, each of which is checked."""
        self.runner.run(self._moved(steps))

    async def _moved(self, steps: int) -> None:
        await self._settle()
        for _ in range(steps):
            if not self.loop.scheduler.busy:
                break
            self.loop.step()
            await self._settle()

    async def _settle(self) -> None:
        """Until the tasks wait for a step: what they ask of the step loop without one is done."""
        for _ in range(20):
            self.loop.carry_out()
            await asyncio.sleep(0)
        self.loop.carry_out()
        self.loop.scheduler.check_integrity()
        self._collect()
        self._check_contexts()

    def _collect(self) -> None:
        for task in [task for task in self.asked if task.done()]:
            asked = self.asked.pop(task)
            if task.cancelled():
                continue
            failure = task.exception()
            if failure is None:
                model = asked.made(task.result())
                self.models += [model] if model is not None else []
            elif not isinstance(failure, PoolError):
                assert isinstance(failure, ContextError | CapabilityError), repr(failure)
                assert asked.refusable, repr(failure)

    def _check_contexts(self) -> None:
        """They hold what they must, and a written slot never changes as long as somebody may read it."""
        holdings = [model.context.holding for model in self.models]
        self.written = {holding: seen for holding, seen in self.written.items() if holding in holdings}
        for model in self.models:
            assert model.context.tokens == model.tokens
            assert model.context.length == len(model.held)
            holding = model.context.holding
            view, keys = self.written.get(holding, (None, []))
            found = [self.loop._keys[0][:, slot] for slot in _slots(holding)]
            if view is holding.view:
                assert all(torch.equal(old, new) for old, new in zip(keys, found, strict=True))
            else:
                self.written[holding] = (holding.view, [key.clone() for key in found])


def _slots(holding: Holding) -> Iterator[int]:
    for span in holding.view.spans:
        yield from span.segment.slots(span.start, span.stop)


@pytest.fixture
def machine(
    smallest_checkpoint: Path, open_local: Callable[..., LocalEngine], monkeypatch: pytest.MonkeyPatch
) -> type[Machine]:
    monkeypatch.setattr(StepLoop, "start", lambda loop: None)  # no thread: the machine moves it
    options = {"kv_tokens": PAGES * PAGE_SIZE, "page_size": PAGE_SIZE, "step_tokens": 6, "max_batch": 4}
    return type("Machine", (Machine,), {"open": staticmethod(partial(open_local, smallest_checkpoint, **options))})


def run(machine: type[Machine], examples: int, steps: int) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    options = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=checks,
        phases=[Phase.generate],
    )
    run_state_machine_as_test(machine, settings=options)


def test_whatever_is_asked_pages_and_contents_agree_after_every_step(machine: type[Machine]) -> None:
    run(machine, examples=20, steps=30)


@pytest.mark.long
def test_whatever_is_asked_pages_and_contents_agree_for_ten_thousand_steps(machine: type[Machine]) -> None:
    run(machine, examples=100, steps=100)

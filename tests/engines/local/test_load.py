"""Laws 6 and 7 under load: requests of every kind share a pool that is too small for them all. What comes out is what
comes out alone, nothing hangs, nothing leaks, and the bills add up to what was encoded."""

from __future__ import annotations

import gc
import random
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from plait.engines import JsonSchema, Regex, Sampling
from plait.engines.base import Generation, Member, Teamwork
from plait.engines.local import LocalEngine
from plait.engines.local.context import LocalContext
from plait.errors import EngineClosedError

pytestmark = pytest.mark.anyio
Open = Callable[..., LocalEngine]

REQUESTS = 64
TOO_LONG = 120
"""Seconds after which something must be hanging."""
POOL = {"kv_tokens": 480, "page_size": 8, "step_tokens": 48, "max_batch": 32}
SYSTEM = "you are a user of the world and said hello to people on the mat; "
WORDS = ["the", "cat", "sat", "on", "mat", "and", "said", "hello", "world", "to", "people", "thought", "tool"]
SCHEMA = JsonSchema(
    {
        "type": "object",
        "properties": {"thought": {"type": "string", "maxLength": 4}, "result": {"type": "string", "maxLength": 6}},
        "required": ["thought", "result"],
        "additionalProperties": False,
    }
)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


class Request:
    """One user: draws what to ask from a generator of its own, and keeps every context until it has ended."""

    def __init__(self, engine: LocalEngine, number: int) -> None:
        self.engine = engine
        self.number = number
        self.random = random.Random(number)
        self.contexts: list[LocalContext] = []
        self.encoded = 0
        """Tokens that the bills say were encoded, or are to be."""

    def text(self, words: int) -> str:
        return " ".join(self.random.choices(WORDS, k=words))

    async def start(self) -> LocalContext:
        begin = SYSTEM if self.number % 3 else ""
        return self.keep(await self.engine.start(begin + self.text(self.random.randint(1, 30))))

    async def extend(self, context: LocalContext, text: str) -> LocalContext:
        return self.keep(await context.extend(text))

    async def generate(self, context: LocalContext, tokens: int, **options: Any) -> Generation:
        out = await context.generate(max_tokens=tokens, **options)
        self.encoded += out.usage.generated - out.usage.pruned  # a token cut by a stop string is never encoded
        self.keep(out.context)
        return out

    def keep(self, context: Any) -> LocalContext:
        assert isinstance(context, LocalContext)
        self.contexts.append(context)
        self.encoded += context.usage.prefilled + context.usage.recomputed
        return context

    def end(self) -> int:
        """Release everything. Tokens that it had encoded."""
        holdings = {context.holding: None for context in self.contexts}
        pending = sum(max(len(holding.pending) - holding.lost, 0) for holding in holdings)
        for context in self.contexts:
            context.release()
        return self.encoded - pending


# ---- kinds of requests


async def plain(request: Request) -> list[object]:
    out = await request.generate(await request.start(), 24)
    return [out.tokens, out.finish]


async def sampled(request: Request) -> list[object]:
    sampling = Sampling(1.2, top_p=0.95, seed=request.number, presence_penalty=0.5, repetition_penalty=1.1)
    out = await request.generate(await request.start(), 24, sampling=sampling, stop=["e"])
    more = await request.generate(await request.extend(out.context, " and"), 8, sampling=sampling)
    return [out.text, out.stop, more.tokens]


async def forks(request: Request) -> list[object]:
    parent = await request.start()
    found = dict[int, object]()

    async def fork(seed: int) -> None:
        out = await request.generate(parent, 12, sampling=Sampling(1.0, seed=seed))
        found[seed] = out.tokens

    async with anyio.create_task_group() as group:
        for seed in range(4):
            group.start_soon(fork, seed)
    return [found[seed] for seed in sorted(found)]


async def pruned(request: Request) -> list[object]:
    """As TIM: think, cut the thought out, go on."""
    context, found = await request.start(), list[object]()
    for _ in range(3):
        length = context.length
        thought = await request.generate(await request.extend(context, request.text(6)), 10)
        told = await request.extend(thought.context, request.text(2))
        context = request.keep(await told.prune(length, thought.context.length, mode="exact"))
        found += [thought.tokens, context.tokens]
    out = await request.generate(context, 8)
    return [*found, out.tokens]


async def grammar(request: Request) -> list[object]:
    """A tool's result is inserted in mid-JSON."""
    first = await request.generate(await request.start(), 60, grammar=SCHEMA, stop=['"result":"'])
    assert first.grammar is not None
    told = await request.extend(first.context, "42")
    last = await request.generate(told, 60, grammar=first.grammar.force("42"))
    return [first.text, last.text, last.finish]


async def joined(request: Request) -> list[object]:
    """As APR and Multiverse: children on forks, joined in sequence and side by side."""
    parent = await request.start()
    children = [await request.generate(await request.extend(parent, text), 8) for text in (" a", " b; c")]
    contexts = [child.context for child in children]
    at = "parallel" if request.number % 2 else "sequence"
    context = request.keep(await parent.splice(contexts, at=at, mode="exact"))
    out = await request.generate(await request.extend(context, " so"), 10, grammar=Regex("[a-z ]{12}"))
    return [*(child.tokens for child in children), out.text]


async def team(request: Request) -> list[object]:
    """As Hogwild!: two members that see each other."""
    context = await request.start()
    members = [
        Member(context=context, name=name, max_tokens=10, sampling=Sampling(1.0, seed=seed))
        for seed, name in enumerate(("Ann", "Bob"))
    ]
    outs = await request.engine.team(members, Teamwork(layout="combined"))
    for out in outs:
        request.encoded += out.usage.generated - out.usage.pruned
        request.keep(out.context)
    return [out.tokens for out in outs]


KINDS: list[Callable[[Request], Awaitable[list[object]]]] = [plain, sampled, forks, pruned, grammar, joined, team]


async def perform(engine: LocalEngine, number: int) -> tuple[list[object], int]:
    """What a request gives, and the tokens that it had encoded."""
    request = Request(engine, number)
    outputs = await KINDS[number % len(KINDS)](request)
    return outputs, request.end()


@pytest.fixture(scope="module")
async def alone(checkpoint: Path, open_local: Open) -> list[list[object]]:
    """What each request gives alone, in a pool with room and without a cache."""
    async with open_local(checkpoint, prefix_cache=False) as engine:
        return [(await perform(engine, number))[0] for number in range(REQUESTS)]


def check_nothing_is_held(engine: LocalEngine) -> None:
    gc.collect()
    engine.check_integrity()
    stats = engine.stats()
    assert (stats.contexts, stats.running, stats.waiting) == (0, 0, 0)
    assert stats.pages_used == stats.pages_cached
    engine.drop_cache()
    assert engine.stats().pages_used == 0


# ---- all at once


@pytest.mark.parametrize("prefix_cache", [True, False])
async def test_each_gives_what_it_gives_alone_and_the_bills_add_up(
    checkpoint: Path, open_local: Open, alone: list[list[object]], prefix_cache: bool
) -> None:
    found, encoded = dict[int, list[object]](), 0

    async def one(engine: LocalEngine, number: int) -> None:
        nonlocal encoded
        found[number], mine = await perform(engine, number)
        encoded += mine

    async with open_local(checkpoint, prefix_cache=prefix_cache, **POOL) as engine:
        with anyio.fail_after(TOO_LONG):
            async with anyio.create_task_group() as group:
                for number in range(REQUESTS):
                    group.start_soon(one, engine, number)
        assert [found[number] for number in range(REQUESTS)] == alone
        stats = engine.stats()
        assert stats.preempted > 0
        assert stats.evicted > 0
        assert (stats.tokens_found > 0) == prefix_cache
        assert stats.encoded == encoded, "law 7"
        check_nothing_is_held(engine)


@pytest.mark.parametrize("seed", range(2))
async def test_what_is_not_cancelled_gives_what_it_gives_alone(
    checkpoint: Path, open_local: Open, alone: list[list[object]], seed: int
) -> None:
    chance, found = random.Random(seed), dict[int, list[object]]()

    async def one(engine: LocalEngine, number: int) -> None:
        with anyio.move_on_after(chance.choice([None, chance.uniform(0, 3)])):  # type: ignore[arg-type]
            found[number], _ = await perform(engine, number)

    async with open_local(checkpoint, **POOL) as engine:
        with anyio.fail_after(TOO_LONG):
            async with anyio.create_task_group() as group:
                for number in range(REQUESTS):
                    group.start_soon(one, engine, number)
        assert len(found) >= REQUESTS // 4
        assert all(outputs == alone[number] for number, outputs in found.items())
        check_nothing_is_held(engine)
        assert (await perform(engine, 0))[0] == alone[0], "the engine goes on"


@pytest.mark.parametrize("seed", range(2))
async def test_an_engine_closed_under_load_fails_all_that_is_left_by_name(
    checkpoint: Path, open_local: Open, alone: list[list[object]], seed: int
) -> None:
    found, closed = dict[int, list[object]](), list[int]()
    engine = open_local(checkpoint, **POOL)

    async def one(number: int) -> None:
        try:
            found[number], _ = await perform(engine, number)
        except* EngineClosedError:
            closed.append(number)

    with anyio.fail_after(TOO_LONG):
        async with anyio.create_task_group() as group:
            for number in range(REQUESTS):
                group.start_soon(one, number)
            await anyio.sleep(random.Random(seed).uniform(0, 1))
            await engine.aclose()
    assert sorted([*found, *closed]) == list(range(REQUESTS))
    assert closed
    assert all(outputs == alone[number] for number, outputs in found.items())
    assert not [thread for thread in threading.enumerate() if thread.name == "plait-steps" and thread.is_alive()]

"""Batch-invariant mode: to the last bit the same, whatever else the engine does. The default mode is the control."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import anyio
import pytest
import torch

from plait.engines import Member, Regex, Sampling, Teamwork
from plait.engines.local import LocalEngine
from plait.engines.local.decoder import Decoder
from plait.engines.local.rows import HEIGHTS, in_blocks, steady_height
from plait.errors import InputError
from plait.kernels import KeyRun, QueryBlock

pytestmark = pytest.mark.anyio
SLOTS = 256
SHAPES = {
    "qwen3": {},
    "odd sizes": {"hidden_size": 44, "intermediate_size": 70, "vocab_size": 101, "head_dim": 10},
    "window": {"model": "mistral", "sliding_window": 7},
    "wide": {"hidden_size": 256, "intermediate_size": 700, "vocab_size": 1000, "num_hidden_layers": 1},
}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


def runs(slots: Sequence[int], first: int) -> tuple[KeyRun, ...]:
    """A thread's own keys, in runs of consecutive slots; those from index `first` on are written in this step."""
    found, start = [], 0
    for stop in range(1, len(slots) + 1):
        if stop == len(slots) or slots[stop] != slots[stop - 1] + 1:
            place = start - first if stop > first else None
            found.append(KeyRun(slots[start], stop - start, start, start, place))
            start = stop
    return tuple(found)


class Sequences:
    """Sequences encoded side by side, in chunks and in slots as they come."""

    def __init__(self, decoder: Decoder, texts: Sequence[Sequence[int]], choose: random.Random) -> None:
        self.decoder = decoder
        self.texts = texts
        self.pool = decoder.new_pool(SLOTS)
        pages = list(range(SLOTS // 4))
        choose.shuffle(pages)
        self._free = [page * 4 + place for page in pages for place in range(4)]
        self._slots: list[list[int]] = [[] for _ in texts]
        self.logits: list[list[torch.Tensor]] = [[] for _ in texts]

    def step(self, counts: Sequence[int]) -> None:
        """Encode the next `counts[i]` tokens of each sequence."""
        ids, blocks, whose = [], [], []
        for index, count in enumerate(counts):
            slots, start = self._slots[index], len(self._slots[index])
            count = min(count, len(self.texts[index]) - start)
            if not count:
                continue
            slots += [self._free.pop(0) for _ in range(count)]
            ids += self.texts[index][start : start + count]
            blocks.append(QueryBlock(start, start, tuple(slots[start:]), runs(slots, start)))
            whose += [index] * count
        if not ids:
            return
        plan = self.decoder.plan(blocks, SLOTS)
        for index, row in zip(whose, self.decoder.forward(torch.tensor(ids), plan, *self.pool), strict=True):
            self.logits[index].append(row)

    @property
    def done(self) -> bool:
        return all(len(slots) == len(text) for slots, text in zip(self._slots, self.texts, strict=True))


def different(decoder: Decoder, seed: int) -> int:
    """How many tokens' logits differ between a sequence encoded alone, token by token, and among others, in chunks."""
    choose = random.Random(seed)
    texts = [[choose.randrange(decoder.config.vocab_size) for _ in range(choose.randint(9, 33))] for _ in range(4)]
    together = Sequences(decoder, texts, choose)
    while not together.done:
        together.step([choose.choice((0, 1, 1, 3, 9)) for _ in texts] if choose.random() < 0.9 else [40] * 4)
    alone = Sequences(decoder, [texts[0]], choose)
    while not alone.done:
        alone.step([1])
    pairs = list(zip(alone.logits[0], together.logits[0], strict=True))
    assert all(torch.allclose(a, b, atol=0.5, rtol=0.1) for a, b in pairs)
    return sum(not torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_are_the_same_bits_in_any_chunks_pages_and_company(
    tiny_checkpoint: Callable[..., Path], shape: str, dtype: str
) -> None:
    sizes = dict(SHAPES[shape])
    path = tiny_checkpoint(sizes.pop("model", "qwen3"), **sizes)
    decoder = Decoder.load(path, dtype=dtype, kernel="invariant", batch_invariant=True)
    assert [different(decoder, seed) for seed in range(6)] == [0] * 6


def test_the_default_mode_is_the_same_to_rounding_only(tiny_checkpoint: Callable[..., Path]) -> None:
    """The control: what the test above compares does differ where nothing is done for it."""
    decoder = Decoder.load(tiny_checkpoint("qwen3", **SHAPES["wide"]), dtype="float32")
    assert sum(different(decoder, seed) for seed in range(6)) > 0


def test_neither_half_of_the_mode_is_enough(tiny_checkpoint: Callable[..., Path]) -> None:
    path = tiny_checkpoint("qwen3", **SHAPES["wide"])
    for kernel, blocks in (("invariant", False), ("torch", True)):
        decoder = Decoder.load(path, dtype="float32", kernel=kernel, batch_invariant=blocks)
        assert sum(different(decoder, seed) for seed in range(6)) > 0


# ---- blocks of rows


def test_blocks_give_what_the_function_gives() -> None:
    x, y = torch.randn(11, 3), torch.randn(11, 2, 3)
    for height in HEIGHTS:
        assert torch.equal(in_blocks(height, lambda a, b: a + b.sum(1), x, y), x + y.sum(1))
        assert in_blocks(height, lambda a: a * 2, x[:0]).shape == (0, 3)


def test_a_function_that_minds_a_row_s_place_gets_lower_blocks() -> None:
    def minds(x: torch.Tensor) -> torch.Tensor:
        return x + (torch.arange(len(x)) >= 4)[:, None] * 1e-7

    row = (torch.ones(1, 3),)
    assert steady_height([(lambda x: x, row), (minds, row)]) == 4
    assert steady_height([(lambda x: x + torch.arange(len(x))[:, None], row)]) == 1


# ---- the engine


async def outputs(engine: LocalEngine, noise: int) -> list[object]:
    """What three threads say, and with which log-probabilities, while `noise` others run."""
    found: dict[int, object] = {}
    others = [await engine.start("people and " * (index + 1)) for index in range(noise)]

    async def say(index: int, start: str) -> None:
        context = await engine.start(start)
        sampling = Sampling(1.1, seed=index, logprobs=4, repetition_penalty=1.1)
        grammar = Regex("[a-z ]{24}") if index == 1 else None
        out = await context.generate(max_tokens=24, sampling=sampling, grammar=grammar)
        cut = await out.context.prune(2, 5, mode="shift")
        sides = [await cut.extend(" the cat"), await cut.extend(" hello")]
        joined = await (await cut.splice(sides, at="parallel", mode="exact")).extend(" and")
        later = await joined.generate(max_tokens=6, sampling=Sampling(logprobs=4))
        found[index] = (out.tokens, out.logprobs, later.logprobs, await cut.score([" the mat", " cat"]))

    async def disturb(index: int) -> None:
        await others[index].generate(
            max_tokens=40 + index, grammar=Regex("[a-z ]{90}"), sampling=Sampling(1.0, seed=index)
        )

    async with anyio.create_task_group() as group:
        for index in range(noise):
            group.start_soon(disturb, index)
        for index, start in enumerate(("the cat sat on the mat", "hello", "system user tool " * 6)):
            group.start_soon(say, index, start)
    engine.check_integrity()
    return [found[index] for index in sorted(found)]


async def test_a_thread_s_log_probabilities_are_the_same_bits_under_load_and_preemption(
    checkpoint: Path, open_local: Callable[..., LocalEngine]
) -> None:
    options = {"dtype": "float32", "batch_invariant": True}
    async with open_local(checkpoint, **options) as engine:
        alone = await outputs(engine, 0)
    for more in ({"kv_tokens": 1024, "step_tokens": 13}, {"page_size": 3, "kv_tokens": 240, "prefix_cache": False}):
        async with open_local(checkpoint, **options, **more) as engine:
            assert await outputs(engine, 7) == alone
            preempted = engine.stats().preempted
    assert preempted > 0, "the small pool is too small for all"


async def test_a_team_s_log_probabilities_are_the_same_bits_beside_others(
    checkpoint: Path, open_local: Callable[..., LocalEngine]
) -> None:
    async def teamed(engine: LocalEngine, noise: int) -> list[object]:
        context = await engine.start("the cat sat on the mat")
        others = [await engine.start("people and " * (index + 1)) for index in range(noise)]
        members = [
            Member(context=context, name=name, max_tokens=12, sampling=Sampling(1.0, seed=place, logprobs=3))
            for place, name in enumerate(("Ann", "Bob", "Cy"))
        ]
        async with anyio.create_task_group() as group:
            for other in others:
                group.start_soon(partial(other.generate, max_tokens=24))
            found = await engine.team(members, Teamwork(layout="combined", step_end="t", step_header="{name}:"))
        return [(written.tokens, written.logprobs) for written in found]

    async with open_local(checkpoint, dtype="float32", batch_invariant=True) as engine:
        alone = await teamed(engine, 0)
        assert await teamed(engine, 5) == alone
        engine.check_integrity()


async def test_a_kernel_that_is_not_invariant_is_refused(
    checkpoint: Path, open_local: Callable[..., LocalEngine]
) -> None:
    with pytest.raises(InputError, match="kernel 'torch' is not batch-invariant"):
        open_local(checkpoint, kernel="torch", batch_invariant=True)

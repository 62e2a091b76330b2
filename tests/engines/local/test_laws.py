"""Laws 2, 6 and 8: how a sequence is cut, and what else runs, has no part in what comes out; limits have names."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.engines import Sampling
from plait.engines.local import LocalEngine
from plait.engines.local.context import LocalContext
from plait.engines.local.decoder import Decoder
from plait.engines.local.holding import Holding
from plait.engines.local.pages import PagePool
from plait.engines.local.thread import Thread
from plait.engines.local.view import View
from plait.engines.local.work import Settling
from plait.errors import ContextLengthError, PoolError

pytestmark = pytest.mark.anyio
Open = Callable[..., LocalEngine]
WORDS = ["the", "cat", "sat", "on", "mat", "and", "said", "hello", "world", "to", "people", ";", "user"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def decoder(checkpoint: Path) -> Decoder:
    return Decoder.load(checkpoint, dtype="float64")


def prompt(words: int, seed: int) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


# ---- law 2


class Pieces:
    """Encodes a sequence in pieces of one's choice, without a scheduler."""

    def __init__(self, decoder: Decoder, page_size: int) -> None:
        self.decoder = decoder
        self.pool = PagePool(400, page_size)
        self.keys, self.values = decoder.new_pool(400 * page_size)

    def encode(self, view: View, tokens: Sequence[int], chunks: Sequence[int]) -> tuple[View, torch.Tensor]:
        """The view with the tokens after it, and their logits."""
        work = Settling(tokens)
        thread = Thread(self.pool, Holding(self.pool, view, ()), work, 0)
        thread.prepare()
        thread.enter()
        logits = []
        for chunk in chunks:
            ids = thread.advance(chunk)
            plan = self.decoder.plan([thread.block()], 400 * self.pool.page_size)
            logits.append(self.decoder.forward(torch.tensor(ids), plan, self.keys, self.values))
        view = thread.view
        Holding(self.pool, view, ())
        thread.leave()
        return view, torch.cat(logits)


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_any_cutting_of_a_sequence_gives_the_logits_of_the_uncut_one(decoder: Decoder, data: st.DataObject) -> None:
    count = 30
    tokens = [random.Random(1).randrange(3, 320) for _ in range(count)]
    whole = Pieces(decoder, 64).encode(View(), tokens, [count])[1]
    pieces = Pieces(decoder, data.draw(st.sampled_from([1, 2, 5, 16])))
    view, logits, done = View(), [], 0
    while done < count:
        length = min(data.draw(st.integers(1, 20)), count - done)
        chunks = []
        while sum(chunks) < length:
            chunks.append(min(data.draw(st.integers(1, 12)), length - sum(chunks)))
        if data.draw(st.booleans()):
            view, _ = view.cut(done)  # another context stands here too: a second thread has to write elsewhere
            pieces.encode(view, [7], [1])
        view, of_piece = pieces.encode(view, tokens[done : done + length], chunks)
        logits.append(of_piece)
        done += length
    assert view.tokens == tokens
    torch.testing.assert_close(torch.cat(logits), whole, rtol=0, atol=1e-9)


# ---- law 6


async def outputs(engine: LocalEngine, *, together: bool, reverse: bool = False) -> list[tuple[int, ...]]:
    """What eight generations, two to a prompt, sample."""
    found: dict[int, tuple[int, ...]] = {}

    async def generate(context: LocalContext, place: int) -> None:
        sampling = Sampling(temperature=0.0 if place % 2 else 1.5, top_k=40, top_p=0.95, min_p=0.01, seed=place)
        found[place] = (await context.generate(max_tokens=16, sampling=sampling)).tokens

    async def one(seed: int) -> None:
        context = await engine.start(prompt(5 + 9 * seed, seed))
        await generate(context, 2 * seed)
        await generate(context, 2 * seed + 1)

    order = range(4)
    if together:
        async with anyio.create_task_group() as group:
            for seed in reversed(order) if reverse else order:
                group.start_soon(one, seed)
    else:
        for seed in order:
            await one(seed)
    return [found[place] for place in sorted(found)]


async def test_outputs_do_not_depend_on_the_batch_chunks_pages_or_order(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint) as engine:
        alone = await outputs(engine, together=False)
    for options in ({"page_size": 1}, {"step_tokens": 3, "page_size": 7}, {"max_batch": 2}, {"kernel": "reference"}):
        async with open_local(checkpoint, **options) as engine:
            assert await outputs(engine, together=True, reverse=bool(options.get("page_size"))) == alone, options
            engine.check_integrity()


async def test_outputs_do_not_depend_on_preemption_or_eviction(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint) as engine:
        alone = await outputs(engine, together=False)
    async with open_local(checkpoint, kv_tokens=80, page_size=4) as engine:
        assert await outputs(engine, together=True) == alone
        engine.check_integrity()
        stats = engine.stats()
        assert stats.preempted > 0
        assert stats.evicted > 0


async def test_repeats_are_equal_and_seeds_differ(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint) as engine:
        context = await engine.start("the cat")
        drawn = [await context.generate(max_tokens=12, sampling=Sampling(1.0, seed=seed)) for seed in (1, 1, 2)]
        assert drawn[0].tokens == drawn[1].tokens != drawn[2].tokens


async def test_greedy_equals_transformers(checkpoint: Path, llama_checkpoint: Path, open_local: Open) -> None:
    transformers = pytest.importorskip("transformers")
    for path in (checkpoint, llama_checkpoint):
        reference = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64).eval()
        async with open_local(path) as engine:
            contexts = [await engine.start(prompt(words, words)) for words in (3, 30)]
            made = [await context.generate(max_tokens=20) for context in contexts]
            for context, generation in zip(contexts, made, strict=True):
                ids = torch.tensor([context.tokens])
                unused = list(range(engine.tokenizer.size, reference.config.vocab_size))
                options = {
                    "suppress_tokens": unused,
                    "attention_mask": torch.ones_like(ids),
                    "max_new_tokens": 20,
                    "do_sample": False,
                }
                expected = reference.generate(ids, **options, pad_token_id=0)[0, ids.shape[1] :].tolist()
                if generation.finish == "eos":
                    expected = expected[:-1]
                assert list(generation.tokens) == expected


# ---- law 8


async def test_a_generation_ends_with_the_window(tiny: Path, open_local: Open) -> None:
    async with open_local(tiny) as engine:
        window = engine.capabilities.window
        context = await engine.start("a" * (window - 5))
        generation = await context.generate(max_tokens=50)
        assert (generation.finish, len(generation.tokens)) == ("window", 5)
        assert generation.context.length == window
        full = await generation.context.generate(max_tokens=50)
        assert (full.finish, full.text, full.context.length) == ("window", "", window)
        with pytest.raises(ContextLengthError, match=rf"{window + 1} tokens do not fit the window of {window}"):
            await generation.context.extend("a")
        engine.check_integrity()


async def test_a_prompt_longer_than_the_window_is_refused(tiny: Path, open_local: Open) -> None:
    async with open_local(tiny) as engine:
        with pytest.raises(ContextLengthError):
            await engine.start("a" * 100_000)
        assert (await engine.start("a")).length == 1


async def test_a_request_larger_than_the_pool_is_refused_and_the_engine_goes_on(tiny: Path, open_local: Open) -> None:
    async with open_local(tiny, kv_tokens=32, page_size=4) as engine:
        with pytest.raises(PoolError, match="more kv_memory"):
            await engine.start("a" * 40)
        context = await engine.start("a" * 20)
        with pytest.raises(PoolError):
            await context.generate(max_tokens=30)
        assert len((await context.generate(max_tokens=8)).tokens) == 8
        engine.check_integrity()


async def test_idle_contexts_give_way_and_come_back(tiny: Path, open_local: Open) -> None:
    async with open_local(tiny, kv_tokens=32, page_size=4) as engine:
        contexts = [await engine.start(letter * 20) for letter in "abc"]
        assert engine.stats().evicted == 2
        again = await contexts[0].generate(max_tokens=6)
        assert again.usage.recomputed == 19, "the last token had not been encoded yet"
        assert contexts[0].text + again.text == again.context.text
        engine.check_integrity()


@pytest.fixture(scope="module")
def tiny(tiny_checkpoint: Callable[..., Path], smallest_checkpoint: Path) -> Path:
    """A window of 64 tokens."""
    path = tiny_checkpoint("qwen3", num_hidden_layers=1, vocab_size=352, eos_token_id=None, max_position_embeddings=64)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (path / name).write_bytes((smallest_checkpoint / name).read_bytes())
    return path

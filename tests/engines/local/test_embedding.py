"""Embeddings: final hidden states, held against those of `transformers`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
import torch

from plait.engines import Sampling
from plait.engines.local import LocalEngine
from plait.errors import CapabilityError, ContextError

pytestmark = pytest.mark.anyio
Open = Callable[..., LocalEngine]
TEXT = "the cat sat on the mat and said hello world to people " * 3


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


def expected(checkpoint: Path, tokens: list[int]) -> torch.Tensor:
    """Final hidden states, [tokens, hidden_size]."""
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModel.from_pretrained(checkpoint, dtype=torch.float64, local_files_only=True).eval()
    with torch.inference_mode():
        states: torch.Tensor = model(torch.tensor([tokens])).last_hidden_state[0]
    return states


@pytest.mark.parametrize("family", ["checkpoint", "llama_checkpoint"])
async def test_embeddings_are_the_hidden_states_of_transformers(
    request: pytest.FixtureRequest, open_local: Open, family: str
) -> None:
    path: Path = request.getfixturevalue(family)
    async with open_local(path, step_tokens=9) as engine:
        assert engine.capabilities.embed
        context = await engine.start(TEXT)
        states = expected(path, context.tokens)
        for _ in range(2):  # the second time its last token is encoded already, and its logits are known
            assert await context.embed(pooling="last") == pytest.approx(states[-1].tolist(), abs=1e-5)
            assert await context.embed() == pytest.approx(states.mean(0).tolist(), abs=1e-5)
            await context.generate(max_tokens=1)
        longer = (await context.generate(max_tokens=4)).context
        states = expected(path, longer.tokens)
        assert await longer.embed(pooling="last") == pytest.approx(states[-1].tolist(), abs=1e-5)
        engine.check_integrity()


async def test_embeddings_are_the_same_beside_others_and_after_preemption(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint, kv_tokens=176, step_tokens=4, prefix_cache=False) as engine:
        context = await engine.start(TEXT)
        alone = await context.embed()
        found: list[list[float]] = []
        preempted = engine.stats().preempted

        async def embed() -> None:
            found.append(await context.embed())

        async def generate(seed: int) -> None:
            await context.generate(max_tokens=60, sampling=Sampling(1.0, seed=seed, logit_bias={0: -100.0}))

        async with anyio.create_task_group() as group:
            for seed in range(3):
                group.start_soon(generate, seed)
            for _ in range(3):
                group.start_soon(embed)
        assert all(one == pytest.approx(alone, abs=1e-9) for one in found)
        assert engine.stats().preempted > preempted
        engine.check_integrity()


async def test_what_would_not_be_the_context_s_states_is_refused(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint) as engine:
        context = await engine.start(TEXT)
        shifted = await context.prune(2, 5, mode="shift")
        assert len(await shifted.embed(pooling="last")) == engine.decoder.config.hidden_size
        with pytest.raises(CapabilityError, match="encodes the context anew"):
            await shifted.embed()
        exact = await context.prune(2, 5, mode="exact")
        assert await exact.embed(pooling="last") != pytest.approx(await shifted.embed(pooling="last"), abs=1e-5)
        assert len(await exact.embed()) == engine.decoder.config.hidden_size
        with pytest.raises(CapabilityError, match="embed does not know 'max'; supported: mean, last"):
            await context.embed(pooling="max")  # type: ignore[arg-type]
        with pytest.raises(ContextError, match="empty context"):
            await (await engine.start("")).embed()

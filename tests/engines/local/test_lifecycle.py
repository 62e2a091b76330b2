"""Who holds what for how long: forks, cancellation, collection, closing; on asyncio and trio."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import pytest

from plait.engines import Sampling, open_engine
from plait.engines.base import Placement
from plait.engines.local import LocalEngine
from plait.engines.local.engine import parse_memory
from plait.errors import CheckpointError, ContextError, EngineClosedError, EngineError, InputError, PoolError

pytestmark = pytest.mark.anyio
Open = Callable[..., LocalEngine]
LONG = 400


def settled(engine: LocalEngine) -> int:
    """Pages that contexts use once everything asked before is carried out; the books are checked."""
    gc.collect()
    engine.check_integrity()
    stats = engine.stats()
    return stats.pages_used - stats.pages_cached


async def under_way(engine: LocalEngine, count: int = 1) -> None:
    with anyio.fail_after(30):
        while engine.stats().running < count:  # noqa: ASYNC110 (the loop's thread sets no event)
            await anyio.sleep(0.001)


# ---- sharing


async def test_forking_a_thousand_tokens_copies_at_most_one_page(
    tiny_checkpoint: Callable[..., Path], checkpoint: Path, open_local: Open
) -> None:
    path = tiny_checkpoint(
        "qwen3", num_hidden_layers=1, vocab_size=352, eos_token_id=None, max_position_embeddings=2048
    )
    (path / "tokenizer.json").write_bytes((checkpoint / "tokenizer.json").read_bytes())
    async with open_local(path) as engine:
        context = await engine.start("a" * 1000)
        assert context.length == 1000
        before, encoded = settled(engine), engine.stats().encoded
        forks = [await context.extend(letter) for letter in "bcd"]
        assert [fork.text[-2:] for fork in forks] == ["ab", "ac", "ad"]
        assert settled(engine) <= before + len(forks)
        assert engine.stats().encoded - encoded <= 1, "the pending token, once; the new ones are still pending"
        assert all(fork.usage.prefilled == 1 and fork.usage.recomputed == 0 for fork in forks)


async def test_a_pending_token_is_encoded_once_for_all_forks(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint) as engine:
        context = await engine.start("the cat sat")
        encoded = engine.stats().encoded
        async with anyio.create_task_group() as group:
            for seed in range(6):
                group.start_soon(partial(context.generate, max_tokens=1, sampling=Sampling(1.0, seed=seed)))
        assert engine.stats().encoded == encoded + 1, "six first tokens from one row of logits"


async def test_a_thread_goes_on_in_its_own_tail(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint, page_size=4) as engine:
        context = await engine.start("the cat sat")
        for _ in range(5):
            context = (await (await context.extend(" on")).generate(max_tokens=3)).context
        assert len(context.holding.view.spans) == 1
        fork = (await (await context.extend(" a")).generate(max_tokens=3)).context
        other = (await (await context.extend(" b")).generate(max_tokens=3)).context
        assert [len(part.holding.view.spans) for part in (fork, other)] == [1, 2]


# ---- giving up


async def test_cancelling_the_task_frees_its_pages(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint) as engine:
        context = await engine.start("the cat")
        before = settled(engine)
        async with anyio.create_task_group() as group:
            for seed in range(4):
                group.start_soon(partial(context.generate, max_tokens=LONG, sampling=Sampling(1.0, seed=seed)))
            await under_way(engine, 4)
            group.cancel_scope.cancel()
        assert settled(engine) <= before + 1, "all but the context, whose last token has been encoded"
        assert engine.stats().running == engine.stats().waiting == 0
        assert (await context.generate(max_tokens=2)).usage.generated == 2


async def test_leaving_a_stream_early_frees_its_pages(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint) as engine:
        context = await engine.start("the cat")
        before = settled(engine)
        async with context.stream(max_tokens=LONG) as stream:
            async for chunk in stream:
                assert chunk.tokens == 1
                break
            with pytest.raises(EngineError, match="has not ended"):
                _ = stream.result
        assert settled(engine) <= before + 1
        with pytest.raises(EngineError, match="not open"):
            await anext(aiter(stream))


async def test_a_time_out_frees_what_waits(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint, max_batch=1) as engine:
        context = await engine.start("the cat")
        async with anyio.create_task_group() as group:
            group.start_soon(partial(context.generate, max_tokens=LONG))
            await under_way(engine)
            with anyio.move_on_after(0.02) as scope:
                await context.generate(max_tokens=1)
            assert scope.cancelled_caught
            group.cancel_scope.cancel()
        assert settled(engine) <= 2


async def test_contexts_left_to_the_collector_are_released(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint) as engine:
        for _ in range(3):
            context = await engine.start("the cat sat on the mat")
            out = await context.generate(max_tokens=20)
            assert settled(engine) > 0
            del context, out
            engine.check_integrity()
            assert engine.stats().contexts == 0, "without waiting for cycles to be found"
        assert settled(engine) == 0


async def test_a_released_or_foreign_context_is_refused(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint) as engine, open_local(checkpoint) as other:
        context, foreign = await engine.start("the cat"), await other.start("the cat")
        kept = await context.extend(" sat")
        context.release()
        context.release()
        for use in (
            partial(context.extend, "x"),
            context.generate,
            partial(context.score, ["x"]),
            partial(context.prune, 0, 1, mode="exact"),
            partial(kept.splice, [context], at="sequence", mode="exact"),
        ):
            with pytest.raises(ContextError, match="was released"):
                await use()
        with pytest.raises(ContextError, match="another engine"):
            await kept.splice([foreign], at="sequence", mode="exact")
        assert (await kept.generate(max_tokens=2)).usage.generated == 2, "what it shares is still there"
        assert "released" in repr(context)


# ---- closing


async def test_closing_while_busy_fails_everything_by_name(checkpoint: Path, open_local: Open) -> None:
    engine = open_local(checkpoint, max_batch=2)
    context = await engine.start("the cat")
    failures: list[BaseException] = []

    async def generate() -> None:
        try:
            await context.generate(max_tokens=LONG)
        except EngineClosedError as error:
            failures.append(error)

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(generate)
        await under_way(engine, 2)
        await engine.aclose()
    assert len(failures) == 4
    await engine.aclose()
    for use in (partial(engine.start, "x"), partial(context.extend, "x")):
        with pytest.raises(EngineClosedError, match="was closed"):
            await use()
    context.release()
    assert not [thread for thread in threading.enumerate() if thread.name == "plait-steps" and thread.is_alive()]


async def test_an_engine_nobody_holds_ends_its_thread(checkpoint: Path, open_local: Open) -> None:
    engine = open_local(checkpoint)
    thread = engine._loop._thread
    await engine.start("x")
    del engine
    gc.collect()
    await anyio.to_thread.run_sync(thread.join, 10)
    assert not thread.is_alive()


async def test_a_loop_that_dies_tells_everyone(
    checkpoint: Path, open_local: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_local(checkpoint)
    context = await engine.start("x")

    def fail() -> None:
        raise SystemError("a bug")

    monkeypatch.setattr(engine._loop, "_try_step", fail)
    with pytest.raises(EngineClosedError, match="a bug"):
        await context.generate()
    with pytest.raises(EngineClosedError, match="a bug"):
        await context.extend("y")
    await engine.aclose()


LEFT_RUNNING = """
import sys, anyio
from plait.engines.local import LocalEngine

async def main(engine):
    context = await engine.start("the cat")
    async with context.stream(max_tokens=400) as stream:
        async for chunk in stream:
            print("begun", flush=True)
            {then}

engine = LocalEngine.open(sys.argv[1], kv_tokens=8192)
anyio.run(main, engine)
"""


@pytest.mark.parametrize("then", ["await anyio.sleep(600)", "sys.exit(3)"])
def test_a_process_ends_with_an_engine_left_running(checkpoint: Path, then: str) -> None:
    script = [sys.executable, "-c", LEFT_RUNNING.format(then=then), str(checkpoint)]
    process = subprocess.Popen(script, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    if "sleep" in then:
        process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == (3 if "exit" in then else -signal.SIGINT)
    assert "Exception" not in errors, "nothing but the interrupt itself"


async def test_books_that_do_not_agree_end_the_engine_by_name(checkpoint: Path, open_local: Open) -> None:
    engine = open_local(checkpoint)
    context = await engine.start("x y z")
    context.holding.pages.append(7)
    with pytest.raises(AssertionError, match="page 7: count 0, holders 1"):
        engine.check_integrity()
    await anyio.to_thread.run_sync(engine._loop._thread.join, 10)
    with pytest.raises(EngineClosedError, match="page 7"):
        await context.extend("y")
    await engine.aclose()


# ---- many callers


async def test_one_engine_serves_several_event_loops(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint) as engine:
        context = await engine.start("the cat")
        expected = (await context.generate(max_tokens=10)).text
        found: list[str] = []

        async def generate() -> None:
            found.append((await context.generate(max_tokens=10)).text)

        async with anyio.create_task_group() as group:
            for backend in ("asyncio", "trio"):
                group.start_soon(anyio.to_thread.run_sync, partial(anyio.run, generate, backend=backend))
            group.start_soon(generate)
        assert found == [expected] * 3


async def test_threads_join_and_leave_a_running_batch(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint, max_batch=5, step_tokens=16) as engine:
        found: dict[int, str] = {}

        async def one(number: int) -> None:
            context = await engine.start("the cat sat " * (1 + number % 4))
            out = await context.generate(max_tokens=3 + number, sampling=Sampling(1.0, seed=number))
            found[number] = out.text

        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(one, number)
        together = dict(found)
        for number in range(12):
            await one(number)
        assert found == together
        assert settled(engine) == 0


# ---- opening


async def test_options_are_checked(checkpoint: Path) -> None:
    for options, match in (
        ({"page_size": 0}, "page_size is 0"),
        ({"kv_memory": "lots"}, "can't be read"),
        ({"kv_memory": "1KiB"}, "no page of 16"),
        ({"kv_memory": "infGiB"}, "can't be read"),
        ({"kv_memory": "90000TiB"}, "kv_memory '90000TiB' is more than .* has room for"),
        ({"kv_tokens": 9, "page_size": 10}, "kv_tokens 9 holds 9 tokens, no page of 10"),
        ({"kv_tokens": -5}, "kv_tokens is -5"),
        ({"threads": -1}, "threads is -1"),
    ):
        with pytest.raises(InputError, match=match):
            LocalEngine.open(checkpoint, **options)
    with pytest.raises(CheckpointError):
        LocalEngine.open(checkpoint / "nowhere")


async def test_memory_sizes_the_pool(checkpoint: Path) -> None:
    assert [parse_memory(text) for text in ("1.5GiB", " 2MiB", 7)] == [3 << 29, 2 << 20, 7]
    engine = open_engine(f"local:{checkpoint}", kv_memory="1MiB")
    async with engine:
        assert isinstance(engine, LocalEngine)
        bytes_per_token = engine.decoder.config.kv_bytes_per_token(4)
        assert engine.stats().tokens == (1 << 20) // bytes_per_token // 16 * 16
        assert (await engine.start("x")).length == 1


# ---- edits of more than the pool holds at once


@pytest.mark.parametrize(("at", "at_once"), [("sequence", 20), ("parallel", 2)])
async def test_edits_that_evict_each_other_take_turns(
    checkpoint: Path, open_local: Open, at: Placement, at_once: int
) -> None:
    """A parallel group is never evicted, so that the pool has to hold the groups that are there at once."""
    texts = [" the cat sat on the mat", " hello world to people"]
    async with open_local(checkpoint, kv_tokens=80, page_size=4, prefix_cache=False) as engine:
        found, limit = list[str](), anyio.Semaphore(at_once)

        async def splice(number: int) -> None:
            parent = await engine.start(f"{number} said ")
            forks = [await parent.extend(text) for text in texts]
            async with limit:
                found.append((await parent.splice(forks, at=at, mode="exact")).text)

        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for number in range(20):
                    group.start_soon(splice, number)
        assert sorted(found) == sorted(f"{number} said {''.join(texts)}" for number in range(20))
        assert settled(engine) == 0


async def test_an_edit_of_contexts_that_the_pool_cannot_hold_at_once_is_refused(
    checkpoint: Path, open_local: Open
) -> None:
    async with open_local(checkpoint, kv_tokens=40, page_size=4) as engine:
        context, other = [await engine._append(None, list(range(start, start + 24)), None) for start in (10, 50)]
        with anyio.fail_after(60):
            with pytest.raises(PoolError, match="release contexts"):
                await context.splice([other], at="sequence", mode="shift")
        assert (await context.generate(max_tokens=3)).usage.generated == 3
        del context, other
        assert settled(engine) == 0

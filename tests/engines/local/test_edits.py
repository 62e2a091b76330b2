"""Views and edits against one dense float64 forward of their structure (laws 2, 5 and 7).

A structure is written down as a list of tokens and groups; a group is a tuple of siblings, each a list again. What
stands where and who sees whom is worked out from it here, with nothing of the engine's.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.engines import Message, Sampling
from plait.engines.base import Mode, Placement
from plait.engines.local import LocalEngine
from plait.engines.local.context import LocalContext
from plait.errors import ContextError, ContextLengthError, PoolError
from plait.usage import Usage

pytestmark = pytest.mark.anyio
Open = Callable[..., LocalEngine]
Structure: TypeAlias = "list[int | tuple[Structure, ...]]"
MODES: tuple[Mode, ...] = ("exact", "shift")
EXACT = 1e-9


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


# ---- structures


@dataclass
class Flat:
    """A structure's tokens in view order, where each stands, and in which sibling of which groups."""

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    paths: list[tuple[tuple[int, int], ...]] = field(default_factory=list)

    def sees(self) -> torch.Tensor:
        """Causal, less all pairs between siblings of one group."""
        apart = [[_apart(mine, theirs) for theirs in self.paths] for mine in self.paths]
        return torch.ones(len(self.tokens), len(self.tokens)).tril().bool() & ~torch.tensor(apart).view(
            len(self.tokens), -1
        )


def flat(structure: Structure) -> Flat:
    found, numbers = Flat(), iter(range(10_000))

    def lay(part: Structure, position: int, path: tuple[tuple[int, int], ...]) -> int:
        for item in part:
            if isinstance(item, tuple):
                group = next(numbers)
                position = max(lay(s, position, (*path, (group, i))) for i, s in enumerate(item))
            else:
                found.tokens.append(item)
                found.positions.append(position)
                found.paths.append(path)
                position += 1
        return position

    lay(structure, 0, ())
    return found


def _apart(mine: Sequence[tuple[int, int]], theirs: Sequence[tuple[int, int]]) -> bool:
    there = dict(theirs)
    return any(there.get(group, sibling) != sibling for group, sibling in mine)


def size(structure: Structure) -> int:
    return len(flat(structure).tokens)


def cut_out(structure: Structure, start: int, stop: int) -> Structure:
    """Without the tokens [start, stop), counted in view order."""
    kept, seen = list[Any](), 0
    for item in structure:
        if isinstance(item, tuple):
            siblings = []
            for sibling in item:
                length = size(sibling)
                siblings.append(cut_out(sibling, start - seen, stop - seen))
                seen += length
            if any(siblings):
                kept.append(tuple(siblings))
        else:
            if not start <= seen < stop:
                kept.append(item)
            seen += 1
    return kept


def nodes(structure: Structure, seen: int = 0) -> Iterator[tuple[int, int]]:
    """Where each group and each sibling begins and ends, the whole included."""
    yield seen, seen + size(structure)
    for item in structure:
        if isinstance(item, tuple):
            yield seen, seen + sum(map(size, item))
            for sibling in item:
                yield from nodes(sibling, seen)
                seen += size(sibling)
        else:
            seen += 1


def crosses(structure: Structure, start: int, stop: int) -> bool:
    """Whether a cut takes a part of something and a part of what is around it."""
    inner = [set(range(*node)) for node in nodes(structure)]
    cut = set(range(start, stop))
    return any(cut & node and cut - node and node - cut for node in inner)


# ---- the engine beside the oracle


class Bench:
    """An engine and the oracle of its checkpoint."""

    def __init__(self, engine: LocalEngine, oracle: Any) -> None:
        self.engine = engine
        self.oracle = oracle

    async def start(self, *tokens: int) -> LocalContext:
        return await self.engine._append(None, tokens, None)

    async def extend(self, context: LocalContext, *tokens: int) -> LocalContext:
        return await self.engine._append(context, tokens, None)

    async def build(self, structure: Structure, context: LocalContext | None = None) -> LocalContext:
        """A context with the structure: extended token by run, forked and joined where groups stand."""
        context = context if context is not None else await self.start()
        for item in structure:
            if isinstance(item, tuple):
                siblings = [await self.build(sibling, context) for sibling in item]
                context = await context.splice(siblings, at="parallel", mode="exact")
            else:
                context = await self.extend(context, item)
        return context

    async def departure(self, context: LocalContext, structure: Structure) -> float:
        """How far the K/V that the context reads, and what it makes of them, are from the oracle's."""
        expected = flat(structure)
        assert context.tokens == expected.tokens
        if not expected.tokens:
            return 0.0
        if context.holding.ends_side_by_side:
            context, structure = await self.extend(context, 5), [*structure, 5]
            expected = flat(structure)
        score = await context.score(["x"])  # has all of it encoded
        logits, layers = self.oracle.run(expected.tokens, expected.positions, expected.sees())
        logits = logits[:, : self.engine.tokenizer.size]
        token = self.engine.tokenizer.encode_more("x")[0]
        worst = abs(score[0] - float(logits[-1].log_softmax(-1)[token]))
        spans = context.holding.view.spans
        stood = [span.position + i for span in spans for i in range(len(span))]
        assert stood == expected.positions
        rotations = [p - span.offset for span in spans for p in range(span.position, span.end)]
        slots = [slot for span in spans for slot in span.segment.slots(span.start, span.stop)]
        for index, (keys, values) in enumerate(layers):
            stored_keys = self.engine._loop._keys[index][:, slots].transpose(0, 1)
            stored_values = self.engine._loop._values[index][:, slots].transpose(0, 1)
            stored_keys = stored_keys.unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2)  # stored pair by pair
            worst = max(worst, float((stored_keys - self.oracle.rotated(keys, rotations)).abs().max()))
            worst = max(worst, float((stored_values - values).abs().max()))
        return worst


@pytest.fixture(scope="module")
def benches(
    tiny_checkpoint: Callable[..., Path], checkpoint: Path, open_local: Open, dense: Callable[[Path], Any]
) -> Callable[..., Bench]:
    """`benches(layers=…, **options)`: engine and oracle of a model so deep, opened once for each set of options."""
    paths, opened = {2: checkpoint}, dict[Any, Bench]()

    def make(layers: int = 2, **options: Any) -> Bench:
        key = (layers, *sorted(options.items()))
        if layers not in paths:
            paths[layers] = tiny_checkpoint("qwen3", num_hidden_layers=layers, vocab_size=352, eos_token_id=0)
            for name in ("tokenizer.json", "tokenizer_config.json"):
                (paths[layers] / name).write_bytes((checkpoint / name).read_bytes())
        if key not in opened:
            opened[key] = Bench(open_local(paths[layers], **options), dense(paths[layers]))
        return opened[key]

    return make


def run(function: Callable[[], Awaitable[None]]) -> None:
    """For properties: Hypothesis calls no coroutine functions."""
    anyio.run(function)


def words(count: int, seed: int = 0) -> list[int]:
    return random.Random(seed).choices(range(10, 320), k=count)


structures = st.recursive(
    st.lists(st.integers(10, 320), min_size=1, max_size=4),
    lambda inner: st.lists(
        st.one_of(st.integers(10, 320), st.lists(inner, min_size=1, max_size=3).map(tuple)), min_size=1, max_size=4
    ),
    max_leaves=8,
)


# ---- groups


@settings(max_examples=25, deadline=None)
@given(structure=structures)
def test_groups_are_one_dense_forward_with_siblings_masked(benches: Callable[..., Bench], structure: Structure) -> None:
    async def check() -> None:
        bench = benches(page_size=4)
        whole = await bench.build([7, *structure])
        assert await bench.departure(whole, [7, *structure]) < EXACT
        assert all(span.offset == 0 for span in whole.holding.view.spans), "nothing has moved"

    run(check)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
async def test_nested_groups_at_any_depth(benches: Callable[..., Bench], depth: int) -> None:
    structure: Structure = [40, 41]
    for level in range(depth):
        structure = [50 + level, (structure, [60 + level, 61], [70 + level]), 80 + level]
    bench = benches()
    assert await bench.departure(await bench.build(structure), structure) < EXACT
    plain = flat([*flat(structure).tokens])
    logits, _ = bench.oracle.run(plain.tokens, plain.positions, plain.sees())
    masked = flat(structure)
    theirs, _ = bench.oracle.run(masked.tokens, masked.positions, masked.sees())
    assert (logits[-1] - theirs[-1]).abs().max() > 0.1, "the oracle tells a group from a sequence"


async def test_changing_one_path_leaves_the_others_bit_identical(checkpoint: Path, open_local: Open) -> None:
    async def path_b(other: list[int]) -> tuple[list[torch.Tensor], float]:
        async with open_local(checkpoint) as engine:
            bench = Bench(engine, None)
            parent = await bench.start(*words(9))
            a, b = await bench.extend(parent, *other), await bench.extend(parent, *words(7, 2))
            await a.score(["x"])
            score = await b.score(["x"])
            joined = await parent.splice([a, b], at="parallel", mode="exact")
            slots = [slot for span in joined.holding.view.spans for slot in span.segment.slots(span.start, span.stop)]
            both = (*engine._loop._keys, *engine._loop._values)
            return [pool[:, slots[-7:]].clone() for pool in both], score[0]

    (one, score), (two, other_score) = await path_b(words(6, 3)), await path_b(words(6, 4))
    assert score == other_score
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(one, two, strict=True))


async def test_a_merge_and_a_fork_copy_nothing(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint, page_size=4) as engine:
        bench = Bench(engine, None)
        parent = await bench.start(*words(21))
        forks = [await bench.extend(parent, *words(10, seed)) for seed in range(3)]
        for fork in forks:
            await fork.score(["x"])
        before = engine.stats()
        joined = await parent.splice(forks, at="parallel", mode="exact")
        nested = await parent.splice([joined, *forks[:1]], at="parallel", mode="exact")
        after = engine.stats()
        assert (after.pages_used, after.encoded) == (before.pages_used, before.encoded)
        assert set(joined.holding.pages) == {page for fork in forks for page in fork.holding.pages}
        assert all(set(parent.holding.pages) <= set(fork.holding.pages) for fork in forks), "a fork reads its parent's"
        assert (joined.usage.recomputed, joined.usage.live, joined.usage.prompt) == (0, 0, 0)
        assert (len(joined.holding.view), joined.position) == (21 + 30, 21 + 10)
        assert (len(nested.holding.view), nested.position) == (21 + 40, 21 + 10)


async def test_nothing_is_read_off_a_group_that_no_token_has_seen(benches: Callable[..., Bench]) -> None:
    joined = await benches().build([7, ([8, 9], [10])])
    for use in (partial(joined.generate, max_tokens=1), partial(joined.score, ["x"])):
        with pytest.raises(ContextError, match=r"ends with a parallel group.*extend it"):
            await use()
    out = await (await joined.extend("x")).generate(max_tokens=3)
    assert len(out.context.holding.view.spans) == 4, "what follows is in no sibling's span"


# ---- prune


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_exact_prune_is_a_fresh_prefill_at_every_layer(
    benches: Callable[..., Bench], layers: int, data: st.DataObject
) -> None:
    count = data.draw(st.integers(2, 30))
    start, stop = sorted(data.draw(st.lists(st.integers(0, count), min_size=2, max_size=2)))

    async def check() -> None:
        bench, tokens = benches(layers), words(count, count)
        context = await bench.start(*tokens)
        await context.score(["x"])
        pruned = await context.prune(start, stop, mode="exact")
        kept = tokens[:start] + tokens[stop:]
        assert (pruned.length, pruned.position) == (len(kept), len(kept)), "positions are used again"
        if kept:
            assert await bench.departure(pruned, [*kept]) < EXACT
        assert await bench.departure(context, [*tokens]) < EXACT, "the context itself is as it was"

    run(check)


def cuts(structure: Structure) -> st.SearchStrategy[tuple[int, int]]:
    length = size(structure)
    return st.lists(st.integers(0, length), min_size=2, max_size=2).map(lambda ends: (min(ends), max(ends)))


@pytest.mark.parametrize(("mode", "layers"), [("exact", 2), ("shift", 1)])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_prune_before_inside_and_after_groups_is_the_dense_model_of_what_is_kept(
    benches: Callable[..., Bench], mode: Mode, layers: int, data: st.DataObject
) -> None:
    structure: Structure = [7, *data.draw(structures)]
    start, stop = data.draw(cuts(structure))

    async def check() -> None:
        bench = benches(layers)
        whole = await bench.build(structure)
        if crosses(structure, start, stop):
            with pytest.raises(ContextError, match="crosses the boundary"):
                await whole.prune(start, stop, mode=mode)
            return
        pruned = await whole.prune(start, stop, mode=mode)
        kept = cut_out(structure, start, stop)
        usage = pruned.usage
        assert (usage.pruned, usage.live, usage.prompt) == (stop - start, start - stop, 0)
        assert usage.recomputed <= size(kept)
        assert usage.recomputed == 0 or mode == "exact"
        if kept:
            assert await bench.departure(pruned, kept) < EXACT

    run(check)


async def test_plain_encoding_again_of_a_group_would_be_seen(benches: Callable[..., Bench]) -> None:
    bench, structure = benches(), [7, 8, 9, ([10, 11, 12], [13, 14]), 15]
    pruned = await (await bench.build(structure)).prune(1, 2, mode="exact")
    kept = cut_out(structure, 1, 2)
    assert await bench.departure(pruned, kept) < EXACT
    masked, plain = flat(kept), flat([*pruned.tokens])
    logits = [bench.oracle.run(f.tokens, f.positions, f.sees())[0][-1] for f in (masked, plain)]
    assert (logits[0] - logits[1]).abs().max() > 0.1


async def test_only_what_has_seen_the_cut_is_encoded_again(benches: Callable[..., Bench]) -> None:
    bench, structure = benches(), [7, ([8, 9, 10], [11, 12, 13, 14]), 15, 16]
    whole = await bench.build(structure)
    inside = await whole.prune(2, 3, mode="exact")
    assert inside.usage.recomputed == 3, "the sibling's token after the cut and the two after the group"
    assert inside.position == 1 + 4 + 2, "the other sibling is still the longest"
    other = await whole.prune(4, 7, mode="exact")
    assert (other.usage.recomputed, other.position) == (3, 1 + 3 + 2)
    assert await bench.departure(other, cut_out(structure, 4, 7)) < EXACT
    assert (await whole.prune(1, 8, mode="exact")).tokens == [7, 15, 16], "the whole group"


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_exact_prune_of_a_shifted_context_mends_it(benches: Callable[..., Bench], data: st.DataObject) -> None:
    structure: Structure = [7, 8, 9, *data.draw(structures), 10, 11]
    start, stop = data.draw(cuts(structure).filter(lambda cut: not crosses(structure, *cut)))

    async def check() -> None:
        bench = benches()
        shifted = await (await bench.build(structure)).prune(1, 2, mode="shift")
        kept = cut_out(structure, 1, 2)
        assert await bench.departure(shifted, kept) > 1e-6, "a shift is seen below the first layer"
        low, high = (max(0, at - (at > 1)) for at in (start, stop))
        if not crosses(kept, low, high) and size(cut_out(kept, low, high)):
            mended = await shifted.prune(low, high, mode="exact")
            assert await bench.departure(mended, cut_out(kept, low, high)) < EXACT

    run(check)


def buffered(lists: Sequence[tuple[int, int]], buffer: int) -> Iterator[tuple[int, int]]:
    """Prune calls for subtask lists given in the order in which they end, as token ranges of the unpruned trace: once
    more than `buffer` have ended, the earliest goes (TIM)."""
    gone: list[tuple[int, int]] = []

    def now(at: int) -> int:
        return at - len({token for start, stop in gone for token in range(start, min(stop, at))})

    for start, stop in lists[: max(len(lists) - buffer, 0)]:
        yield now(start), now(stop)
        gone.append((start, stop))


@pytest.mark.parametrize("mode", ["exact", "shift"])
@pytest.mark.parametrize("buffer", [0, 1, 2])
@pytest.mark.parametrize("nesting", [1, 2, 3, 4])
async def test_buffers_and_nesting_keep_the_spans_worked_out_by_hand(
    benches: Callable[..., Bench], mode: Mode, buffer: int, nesting: int
) -> None:
    """Lists inside each other end innermost first, so the outer ones stay; the trace: r 1 2 … 2' 1' a."""
    bench = benches()
    opens, closes = [[20 + k, 30 + k] for k in range(nesting)], [[40 + k] for k in range(nesting)]
    trace = [10, *chain(*opens), *chain(*reversed(closes)), 11]
    ends = [(1 + 2 * k, len(trace) - 1 - k) for k in reversed(range(nesting))]
    context = await bench.start(*trace)
    for start, stop in buffered(ends, buffer):
        context = await context.prune(start, stop, mode=mode)
    stays = min(buffer, nesting)
    kept = [10, *chain(*opens[:stays]), *chain(*reversed(closes[:stays])), 11]
    assert context.tokens == kept
    assert context.position == len(kept)
    spans = [(span.segment.tokens[span.start], len(span)) for span in context.holding.view.spans]
    if mode == "shift" and stays < nesting:
        assert spans == [(10, 1 + 2 * stays), (closes[stays - 1][0] if stays else 11, stays + 1)]
    assert (await bench.departure(context, [*kept]) < EXACT) == (mode == "exact" or stays == nesting)


async def test_one_after_the_other_a_buffer_keeps_the_latest(benches: Callable[..., Bench]) -> None:
    bench = benches()
    lists = [(1 + 3 * k, 4 + 3 * k) for k in range(4)]
    for buffer in (0, 1, 2):
        tokens = words(14)
        context = await bench.start(*tokens)
        for start, stop in buffered(lists, buffer):
            context = await context.prune(start, stop, mode="exact")
        assert context.tokens == [tokens[0], *tokens[13 - 3 * buffer :]]


async def test_differing_prune_points_in_one_batch_equal_solo_runs(checkpoint: Path, open_local: Open) -> None:
    async def one(engine: LocalEngine, number: int, found: dict[int, Any]) -> None:
        context = await engine._append(None, words(12 + 5 * number, number), None)
        for turn in range(3):
            out = await context.generate(max_tokens=4 + number, sampling=Sampling(1.0, seed=number))
            start = (number + turn) % 6
            context = await out.context.prune(start, start + 3 + turn, mode=MODES[(number + turn) % 2])
        found[number] = (context.tokens, await context.score(["x"]), context.usage.recomputed)

    solo, together = dict[int, Any](), dict[int, Any]()
    async with open_local(checkpoint, page_size=4) as engine:
        for number in range(6):
            await one(engine, number, solo)
    async with open_local(checkpoint, page_size=4) as engine:
        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(one, engine, number, together)
        engine.check_integrity()
    for number, (tokens, score, recomputed) in solo.items():
        assert together[number][0] == tokens
        assert together[number][1] == pytest.approx(score, abs=EXACT)
        assert together[number][2] == recomputed


async def test_pages_of_what_is_pruned_return_at_once(checkpoint: Path, open_local: Open) -> None:
    for mode in MODES:
        async with open_local(checkpoint, page_size=4, prefix_cache=False) as engine:
            context = await Bench(engine, None).start(*words(80))
            pruned = await context.prune(8, 72, mode=mode)
            context.release()
            engine.check_integrity()
            assert engine.stats().pages_used == (16 // 4 if mode == "shift" else -(-15 // 4))
            assert (await pruned.generate(max_tokens=2)).context.position == 18


async def test_out_of_window_pages_stay_so_that_a_prune_may_bring_them_back(
    tiny_checkpoint: Callable[..., Path], checkpoint: Path, open_local: Open, dense: Callable[[Path], Any]
) -> None:
    window = {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 0}
    modes: tuple[tuple[Mode, int], ...] = (("shift", 1), ("exact", 2))
    for mode, layers in modes:
        path = tiny_checkpoint("qwen3", num_hidden_layers=layers, vocab_size=352, eos_token_id=0, **window)
        (path / "tokenizer.json").write_bytes((checkpoint / "tokenizer.json").read_bytes())
        async with open_local(path, page_size=4, prefix_cache=False) as engine:
            tokens = words(30)
            context = await Bench(engine, None).start(*tokens)
            await context.score(["x"])
            assert engine.stats().pages_used == 8, "30 tokens, all of them kept"
            pruned, kept = await context.prune(4, 28, mode=mode), tokens[:4] + tokens[28:]
            score = await pruned.score(["x"])
            sees = torch.ones(6, 6).tril().triu(-5).bool()
            logits = dense(path).run(kept, range(6), sees)[0][-1, : engine.tokenizer.size]
            token = engine.tokenizer.encode_more("x")[0]
            assert score[0] == pytest.approx(float(logits.log_softmax(-1)[token]), abs=EXACT)


# ---- splice


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_exact_splice_of_contexts_forked_anywhere_is_the_dense_model(
    benches: Callable[..., Bench], data: st.DataObject
) -> None:
    grown = data.draw(st.booleans())
    at = data.draw(st.sampled_from(["sequence", "parallel"]))
    parts: list[Structure] = data.draw(st.lists(structures, min_size=1, max_size=3))

    async def check() -> None:
        bench = benches()
        base: Structure = [7, 8, 9]
        parent = await bench.build(base)
        others = [await bench.build(part, parent) for part in parts]
        if grown:
            base = [*base, 20, 21]
            parent = await bench.extend(parent, 20, 21)
        joined = await parent.splice([*others, others[0]], at=at, mode="exact")
        own = [*parts, parts[0]]
        expected = [*base, tuple(own)] if at == "parallel" else [*base, *chain(*own)]
        usage, count = joined.usage, sum(map(size, own))
        assert usage.live == usage.prompt == usage.recomputed + usage.cached
        assert usage.recomputed <= count
        if grown:
            assert usage.recomputed + usage.cached == count
        if at == "parallel" and not grown:
            assert usage.recomputed == 0, "nothing moves"
        assert await bench.departure(joined, expected) < EXACT

    run(check)


async def test_joining_takes_the_spawn_text_out_and_the_results_in(benches: Callable[..., Bench]) -> None:
    """APR: the parent after a join is a fresh prefill of the rewritten parent; the children see their messages only."""
    bench = benches()
    asked = await bench.start(*words(8, 1))
    spawn = await bench.extend(asked, *words(6, 2))
    children = [await bench.start(*words(5, seed)) for seed in (3, 3, 4)]
    before = [await child.score(["x", " the"]) for child in children]
    done = [(await child.generate(max_tokens=4)).context for child in children]
    kept = await spawn.prune(asked.length, spawn.length, mode="exact")
    assert kept.usage.recomputed == 0
    joined = await kept.splice(done, at="sequence", mode="exact")
    results = [token for child in done for token in child.tokens]
    assert joined.tokens == asked.tokens + results, "children with one message have a slot each"
    assert await bench.departure(joined, [*joined.tokens]) < EXACT
    said = await bench.extend(kept, *results)
    assert await said.score(["x"]) == pytest.approx(await joined.score(["x"]), abs=EXACT)
    await bench.extend(spawn, *words(30, 5))
    again = [await bench.start(*words(5, seed)) for seed in (3, 3, 4)]
    assert [await child.score(["x", " the"]) for child in again] == before, "whatever else the parent says"


async def test_a_splice_does_not_depend_on_what_the_pool_kept(checkpoint: Path, open_local: Open) -> None:
    small = {"kv_tokens": 56, "page_size": 4}
    for options in ({}, small, {"prefix_cache": False, **small}):
        async with open_local(checkpoint, **options) as engine:
            bench = Bench(engine, None)
            parent = await bench.start(*words(11, 1))
            child = await bench.extend(parent, *words(9, 2))
            twin = await bench.start(*words(11, 1), 50)
            pressing = await bench.start(*words(40, 3))
            joined = await parent.splice([child, twin], at="sequence", mode="exact")
            assert joined.tokens == [*parent.tokens, *words(9, 2), *twin.tokens], "a twin comes in as a whole"
            both = await parent.splice([child, child], at="parallel", mode="exact")
            assert (both.length, both.position) == (11 + 18, 11 + 9)
            assert pressing.length == 40
            if options:
                assert engine.stats().evicted


@pytest.mark.parametrize("at", ["sequence", "parallel"])
async def test_a_splice_of_nothing_keeps_all_and_mends_what_is_shifted(
    checkpoint: Path, open_local: Open, at: Placement
) -> None:
    async with open_local(checkpoint) as engine:
        shifted = await (await Bench(engine, None).start(*words(11, 1))).prune(2, 5, mode="shift")
        fresh = await Bench(engine, None).start(*shifted.tokens)
        for others in ([], [shifted]):
            spliced = await shifted.splice(others, at=at, mode="exact")
            assert spliced.tokens == shifted.tokens
            more = await spliced.extend(" the")
            assert await more.score([" cat"]) == pytest.approx(await (await fresh.extend(" the")).score([" cat"]))


# ---- errors


async def test_ranges_and_contexts_that_do_not_fit_are_refused_by_name(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint) as engine, open_local(checkpoint) as other:
        bench = Bench(engine, None)
        structure: Structure = [7, 8, ([9, 10], [11, 12]), 13]
        context, foreign = await bench.build(structure), await other.start("x")
        pages = engine.stats().pages_used
        for mode in MODES:
            for start, stop in ((-1, 2), (3, 2), (0, 8), (9, 9)):
                with pytest.raises(ContextError, match="does not fit a context of 7 tokens"):
                    await context.prune(start, stop, mode=mode)
            for start, stop in ((1, 3), (3, 5), (5, 7), (2, 5), (0, 6 - 1)):
                with pytest.raises(ContextError, match=r"holds the tokens [24] to [46]"):
                    await context.prune(start, stop, mode=mode)
            with pytest.raises(ContextError, match="another engine"):
                await context.splice([foreign], at="parallel", mode=mode)
        gone = await bench.extend(context, 14)
        gone.release()
        with pytest.raises(ContextError, match="was released"):
            await context.splice([gone], at="parallel", mode="exact")
        long = await bench.start(*words(engine.capabilities.window))
        with pytest.raises(ContextLengthError, match=r"do not fit the window"):
            await context.splice([long], at="sequence", mode="exact")
        del long
        engine.check_integrity()
        assert (await context.prune(2, 4, mode="exact")).tokens == [7, 8, 11, 12, 13]
        assert engine.stats().pages_used >= pages


async def test_a_context_may_be_released_while_it_is_edited(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint) as engine:
        context = await Bench(engine, None).start(*words(40))
        found = []

        async def prune() -> None:
            found.append((await context.prune(3, 30, mode="exact")).tokens)

        async with anyio.create_task_group() as group:
            group.start_soon(prune)
            await anyio.lowlevel.checkpoint()
            await engine.start("x")
            context.release()
        assert found == [words(40)[:3] + words(40)[30:]]


async def test_a_conversation_goes_on_after_a_prune(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint) as engine:
        context = await engine.start([Message("user", "hello hello hello")])
        said = await context.extend("yes")
        pruned = await said.prune(2, 5, mode="exact")
        went_on = await pruned.extend([Message("user", "so")])
        assert went_on.conversation is not None
        assert [message.content for message in went_on.conversation.messages] == ["hello hello hello", "yes", "so"]


# ---- under pressure


async def test_edits_that_do_not_fit_together_take_turns(checkpoint: Path, open_local: Open) -> None:
    async def one(engine: LocalEngine, number: int, found: dict[int, Any]) -> None:
        bench, mode = Bench(engine, None), MODES[number % 2]
        parent, other = await bench.start(*words(17, number)), await bench.start(*words(15, 50 + number))
        joined = await parent.splice([other], at="sequence", mode="exact")
        pruned = await joined.prune(3, 9 + number, mode=mode)
        found[number] = (pruned.tokens, await pruned.score(["x"]))

    solo, together = dict[int, Any](), dict[int, Any]()
    async with open_local(checkpoint) as engine:
        for number in range(6):
            await one(engine, number, solo)
    async with open_local(checkpoint, kv_tokens=120, page_size=4) as engine:
        with anyio.fail_after(120):
            async with anyio.create_task_group() as group:
                for number in range(6):
                    group.start_soon(one, engine, number, together)
        engine.check_integrity()
        assert engine.stats().evicted
    for number, (tokens, score) in solo.items():
        assert together[number] == (tokens, pytest.approx(score, abs=EXACT))


async def test_an_edit_larger_than_the_pool_is_refused_and_the_engine_goes_on(
    checkpoint: Path, open_local: Open
) -> None:
    async with open_local(checkpoint, kv_tokens=40, page_size=4) as engine:
        bench = Bench(engine, None)
        one, other = await bench.start(*words(24, 1)), await bench.start(*words(24, 2))
        with anyio.fail_after(120):
            for mode in MODES:
                with pytest.raises(PoolError, match="more kv_memory"):
                    await one.splice([other], at="sequence", mode=mode)
        engine.check_integrity()
        assert len((await one.generate(max_tokens=3)).tokens) == 3


# ---- everything, in any order


class Thread:
    """A context, its structure, and the bill of all that made it."""

    def __init__(self, context: LocalContext, structure: Structure, usage: Usage) -> None:
        self.context, self.structure, self.usage = context, structure, usage

    def on(self, context: LocalContext, structure: Structure) -> Thread:
        return Thread(context, structure, self.usage + context.usage)


async def edited(bench: Bench, thread: Thread, data: st.DataObject) -> Thread:
    """After one operation, drawn at random."""
    context, structure = thread.context, thread.structure
    kind = data.draw(st.sampled_from(["extend", "generate", "prune", "shift", "sequence", "parallel"]))
    if kind == "generate" and context.length and not context.holding.ends_side_by_side:
        out = await context.generate(max_tokens=data.draw(st.integers(0, 3)), sampling=Sampling(1.0))
        return Thread(out.context, [*structure, *out.tokens], thread.usage + out.usage)
    if kind in ("prune", "shift"):
        start, stop = data.draw(cuts(structure))
        if not crosses(structure, start, stop):
            steps: tuple[Mode, ...] = ("shift", "exact") if kind == "shift" else ("exact",)
            made = thread.on(await context.prune(start, stop, mode=steps[0]), cut_out(structure, start, stop))
            if kind == "shift":  # mended again, so that the oracle can tell what it must hold
                made = made.on(await made.context.prune(0, 0, mode="exact"), made.structure)
            return made
    if kind in ("sequence", "parallel"):
        parts = data.draw(st.lists(structures, min_size=1, max_size=2))
        others = [await bench.build(part, context) for part in parts]
        at = "parallel" if kind == "parallel" else "sequence"
        joined = await context.splice(others, at=at, mode="exact")
        return thread.on(joined, [*structure, tuple(parts)] if kind == "parallel" else [*structure, *chain(*parts)])
    tokens = data.draw(st.lists(st.integers(10, 320), min_size=1, max_size=3))
    return thread.on(await bench.extend(context, *tokens), [*structure, *tokens])


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_sequence_of_edits_is_the_dense_model_of_its_structure(
    benches: Callable[..., Bench], data: st.DataObject
) -> None:
    async def check() -> None:
        bench = benches(page_size=data.draw(st.sampled_from([1, 4])))
        start = await bench.start(7, 8)
        thread = Thread(start, [7, 8], start.usage)
        for _ in range(data.draw(st.integers(1, 6))):
            thread = await edited(bench, thread, data)
            usage = thread.usage
            assert usage.live + usage.pruned == usage.prompt + usage.generated
        assert await bench.departure(thread.context, thread.structure) < EXACT
        bench.engine.check_integrity()

    run(check)


@pytest.mark.long
@settings(max_examples=600, deadline=None)
@given(data=st.data())
def test_many_sequences_of_edits_are_dense_models(benches: Callable[..., Bench], data: st.DataObject) -> None:
    test_any_sequence_of_edits_is_the_dense_model_of_its_structure.hypothesis.inner_test(benches, data)  # type: ignore[attr-defined]


async def test_each_token_is_encoded_once_but_for_what_was_recomputed(checkpoint: Path, open_local: Open) -> None:
    """Law 7, over all that a tree of threads with edits has asked for."""
    async with open_local(checkpoint, prefix_cache=False) as engine:
        bench, usage = Bench(engine, None), Usage()
        parent = await bench.start(*words(12))
        outs = [await parent.generate(max_tokens=5, sampling=Sampling(1.0, seed=seed)) for seed in range(3)]
        joined = await parent.splice([out.context for out in outs], at="parallel", mode="exact")
        closed = await bench.extend(joined, 14, 15)
        inside = await closed.prune(13, 15, mode="exact")
        before = await inside.prune(3, 5, mode="exact")
        last = await before.generate(max_tokens=4)
        made = [parent, *outs, joined, closed, inside, before, last]
        usage = sum((part.usage for part in made), Usage())
        await last.context.score(["x"])
        kept_back = [engine_context for engine_context in (closed, inside) if engine_context.holding.pending]
        expected = usage.prefilled + usage.generated + usage.recomputed - len(kept_back)
        assert engine.stats().encoded == expected
        assert usage.recomputed == inside.usage.recomputed + before.usage.recomputed > 0

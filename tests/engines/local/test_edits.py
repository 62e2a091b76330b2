"""Views and edits against one dense float64 forward of their structure (laws 2, 5 and 7).

A structure is written down as a list of tokens and groups; a group is a tuple of siblings, each a list again. What
stands where and who sees whom is worked out from it here, with nothing of the engine's.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.engines.local import LocalEngine
from plait.engines.local.context import LocalContext

pytestmark = pytest.mark.anyio
Open = Callable[..., LocalEngine]
Structure: TypeAlias = "list[int | tuple[Structure, ...]]"
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

    async def settle(self, context: LocalContext) -> None:
        if not context.holding.ends_side_by_side:
            await context.score(["x"])

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


NESTED: Structure = [11, 12, ([13, ([14], [15, 16, ([17, 18], [19]), 20]), 21], [22, 23, 24]), 25, ([26], [27, 28]), 29]


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

"""The prefix cache: what begins alike is encoded once, outputs are the same, and pages in use are never given up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.engines import Sampling
from plait.engines.local import LocalEngine
from plait.engines.local.cache import PrefixCache
from plait.engines.local.context import LocalContext
from plait.engines.local.pages import PagePool
from plait.engines.local.segment import Segment
from plait.engines.local.structure import joined_by, without
from plait.engines.local.view import Span, View

pytestmark = pytest.mark.anyio
Open = Callable[..., LocalEngine]
PAGE = 4
PROMPT = "the cat sat on the mat and said hello world to people; user thought the cat said"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


# ---- the tree


class Storage:
    """Views encoded anew, whose pages this holds until they are dropped."""

    def __init__(self, pages: int = 200) -> None:
        self.pool = PagePool(pages, PAGE)
        self.cache = PrefixCache(self.pool)

    def encoded(self, tokens: list[int], after: View = View()) -> View:  # noqa: B008
        segment = Segment(after.next, PAGE)
        segment.add_pages(self.pool.take(self.pool.pages_for(len(tokens))))
        segment.append(tokens)
        self.pool.hold(after.pages())
        return after.append(Span(segment, 0, len(tokens), after.next))

    def kept(self, tokens: list[int], after: View = View(), salt: bytes = b"") -> View:  # noqa: B008
        """Encoded, kept in the cache, and dropped by whoever encoded it."""
        view = self.encoded(tokens, after)
        self.cache.add(view, salt)
        self.drop(view)
        return view

    def drop(self, view: View) -> None:
        self.pool.drop(view.pages())


def test_the_longest_beginning_is_found_to_the_token() -> None:
    storage = Storage()
    long = storage.kept(list(range(11)))
    for count in range(12):
        found = storage.cache.find([*range(count), 99, 98])
        assert found.tokens == list(range(count))
        assert found.spans == long.cut(count)[0].spans, "it is the same storage"
        assert found.exact
    assert storage.cache.find([7, 8]).tokens == []


def test_salts_do_not_see_each_other() -> None:
    storage = Storage()
    storage.kept([1, 2, 3, 4, 5], salt=b"one adapter")
    assert storage.cache.find([1, 2, 3, 4, 5]).tokens == []
    assert len(storage.cache.find([1, 2, 3, 4, 5], b"one adapter")) == 5


def test_only_what_equals_a_fresh_prefill_is_kept() -> None:
    storage = Storage()
    view = storage.encoded(list(range(12)))
    storage.cache.add(without(view, 2, 4))
    assert storage.cache.find([0, 1, *range(4, 12)]).tokens == []
    branch = View().append(*view.cut(8)[0].spans)
    storage.cache.add(joined_by(branch, [view.cut(8)[1], view.cut(8)[1]], [True, True]))
    assert storage.cache.find(list(range(12))).tokens == []


def test_what_was_used_longest_ago_is_given_up_first_and_from_its_end() -> None:
    storage = Storage()
    for first in (0, 100, 200):
        storage.kept(list(range(first, first + 12)))
    storage.cache.find(list(range(12)))
    assert storage.cache.evict(2)
    assert [len(storage.cache.find(list(range(first, first + 12)))) for first in (0, 100, 200)] == [12, 4, 12]
    assert storage.cache.evict(100)
    assert storage.pool.free == storage.pool.pages
    assert not storage.cache.evict(1)
    assert storage.cache.evicted == 9


def test_pages_in_use_are_not_given_up() -> None:
    storage = Storage()
    view = storage.encoded(list(range(10)))
    storage.cache.add(view)
    storage.kept(list(range(50, 58)))
    assert storage.cache.evict(100)
    assert storage.cache.find(view.tokens) == view
    assert storage.pool.cached == 0
    storage.cache.clear()
    assert storage.pool.used == 3, "only what is in use"


def test_the_beginning_of_a_longer_view_is_kept_once() -> None:
    storage = Storage()
    short = storage.kept(list(range(6)))
    long = storage.kept([6, 7, 8, 9], after=storage.cache.find(list(range(6))))
    assert storage.cache.find(list(range(10))) == long
    assert [len(pages) for pages in storage.cache.holds()] == [1, 2, 1], "blocks of 4, 4 and 2 tokens"
    assert long.cut(6)[0].spans == short.cut(6)[0].spans


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_history_finds_what_a_list_of_texts_finds(data: st.DataObject) -> None:
    storage = Storage(60)
    known = list[list[int]]()
    texts = st.lists(st.integers(0, 1), max_size=14)
    for _ in range(12):
        tokens = data.draw(texts)
        found = storage.cache.find(tokens)
        assert found.tokens == tokens[: len(found)]
        best = max((_alike(tokens, text) for text in known), default=0)
        assert len(found) == best
        storage.kept(tokens[len(found) :], after=found)
        known.append(tokens)
        if data.draw(st.booleans()) and storage.cache.evict(data.draw(st.integers(1, 3))):
            known = [storage.cache.find(text).tokens for text in known]
        storage.pool.check_integrity([], storage.cache.holds())
        assert storage.pool.used == storage.pool.cached
    assert storage.cache.evict(60) == any(known)
    assert storage.pool.free == 60


def _alike(left: list[int], right: list[int]) -> int:
    pairs = zip(left, right, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))


# ---- the engine


async def test_a_prompt_is_encoded_once_and_the_outputs_are_the_same(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint, page_size=PAGE) as engine, open_local(checkpoint, prefix_cache=False) as plain:
        outs = []
        for opened in (plain, engine, engine):
            before = opened.stats().encoded
            context = await opened.start(PROMPT)
            encoded = opened.stats().encoded - before
            usage = context.usage
            assert usage.cached + usage.prefilled == usage.prompt == context.length
            assert encoded == usage.prefilled - 1, "the last token is pending"
            outs.append((await context.score([" mat", "x"]), (await context.generate(max_tokens=20)).tokens))
        assert usage.cached == context.length - 1
        assert outs[1][0] == pytest.approx(outs[0][0], abs=1e-9)
        assert outs[2][0] == pytest.approx(outs[0][0], abs=1e-9)
        assert outs[0][1] == outs[1][1] == outs[2][1]
        assert (engine.stats().tokens_found, plain.stats().tokens_found) == (context.length - 1, 0)
        engine.check_integrity()


async def test_a_find_below_the_least_is_not_taken(checkpoint: Path, open_local: Open) -> None:
    """Neither from the cache nor by waiting for another that encodes it."""
    for least, taken in ((40, False), (8, True)):
        async with open_local(checkpoint, page_size=PAGE, prefix_least=least) as engine:
            first = await engine.start(PROMPT)
            assert 8 < first.length <= 40
            again = await engine.start(PROMPT)
            assert bool(again.usage.cached) is taken
            async with anyio.create_task_group() as group:
                for _ in range(2):
                    group.start_soon(engine.start, "people said " + PROMPT)
            assert bool(engine.stats().tokens_found) is taken
            engine.check_integrity()


async def test_what_was_generated_is_found_when_it_comes_back_as_a_prompt(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint, page_size=PAGE) as engine:
        out = await (await engine.start("the cat")).generate(max_tokens=30)
        text = out.context.text
        tokens = out.context.tokens
        out.context.release()
        again = await engine._append(None, [*tokens, 5, 6], None)
        assert again.usage.cached == len(tokens) - 1
        assert again.text.startswith(text)
        engine.check_integrity()


async def test_a_context_in_use_is_a_source_too_and_a_turn_finds_its_own(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint, page_size=PAGE) as engine:
        parent = await engine.start(PROMPT)
        first = await parent.extend(" hello world to people and said")
        used = engine.stats().pages_used
        second = await parent.extend(" hello world to people and the cat")
        assert 0 < second.usage.cached < second.length - parent.length
        assert second.text.startswith(first.text[:-4])
        assert engine.stats().pages_used <= used + 3
        engine.check_integrity()


@pytest.mark.parametrize("step_tokens", [512, 7])
async def test_prompts_that_come_at_once_are_encoded_once(checkpoint: Path, open_local: Open, step_tokens: int) -> None:
    ends = ["", " and the cat", " and the world", " user"]
    contexts = dict[int, LocalContext]()

    async def start(number: int) -> None:
        contexts[number] = await engine.start(PROMPT + ends[number % len(ends)])

    async with open_local(checkpoint, page_size=PAGE, step_tokens=step_tokens) as engine:
        async with anyio.create_task_group() as group:
            for number in range(16):
                group.start_soon(start, number)
        assert engine.stats().encoded < len(engine.tokenizer.encode(PROMPT)) + 16 * 2 * PAGE
        assert engine.stats().encoded == sum(context.usage.prefilled - 1 for context in contexts.values())
        assert all(context.text == PROMPT + ends[number % len(ends)] for number, context in contexts.items())
        contexts.clear()
        engine.check_integrity()


async def test_exact_edits_find_what_is_there_and_count_it(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint, page_size=PAGE) as engine:
        context = await engine.start(PROMPT)
        first, second = [await context.prune(2, 6, mode="exact") for _ in range(2)]
        assert first.tokens == second.tokens
        assert (first.usage.recomputed, first.usage.cached) == (first.length - 2, 0)
        assert (second.usage.recomputed, second.usage.cached) == (1, first.length - 3)
        assert await first.score([" x"]) == pytest.approx(await second.score([" x"]), abs=1e-9)


async def test_shifted_and_joined_contexts_are_never_taken_for_plain_ones(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint, page_size=PAGE) as engine:
        context = await engine.start(PROMPT)
        shifted = await (await context.prune(2, 6, mode="shift")).extend(" hello world to people")
        plain = await engine._append(None, shifted.tokens, None)
        assert plain.usage.cached <= 3, "what stands before the cut, if it is worth it"
        forks = [await context.extend(text) for text in (" hello world to", " people thought")]
        joined = await (await context.splice(forks, at="parallel", mode="exact")).extend(" the mat and said")
        again = await engine._append(None, joined.tokens, None)
        assert again.usage.cached < context.length + len(engine.tokenizer.encode_more(" hello world to people"))
        assert (await joined.extend(" the mat and said")).usage.cached == 0
        engine.check_integrity()


async def test_an_evicted_context_is_encoded_again_only_where_its_pages_were_needed(
    checkpoint: Path, open_local: Open
) -> None:
    async with open_local(checkpoint, page_size=PAGE, kv_tokens=100) as engine:
        contexts = [await engine._append(None, [first, *range(10, 70)], None) for first in (3, 4)]
        stats = engine.stats()
        assert (stats.evicted, stats.pages_cached) == (1, 9), "25 pages, 15 for each"
        out = await contexts[0].generate(max_tokens=1)
        assert (out.usage.recomputed, out.usage.cached) == (60 - 9 * PAGE, 0)
        assert contexts[0].tokens == [3, *range(10, 70)]
        engine.check_integrity()


async def test_dropping_the_cache_frees_what_nobody_uses(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint, page_size=PAGE) as engine:
        context = await engine.start(PROMPT)
        kept = await engine.start("x y z x y z")
        context.release()
        engine.check_integrity()
        assert engine.stats().pages_cached > 0
        engine.drop_cache()
        stats = engine.stats()
        assert (stats.pages_cached, stats.pages_used) == (0, len(kept.holding.pages))
        assert (await engine.start(PROMPT)).usage.cached == 0
        assert (await kept.generate(max_tokens=3)).usage.generated == 3
        engine.check_integrity()


async def test_a_request_that_fits_without_the_cache_fits_with_it(checkpoint: Path, open_local: Open) -> None:
    """Begun from what was found, it would need the half-empty pages of others beside its own."""
    for found in range(PAGE, 3 * PAGE):
        async with open_local(checkpoint, page_size=PAGE, kv_tokens=6 * PAGE) as engine:
            await engine._append(None, list(range(10, 12 + found)), None)
            tokens = [*range(10, 10 + found), *range(50, 50 + 6 * PAGE - found)]
            context = await engine._append(None, tokens, None)
            assert context.length == 6 * PAGE
            out = await context.generate(max_tokens=1, sampling=Sampling(1.0))
            assert out.usage.generated == 1
            engine.check_integrity()

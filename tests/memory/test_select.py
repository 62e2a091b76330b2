"""Selection: by words, by meaning, by both; the rarest words decide, and vectors follow every change."""

from collections.abc import AsyncIterator

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.engines import Engine, open_engine
from plait.engines.scripted import ScriptedEngine
from plait.errors import CapabilityError
from plait.memory import Concept, Lesson, Memory, Selector
from plait.memory.select import fuse

pytestmark = pytest.mark.anyio

CAPITALS = Lesson(situation="capital of France", suggestion="look up the capital of France")
POPULATION = Lesson(situation="population of Peru", suggestion="look up the population of Peru")
AREA = Concept(name="area of Chile", kind="routine", description="look up the area of Chile")


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with open_engine("local") as engine:
        yield engine


async def test_meaning_is_the_nearest_direction_and_nothing_is_missed(engine: Engine) -> None:
    with Memory(":memory:") as memory:
        memory.add([CAPITALS, POPULATION, AREA], what="three")
        selector = Selector(memory, engine)
        for entry in (CAPITALS, POPULATION, AREA):
            assert (await selector.select(entry.text, top=1, by="meaning")) == [entry]
        vectors = {item: numpy.frombuffer(row, numpy.float32) for item, row in memory.vectors(engine.name)}
        asked = numpy.asarray(await (await engine.start("area of Peru")).embed())
        nearest = sorted(vectors, key=lambda item: -float(vectors[item] @ asked))
        assert await selector.select("area of Peru", by="meaning") == memory.take(nearest)


async def test_both_ranks_first_what_both_lists_have(engine: Engine) -> None:
    with Memory(":memory:") as memory:
        memory.add([CAPITALS, POPULATION, AREA], what="three")
        found = await Selector(memory, engine).select("population of Peru")
        assert found[0] == POPULATION
        assert len(found) == 3


async def test_vectors_follow_every_change(engine: Engine) -> None:
    with Memory(":memory:") as memory:
        selector = Selector(memory, engine)
        assert await selector.select("area of Chile") == []
        memory.add([CAPITALS, AREA], what="two")
        assert await selector.embed() == 2
        assert await selector.select("area of Chile", top=1, by="meaning") == [AREA]
        memory.add([Concept(name="area of Chile", cues=("how large",))], what="more")
        assert await selector.embed() == 1
        [changed] = await selector.select("area of Chile", top=1, by="meaning")
        assert changed == memory.concept("area of Chile")
        memory.undo()
        memory.undo()
        assert await selector.select("area of Chile") == []
        assert memory.vectors(engine.name) == []


async def test_an_engine_without_embeddings_is_refused() -> None:
    with Memory(":memory:") as memory, pytest.raises(CapabilityError, match="embeds nothing"):
        Selector(memory, ScriptedEngine([]))


def test_common_words_are_left_out_where_rare_ones_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    with Memory(":memory:") as memory:
        memory.add([Lesson(situation=f"grid {number}", suggestion="common") for number in range(20)], what="twenty")
        memory.add([Lesson(situation="grid alone", suggestion="rare")], what="one")
        monkeypatch.setattr("plait.memory.store.SEARCHED", 5)
        assert [entry.text for entry in memory.search("common grids, rare", 5)] == ["grid alone\nrare"]
        assert len(memory.search("grids", 50)) == 21


@given(st.lists(st.lists(st.integers(0, 9), unique=True), max_size=4))
def test_fused_rankings_hold_each_item_once_and_keep_a_single_order(rankings: list[list[int]]) -> None:
    fused = fuse(rankings)
    assert sorted(fused) == sorted({item for ranking in rankings for item in ranking})
    if rankings:
        assert fuse([rankings[0]]) == rankings[0]
        assert fuse([rankings[0]] * 3) == rankings[0]

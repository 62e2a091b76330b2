"""Vectors of texts by an engine, and search by meaning with them."""

from __future__ import annotations

from pathlib import Path

import pytest

import plait
from plait.engines.scripted import ScriptedEngine
from plait.errors import CapabilityError
from plait.recipes import embed_by
from plait.tools import file_search

pytestmark = pytest.mark.anyio


def by_topic(text: str, pooling: str) -> list[float]:
    return [1.0, 0.0] if any(word in text for word in ("dog", "puppy")) else [0.0, 1.0]


async def test_meaning_finds_what_words_do_not(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("A puppy sleeps.")
    (tmp_path / "b.txt").write_text("Shares fell.")
    engine = ScriptedEngine([], embed=by_topic)
    search = file_search(tmp_path, embed=embed_by(engine))
    assert (await search(query="dog"))[0].file == "a.txt"
    assert engine.held == 0


async def test_the_embedded_model_makes_vectors() -> None:
    async with plait.open_engine("local") as engine:
        one, same, other = await embed_by(engine)(["people of Peru", "people of Peru", ""])
    assert one == pytest.approx(same, rel=1e-4, abs=1e-5)
    assert len(one) == len(other)
    assert one != other


async def test_an_engine_that_can_not_is_named() -> None:
    with pytest.raises(CapabilityError, match="'scripted' has no 'embed'"):
        embed_by(ScriptedEngine([]))

"""File search: passages are found by words and by meaning, and follow the files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.errors import InputError
from plait.tools.files import PASSAGE, FileIndex, file_search, passages

pytestmark = pytest.mark.anyio


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rivers.md").write_text("# Rivers\n\nThe Amazon flows through Peru and Brazil.\n")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "lakes.txt").write_text("Titicaca is a lake of Peru and Bolivia.\n")
    (tmp_path / "image.png").write_text("Peru")
    return tmp_path


async def test_words_find_passages_with_file_and_line(folder: Path) -> None:
    search = file_search(folder)
    assert [(found.file, found.line) for found in await search("rivers through Brazil?")] == [("rivers.md", 1)]
    both = await search.invoke({"query": "Peru", "limit": 5})
    assert {found.file for found in both} == {"rivers.md", "deep/lakes.txt"}
    assert await search("Peru", 1) == both[:1]
    assert await search('"* OR ( NEAR') == []


async def test_changed_new_and_removed_files_are_followed(folder: Path) -> None:
    index = FileIndex(folder, (".md", ".txt"))
    assert len(await index.search("Peru", 9)) == 2
    (folder / "rivers.md").write_text("The Orinoco flows elsewhere, and this text is longer than it was.\n")
    (folder / "deep" / "lakes.txt").unlink()
    (folder / "new.txt").write_text("Lima is in Peru.\n")
    assert [found.file for found in await index.search("Peru", 9)] == ["new.txt"]


async def test_links_that_lead_out_are_not_followed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret.txt"
    outside.write_text("Peru keeps a secret.\n")
    (folder / "link.txt").symlink_to(outside)
    assert "link.txt" not in {found.file for found in await file_search(folder)("Peru", 9)}


async def test_meaning_finds_what_words_do_not(folder: Path) -> None:
    asked: list[str] = []

    async def embed(texts: Sequence[str]) -> list[list[float]]:
        asked.extend(texts)
        return [[1.0, 0.0] if "lake" in text or "pond" in text else [0.0, 1.0] for text in texts]

    index = FileIndex(folder, (".md", ".txt"), embed)
    assert [found.file for found in await index.search("pond", 1)] == ["deep/lakes.txt"]
    await index.search("pond", 1)
    assert asked.count("pond") == 2
    assert len(asked) == 4  # each passage once


async def test_a_file_that_changes_while_another_search_waits_is_left_out(folder: Path) -> None:
    async def embed(texts: Sequence[str]) -> list[list[float]]:
        if "first" in texts[0]:
            (folder / "deep" / "lakes.txt").unlink()
            await index.search("second", 9)
        return [[1.0] for _ in texts]

    index = FileIndex(folder, (".md", ".txt"), embed)
    assert [found.file for found in await index.search("first Peru", 9)] == ["rivers.md"]
    assert [found.file for found in await index.search("Peru", 9)] == ["rivers.md"]


def test_a_folder_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="no folder /nowhere"):
        file_search("/nowhere")


@given(st.lists(st.text(alphabet="ab \n", max_size=PASSAGE), max_size=8))
def test_passages_hold_every_word_and_say_where(parts: list[str]) -> None:
    text = "\n".join(parts)
    lines = text.splitlines()
    found = list(passages(text))
    assert " ".join(passage for _, passage in found).split() == text.split()
    assert all(lines[line - 1] == passage.splitlines()[0] for line, passage in found)

"""Parallel blocks: pieces of any size read alike, faults and refusals have places, nothing hangs."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.errors import BlockError
from plait.recipes.blocks import BlockCount, Blocks, Outline, check_blocks

WORDS = st.text(alphabet="ab1 .:<>/\n", max_size=8)


@dataclass
class Path:
    """What a path holds: words, and blocks between them."""

    words: str
    blocks: list[Block] = field(default_factory=list)


@dataclass
class Block:
    goal: str
    paths: list[Path]
    conclusion: str

    def write(self, prefix: str = "") -> str:
        outlines = "".join(f"<Outline>{prefix}{i}: do {i}</Outline>" for i in range(1, len(self.paths) + 1))
        paths = "".join(
            f"\n<Path>{prefix}{i}:{path.words}{''.join(block.write(f'{prefix}{i}.') for block in path.blocks)}</Path>"
            for i, path in enumerate(self.paths, 1)
        )
        opened = f"<Parallel>\n<Goal>{self.goal}{outlines}</Goal>"
        return f"{opened}{paths}<Conclusion>{self.conclusion}</Conclusion></Parallel>"

    def count(self) -> BlockCount:
        inner = [block.count() for path in self.paths for block in path.blocks]
        return BlockCount(
            1 + sum(count.blocks for count in inner),
            len(self.paths) + sum(count.paths for count in inner),
            1 + sum(count.conclusions for count in inner),
            1 + max((count.depth for count in inner), default=0),
        )


def blocks(depth: int = 3) -> st.SearchStrategy[Block]:
    inner = st.lists(blocks(depth - 1), max_size=2) if depth else st.just([])
    return st.builds(Block, WORDS, st.lists(st.builds(Path, WORDS, inner), min_size=1, max_size=3), WORDS)


def read(text: str, pieces: list[int]) -> tuple[object, ...]:
    """What a reader says of a text that comes in pieces."""
    reader, position = Blocks(), 0
    try:
        for size in pieces:
            reader.feed(text[position : position + size])
            position += size
        reader.feed(text[position:])
        outcome: object = reader.close()
    except BlockError as error:
        outcome = str(error)
    return outcome, reader.count, reader.outlines, reader.open, [str(fault) for fault in reader.faults]


@given(blocks(), WORDS)
def test_well_formed_text_is_counted(block: Block, words: str) -> None:
    assert check_blocks(words + block.write() + words) == block.count()


@given(
    blocks(2).map(Block.write) | st.text(alphabet="<>/PGOCarlgopthuinec1: .\n", max_size=60),
    st.integers(0, 400),
    st.text(max_size=3) | st.sampled_from(["<Path>", "</Path>", "<Goal>", "</Parallel>", "<Outline>2:", "<"]),
    st.lists(st.integers(0, 40), max_size=12),
)
def test_streaming_equals_reading_at_once(text: str, cut: int, inserted: str, pieces: list[int]) -> None:
    """Of whole, cut and hostile text: counts, open tags, faults and refusals, with their places."""
    for hostile in (text, text[:cut], text[:cut] + inserted + text[cut:]):
        assert read(hostile, pieces) == read(hostile, [])
        assert read(hostile, [1] * len(hostile)) == read(hostile, [])


@given(blocks(2).map(Block.write), st.integers(0, 400))
def test_what_is_cut_can_be_closed(text: str, cut: int) -> None:
    """`closing` closes everything, whatever is open."""
    reader = Blocks()
    reader.feed(text[:cut].rpartition("<")[0])
    reader.feed(reader.closing)
    assert reader.open == ()


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("<Parallel>", 1, 11, "ends inside <Parallel>"),
        ("a\nb <Path>1: x</Path>", 2, 3, "<Path> can't stand here"),
        ("a</Goal>", 1, 2, "</Goal> closes nothing"),
        ("<Parallel>\n x<Goal>", 2, 2, "text from 'x' on stands in <Parallel>"),
        ("<Parallel><Goal>g</Goal><Path>", 1, 11, "<Goal> has no outline"),
        ("<Parallel><Goal><Outline>1: a</Outline>\n<Outline>1: b</Outline>", 2, 1, "outline 1 is there twice"),
        ("<Parallel><Goal><Outline>1: a</Outline>\n<Outline>3: b</Outline>", 2, 1, "outline 2 is missing"),
        ("<Parallel><Goal><Outline>a</Outline>", 1, 17, "no index"),
        (
            "<Parallel><Goal><Outline>1: a</Outline></Goal></Parallel>",
            1,
            47,
            "</Parallel> comes before the block's <Path>",
        ),
        ("<Parallel><Goal><Outline>1: a</Outline></Goal><Path>2: b</Path>", 1, 47, "path 2 has no outline"),
        ("<Parallel><Goal><Outline>1: a</Outline></Goal><Path>1: b<Path>", 1, 57, "expected </Path>"),
        ("<Parallel><Goal><Outline>1: a</Outline></Goal><Path>1: b", 1, 57, "ends inside <Path> of line 1, column 47"),
        (
            "<Parallel><Goal><Outline>1: a</Outline><Outline>2: a</Outline></Goal><Path>1: b</Path><Conclusion>",
            1,
            1,
            "path 2 is missing before <Conclusion>",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text: str, line: int, column: int, words: str) -> None:
    with pytest.raises(BlockError) as caught:
        check_blocks(text)
    assert (caught.value.line, caught.value.column) == (line, column), caught.value
    assert words in str(caught.value)


def test_outlines_are_there_when_the_goal_closes() -> None:
    reader = Blocks()
    reader.feed("so <Parallel><Goal>two ways<Outline>1: by hand</Outline>\n<Outline> 2 : by rule</Outline></Goal>")
    assert reader.outlines == [Outline("1", "by hand"), Outline("2", "by rule")]
    assert reader.open == ("Parallel",)


def test_a_path_is_read_alone() -> None:
    reader = Blocks.of_path("2")
    reader.feed("a <Parallel><Goal><Outline>2.1: b</Outline></Goal><Path>2.1: c</Path>")
    assert (reader.faults, reader.closing) == ([], "<Conclusion></Conclusion></Parallel></Path>")
    reader.feed(reader.closing)
    assert reader.open == ()


def test_depth_and_length_do_not_hang() -> None:
    deep = "".join(f"<Parallel><Goal><Outline>{'1.' * i}1: a</Outline></Goal><Path>{'1.' * i}1:" for i in range(300))
    assert read(deep, [7])[1] == BlockCount(depth=300)
    assert check_blocks("<" * 200_000) == BlockCount()
    with pytest.raises(BlockError, match="<Parallel> can't stand here in <Parallel>"):
        check_blocks("<Parallel>" * 100_000)

"""The prefix cache: K/V that was encoded once is found again by its tokens (DESIGN.md §4).

Only exact plain views are kept: the K/V of a token is then a function of the tokens before it, and of what changes the
model (the `salt`: an adapter, say), wherever it was encoded. Tokens are looked up block by block, each of a page's
length and known by all that stands before it; within the last block token by token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import TypeAlias

from .pages import PagePool
from .view import Span, View

Tokens: TypeAlias = tuple[int, ...]


class Block:
    """Up to a page's length of tokens that follow those of its parents, and where their K/V is."""

    __slots__ = ("following", "pages", "parent", "spans", "tokens")

    def __init__(self, parent: Block | None = None, spans: tuple[Span, ...] = ()) -> None:
        self.parent = parent
        self.spans = spans
        self.tokens: Tokens = tuple(token for span in spans for token in span.tokens)
        self.pages = View(spans).pages()
        """The pages that it holds."""
        self.following: dict[Tokens, Block] = {}
        """The blocks that go on from here, by their tokens; only a full block has any."""

    def path(self) -> list[Block]:
        """The blocks from the first to this one."""
        path, block = [], self
        while block.parent is not None:
            path.append(block)
            block = block.parent
        return path[::-1]


class PrefixCache:
    """A tree of blocks for each salt. Blocks are given up longest unused first, and only for pages that nobody uses."""

    def __init__(self, pool: PagePool, *, keeps: bool = True, least: int = 0) -> None:
        """`keeps`: False to keep nothing, so that nothing is ever found. `least`: tokens (a page if that is more) that
        a find must spare a thread, or it goes on without: what stands in pages of others' is one more read for every
        layer and step, which a short prompt's encoding doesn't outweigh."""
        self.least = max(least, pool.page_size)
        self.evicted = 0
        """Pages given up because others needed them."""
        self._pool = pool
        self.keeps = keeps
        self._roots: dict[bytes, Block] = {}
        self._blocks: dict[Block, None] = {}
        """Longest unused first; a block comes after those that follow it."""

    def add(self, view: View, salt: bytes = b"") -> None:
        """Keep a view's K/V for others to find; somebody holds its pages at present."""
        if not self.keeps or not view.exact:
            return
        tokens = view.tokens
        block, known = self._walk(self._roots.setdefault(salt, Block()), tokens)
        last, spans = _most_alike(block, tokens[known:])
        if sum(map(len, spans)) < len(tokens) - known:
            last = block
            for spans in _cut(view.cut(known)[1], self._pool.page_size):
                last = self._insert(Block(last, spans))
        self._touch(last)

    def find(self, tokens: Sequence[int], salt: bytes = b"") -> View:
        """The longest view known that holds nothing but the first of these tokens. It counts as used."""
        if salt not in self._roots:
            return View()
        block, known = self._walk(self._roots[salt], tokens)
        last, spans = _most_alike(block, tokens[known:])
        self._touch(last)
        return View().append(*(span for part in block.path() for span in part.spans), *spans)

    def evict(self, pages: int) -> bool:
        """Free so many pages that nobody uses, as far as there are any. False if there are none."""
        before = self._pool.free
        for block in list(self._blocks) if self._pool.cached else []:
            if self._pool.free >= before + pages:
                break
            if block in self._blocks and not all(self._pool.users(page) for page in block.pages):
                self._remove(block)
        self.evicted += self._pool.free - before
        return self._pool.free > before

    def clear(self) -> None:
        """Give everything up."""
        for block in self._blocks:
            self._pool.uncache(block.pages)
        self._roots, self._blocks = {}, {}

    def holds(self) -> list[list[int]]:
        """The pages of each block, as the pool's books have them."""
        return [block.pages for block in self._blocks]

    def _walk(self, block: Block, tokens: Sequence[int]) -> tuple[Block, int]:
        """The last full block known on the way along these tokens, and how many of them lie up to its end."""
        known, size = 0, self._pool.page_size
        while (following := block.following.get(tuple(tokens[known : known + size]))) is not None:
            if len(following.tokens) < size:
                break
            block, known = following, known + size
        return block, known

    def _insert(self, block: Block) -> Block:
        assert block.parent is not None
        beside = block.parent.following
        for start in [start for start in beside if start == block.tokens[: len(start)]]:
            self._remove(beside[start])
        beside[block.tokens] = block
        self._blocks[block] = None
        self._pool.cache(block.pages)
        return block

    def _remove(self, block: Block) -> None:
        """Give up a block and all that follow it."""
        assert block.parent is not None
        del block.parent.following[block.tokens]
        gone = [block]
        while gone:
            block = gone.pop()
            gone += block.following.values()
            del self._blocks[block]
            self._pool.uncache(block.pages)

    def _touch(self, block: Block) -> None:
        """The block was used just now, and with it those before it."""
        for used in reversed(block.path()):
            del self._blocks[used]
            self._blocks[used] = None


def _most_alike(block: Block, tokens: Sequence[int]) -> tuple[Block, tuple[Span, ...]]:
    """Of the blocks that follow, the one that has most of the tokens to come, and the spans of those; else the block
    itself, and none."""
    best, most = block, 0
    for following in block.following.values():
        pairs = zip(following.tokens, tokens, strict=False)
        alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        if alike > most:
            best, most = following, alike
    return best, next(_cut(best.spans, most)) if most else ()


def _cut(spans: Sequence[Span], length: int) -> Iterator[tuple[Span, ...]]:
    """The spans in pieces of so many tokens; the last may be shorter."""
    piece, room = list[Span](), length
    for span in spans:
        done = 0
        while done < len(span):
            part = span.part(done, min(len(span), done + room))
            piece.append(part)
            done, room = done + len(part), room - len(part)
            if not room:
                yield tuple(piece)
                piece, room = [], length
    if piece:
        yield tuple(piece)

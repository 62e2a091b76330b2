"""Random steps over a random pool, and what dense attention in float64 makes of them (DESIGN.md §4, law 3).

The oracle knows tokens and view positions only: it has no slots, frames, offsets or runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import pytest
import torch

from plait.kernels import AttentionShape, KeyRun, QueryBlock, Rope


@dataclass
class Tokens:
    """A segment: where its keys were rotated, its tokens' keys and values before rotation, and their slots."""

    origin: int
    k: torch.Tensor
    v: torch.Tensor
    slots: list[int]


@dataclass
class Placed:
    """Tokens [start, stop) of a segment, the first at view position `position`."""

    tokens: Tokens
    start: int
    stop: int
    position: int


@dataclass
class Thread:
    """A tail of which the tokens from `old` on are new, and what else its thread sees."""

    tail: Tokens
    old: int
    position: int
    spans: list[Placed]
    q: torch.Tensor
    sees_itself: bool = True

    @property
    def count(self) -> int:
        return len(self.tail.slots) - self.old


@dataclass
class Scene:
    """One step of several threads."""

    shape: AttentionShape
    slots: int
    segments: list[Tokens] = field(default_factory=list)
    threads: list[Thread] = field(default_factory=list)

    def blocks(self) -> list[QueryBlock]:
        return [self._block(thread) for thread in self.threads]

    def _block(self, thread: Thread) -> QueryBlock:
        keys = [run for span in thread.spans for run in runs(span)]
        if thread.sees_itself:
            whole = Placed(thread.tail, 0, len(thread.tail.slots), thread.position - thread.old)
            keys += runs(whole, first=-thread.old)
        rotation = thread.tail.origin + thread.old
        return QueryBlock(rotation, thread.position, tuple(thread.tail.slots[thread.old :]), tuple(keys))

    def inputs(self) -> tuple[torch.Tensor, torch.Tensor]:
        """qk and v of the new tokens, as a model would hand them over."""
        new = [torch.cat((t.q, t.tail.k[t.old :]), 1) for t in self.threads]
        v = torch.cat([t.tail.v[t.old :] for t in self.threads])
        return torch.cat(new).to(self.shape.dtype), v.to(self.shape.dtype)

    def pool(self, fill: float) -> tuple[torch.Tensor, torch.Tensor]:
        """What earlier steps have left; slots not written by them hold `fill`."""
        keys = torch.full((self.shape.kv_heads, self.slots, self.shape.head_dim), fill, dtype=self.shape.dtype)
        values = keys.clone()
        old = [(tokens, len(tokens.slots)) for tokens in self.segments] + [(t.tail, t.old) for t in self.threads]
        for tokens, count in old:
            slots = torch.tensor(tokens.slots[:count], dtype=torch.long)
            keys[:, slots] = self.rotated(tokens)[:count].transpose(0, 1).to(keys.dtype)
            values[:, slots] = tokens.v[:count].transpose(0, 1).to(values.dtype)
        return keys, values

    def rotated(self, tokens: Tokens) -> torch.Tensor:
        """Keys as the pool must hold them."""
        frequencies = torch.tensor(self.shape.rope.frequencies, dtype=torch.float64)
        angles = (torch.arange(len(tokens.slots)) + tokens.origin)[:, None, None] * frequencies
        even, odd = tokens.k[..., 0::2], tokens.k[..., 1::2]
        turned = (even * angles.cos() - odd * angles.sin(), even * angles.sin() + odd * angles.cos())
        return torch.stack(turned, -1).flatten(-2) * self.shape.rope.scale

    def expected(self) -> torch.Tensor:
        """Dense attention, row by row: [rows, heads * head_dim]."""
        rows = [self._row(thread, j) for thread in self.threads for j in range(thread.count)]
        return torch.stack(rows).flatten(1)

    def _row(self, thread: Thread, j: int) -> torch.Tensor:
        here = thread.position + j
        seen = [(s.tokens, i, s.position + i - s.start) for s in thread.spans for i in range(s.start, s.stop)]
        if thread.sees_itself:
            seen += [(thread.tail, i, thread.position + i - thread.old) for i in range(thread.old + j + 1)]
        window = self.shape.window
        seen = [(tokens, i, there) for tokens, i, there in seen if not window or here - there < window]
        if not seen:
            return torch.zeros(self.shape.heads, self.shape.head_dim, dtype=torch.float64)
        k = torch.stack([tokens.k[i] for tokens, i, _ in seen]).repeat_interleave(self.shape.group, 1)
        v = torch.stack([tokens.v[i] for tokens, i, _ in seen]).repeat_interleave(self.shape.group, 1)
        away = torch.tensor([here - there for _, _, there in seen], dtype=torch.float64)
        angles = away[:, None] * torch.tensor(self.shape.rope.frequencies, dtype=torch.float64)
        turn = torch.polar(torch.ones_like(angles), angles)
        q = torch.view_as_complex(thread.q[j].unflatten(-1, (-1, 2)).contiguous())
        pairs = q[None] * turn[:, None] * torch.view_as_complex(k.unflatten(-1, (-1, 2)).contiguous()).conj()
        scores = pairs.real.sum(-1) * self.shape.rope.scale**2 / math.sqrt(self.shape.head_dim)
        if self.shape.softcap:
            scores = self.shape.softcap * (scores / self.shape.softcap).tanh()
        return torch.einsum("th,thd->hd", scores.softmax(0), v)


def runs(span: Placed, first: int | None = None) -> list[KeyRun]:
    """Cut a span where its slots are not consecutive. `first`: row at which its token 0 begins to be seen."""
    found = []
    start = span.start
    while start < span.stop:
        slots = span.tokens.slots
        stop = next((i for i in range(start + 1, span.stop) if slots[i] != slots[i - 1] + 1), span.stop)
        found.append(
            KeyRun(
                slot=slots[start],
                count=stop - start,
                rotation=span.tokens.origin + start,
                position=span.position + start - span.start,
                first=None if first is None else first + start,
            )
        )
        start = stop
    return found


def make_random_scene(random: Random, dtype: torch.dtype, *, window: int = 0) -> Scene:
    """Any graph of visibility: spans of anything, anywhere, more than once, other threads' new tokens included."""
    kv_heads, group, head_dim = random.choice([1, 2, 3]), random.choice([1, 2, 4]), random.choice([2, 8, 24, 64])
    shape = AttentionShape(
        heads=kv_heads * group,
        kv_heads=kv_heads,
        head_dim=head_dim,
        rope=Rope(tuple(2.0 ** -(i / 2) for i in range(head_dim // 2)), scale=random.choice([1.0, 1.2])),
        dtype=dtype,
        device=torch.device("cpu"),
        window=window,
    )
    page = random.choice([1, 2, 8, 32])
    pages = list(range(2000 // page))
    if random.random() < 0.5:
        Random(random.getrandbits(16)).shuffle(pages)
    generator = torch.Generator().manual_seed(random.getrandbits(16))

    def draw(*size: int) -> torch.Tensor:
        return torch.randn(*size, head_dim, dtype=torch.float64, generator=generator).to(dtype).double()

    def tokens(count: int) -> Tokens:
        mine = [pages.pop(0) for _ in range(-(-max(count, random.choice([0, 40])) // page))]
        slots = [at * page + i for at in mine for i in range(page)][:count]
        return Tokens(
            random.choice([0, random.randint(-300, 3000)]), draw(count, kv_heads), draw(count, kv_heads), slots
        )

    scene = Scene(shape, slots=2000)
    scene.segments = [tokens(random.choice([0, 1, 5, 40])) for _ in range(random.randint(0, 4))]
    for _ in range(random.randint(1, 5)):
        old, new = random.choice([0, 0, 3, 17]), random.choice([1, 1, 1, 2, 12])
        tail = tokens(old + new)
        thread = Thread(tail, old, random.randint(0, 200), [], draw(new, shape.heads), random.random() < 0.9)
        scene.threads.append(thread)
    for thread in scene.threads:
        others = scene.segments + [other.tail for other in scene.threads if other is not thread]
        for _ in range(random.randint(0, 5) if others else 0):
            seen = random.choice(others)
            stop = random.choice([len(seen.slots), random.randint(0, len(seen.slots))])
            start = random.choice([0, random.randint(0, stop)])
            thread.spans.append(Placed(seen, start, stop, random.randint(-20, 200)))
    return scene


def make_decoding_scene(*, members: int, ragged: bool, mutual: bool) -> Scene:
    """`members` threads with a 40-token prefix in common and 16 slots each for their tails; the last ends the pool."""
    shape = AttentionShape(
        heads=6,
        kv_heads=2,
        head_dim=8,
        rope=Rope((1.0, 0.5, 0.1, 0.01)),
        dtype=torch.float64,
        device=torch.device("cpu"),
    )
    generator = torch.Generator().manual_seed(members)

    def draw(*size: int) -> torch.Tensor:
        return torch.randn(*size, 8, dtype=torch.float64, generator=generator)

    prefix = Tokens(0, draw(40, 2), draw(40, 2), list(range(40)))
    scene = Scene(shape, 48 + 16 * members, [prefix])
    for i in range(members):
        count, slot = 4 + (i * 5 % 12 if ragged else 0), 48 + 16 * i
        tail = Tokens(40, draw(count, 2), draw(count, 2), list(range(slot, slot + count)))
        scene.threads.append(Thread(tail, count - 1, 40 + count - 1, [Placed(prefix, 0, 40, 0)], draw(1, 6)))
    for me in scene.threads if mutual else []:
        for other in scene.threads:
            if other is not me:
                me.spans.append(Placed(other.tail, 0, len(other.tail.slots), me.position - me.old))
                me.position += len(other.tail.slots)
    return scene


@pytest.fixture(scope="session")
def random_scene() -> Callable[..., Scene]:
    return make_random_scene


@pytest.fixture(scope="session")
def decoding_scene() -> Callable[..., Scene]:
    return make_decoding_scene

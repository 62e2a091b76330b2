"""Adapters: low-rank changes of a model's weights (LoRA, Hu et al. 2021, arXiv:2106.09685), one for each context."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from weakref import WeakValueDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import CheckpointError
from .lora import CONFIG, WEIGHTS
from .rows import in_blocks

KEPT = 8
"""Adapters that stay loaded though no context uses them, the latest."""

FileState = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class LowRank:
    """What is added to one weight [out, in]: up [out, rank] times down [rank, in]."""

    down: Tensor
    up: Tensor

    def apply(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(x, self.down), self.up)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Adapter:
    """An adapter in memory, by place in the model. `salt` stands for its content: keys and values of another salt are
    never its own."""

    directory: Path
    salt: bytes
    changes: Mapping[str, LowRank]


@dataclass(frozen=True, slots=True)
class Adapted:
    """Which rows of a step go through which adapter: [rows of the adapter] each. Empty where none is used."""

    groups: tuple[tuple[Adapter, Tensor], ...] = ()

    @classmethod
    def of(cls, adapters: Sequence[Adapter | None], counts: Sequence[int], device: torch.device) -> Adapted:
        """For blocks of so many rows, each with its adapter or none."""
        rows: dict[Adapter, list[int]] = {}
        start = 0
        for adapter, count in zip(adapters, counts, strict=True):
            if adapter is not None:
                rows.setdefault(adapter, []).extend(range(start, start + count))
            start += count
        return cls(tuple((adapter, torch.tensor(found, device=device)) for adapter, found in rows.items()))

    def add(self, place: str, x: Tensor, y: Tensor, *, at_once: int = 0) -> None:
        """Add to y [rows, out], what the model's weight made of x [rows, in], what the adapters make of their rows;
        in blocks of `at_once` rows (0: all)."""
        for adapter, rows in self.groups:
            change = adapter.changes.get(place)
            if change is not None:
                y.index_add_(0, rows, in_blocks(at_once or len(rows), change.apply, x[rows]))


class AdapterCache:
    """Loads each adapter once. It stays as long as something uses it, and the latest few longer."""

    def __init__(self, load: Callable[[Path], Adapter], *, kept: int = KEPT) -> None:
        self._load = load
        self._size = kept
        self._lock = Lock()
        self._known: WeakValueDictionary[tuple[FileState, ...], Adapter] = WeakValueDictionary()
        self._kept: OrderedDict[tuple[FileState, ...], Adapter] = OrderedDict()

    def get(self, directory: str | Path) -> Adapter:
        """The adapter of that folder as it is now; from any thread. Raises CheckpointError."""
        folder = Path(directory).resolve()
        key = tuple(_state(folder / name) for name in (CONFIG, WEIGHTS))
        with self._lock:
            adapter = self._known.get(key)
            if adapter is None:
                adapter = self._known[key] = self._load(folder)
            self._kept[key] = adapter
            self._kept.move_to_end(key)
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)
        return adapter


def _state(path: Path) -> FileState:
    """Tells a file, and whether it was written anew."""
    try:
        found = path.stat()
    except OSError:
        raise CheckpointError(f"no adapter at {path.parent}: {path.name} is missing. Give a PEFT folder") from None
    return str(path), found.st_mtime_ns, found.st_size

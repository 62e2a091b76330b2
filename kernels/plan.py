"""The host-side plan of one step: which query rows see which runs of keys, and at which offset (DESIGN.md §4)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KeyRun:
    """A run of consecutive pool slots, placed in the view of the rows that see it.

    `slot` and `count` say where its keys are stored. Key i was rotated at `rotation + i` and stands at view position
    `position + i`, so its frame offset is `position - rotation`. `first` is None where every row sees the whole run;
    otherwise row j sees key i if `first + i <= j` (the run belongs to the rows' own tail, `first` being the index of
    its first key counted from the first row of the block; negative for keys written in earlier steps).
    """

    slot: int
    count: int
    rotation: int
    position: int
    first: int | None = None

    @property
    def offset(self) -> int:
        return self.position - self.rotation


@dataclass(frozen=True, slots=True)
class QueryBlock:
    """Consecutive new tokens of one thread in one step.

    Row j is written to pool slot `slots[j]`, its key rotated at `rotation + j`; it stands at view position
    `position + j`. `keys` covers all that the rows see, their own new tokens included.
    """

    rotation: int
    position: int
    slots: tuple[int, ...]
    keys: tuple[KeyRun, ...]

    @property
    def count(self) -> int:
        return len(self.slots)

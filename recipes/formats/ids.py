"""The ids by which calls and results are paired: no two of a turn are equal, whatever a model writes."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Ids:
    """Gives ids that were not given before."""

    _given: set[str] = field(default_factory=set)

    def next(self, wanted: str = "") -> str:
        """The id that a model has chosen, if it may have it; otherwise one that is free."""
        number, chosen = len(self._given) + 1, wanted
        while not chosen or chosen in self._given:
            chosen = f"call_{number}"
            number += 1
        self._given.add(chosen)
        return chosen

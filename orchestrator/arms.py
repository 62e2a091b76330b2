"""The arms of a branch: they must cover what its condition may be, and no more (DESIGN.md §6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import GraphError
from .types import choices, fits, name_of, of_value


def check_arms(owner: str, kind: Any, source: str, values: Sequence[Any], rest: bool) -> None:
    """Raise GraphError for an arm that can't be taken, and for a value of `kind`, from `source`, that has no arm.

    `rest` says that there is an arm for all other values.
    """
    for value in values:
        if not _possible(value, kind):
            raise GraphError(
                f"{source} gives {name_of(kind)}, so arm {value!r} of {owner} can never be taken; remove it"
            )
    known = choices(kind)
    missing = [value for value in known or () if not _among(value, values)]
    if known is None and not rest:
        raise GraphError(
            f"{source} gives {name_of(kind)}, which may be none of the arms of {owner}: "
            f"{', '.join(map(repr, values)) or 'none'}; give otherwise="
        )
    if missing and not rest:
        raise GraphError(f"{source} may give {missing[0]!r}, for which {owner} has no arm; add it, or otherwise=")
    if known is not None and not missing and rest:
        raise GraphError(f"{owner} has an arm for every {name_of(kind)}, so otherwise= can never be taken; remove it")


def _among(value: object, values: Sequence[object]) -> bool:
    return any(value == other and type(value) is type(other) for other in values)


def _possible(value: object, kind: Any) -> bool:
    """Whether a value of the type may equal this one."""
    known = choices(kind)
    return fits(of_value(value), kind) if known is None else _among(value, known)

"""The list of all checks, in the order in which they are run: the last one closes the engine."""

from __future__ import annotations

from . import contexts, edits, extras, faults, generating, grammars
from .check import Check

_LAST = "close"
_ALL = (
    *contexts.CHECKS,
    *generating.CHECKS,
    *grammars.CHECKS,
    *edits.CHECKS,
    *extras.CHECKS,
    *faults.CHECKS,
)
CHECKS: tuple[Check, ...] = tuple(sorted(_ALL, key=lambda check: check.name == _LAST))

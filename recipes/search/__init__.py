"""Search: spaces of architectures, studies that ask and tell, and what they find (DESIGN.md §1)."""

from __future__ import annotations

from .archon_space import PUBLISHED, archon_space, readings
from .claims import Outcome, read_outcomes
from .entry import Found
from .report import dev_table, draw_front, held_out_table, shown
from .search import HeldOut, Plan, as_data, hold_out, search, write_winner
from .space import Choice, Real, Rule, Space, Whole, count_compiled, describe, orders
from .spaces import SPACES, find_space, techniques_space
from .study import Study

__all__ = [
    "PUBLISHED",
    "SPACES",
    "Choice",
    "Found",
    "HeldOut",
    "Outcome",
    "Plan",
    "Real",
    "Rule",
    "Space",
    "Study",
    "Whole",
    "archon_space",
    "as_data",
    "count_compiled",
    "describe",
    "dev_table",
    "draw_front",
    "find_space",
    "held_out_table",
    "hold_out",
    "orders",
    "read_outcomes",
    "readings",
    "search",
    "shown",
    "techniques_space",
    "write_winner",
]

"""Teamwork: what all engines do alike for a team: what they refuse, and when a step of thought ends (DESIGN.md §4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import CapabilityError, ContextError, InputError

if TYPE_CHECKING:
    from .base import Engine, Member, Teamwork


def check_team(engine: Engine, members: Sequence[Member], work: Teamwork) -> None:
    """Refuse a team that can't be. Raises CapabilityError, ContextError, InputError."""
    offered = engine.capabilities.team
    if work.layout not in offered:
        have = ", ".join(sorted(offered)) or "none"
        raise CapabilityError(f"engine '{engine.name}' has no team layout '{work.layout}'; it offers: {have}")
    if not members:
        raise InputError("a team has no members; give it at least one")
    for index, member in enumerate(members):
        if member.context.engine is not engine:
            raise ContextError(
                f"member {index} {member.name!r} brings a context of another engine than '{engine.name}'"
            )
        if member.joins < 0:
            raise InputError(f"member {index} {member.name!r} joins at step {member.joins}; the first is 0")
        if member.grammar is not None and (work.step_header or work.check):
            raise InputError(
                f"member {index} {member.name!r} has a grammar, which forced headers and checks would break; "
                "leave out step_header and check, or the grammar"
            )
    _check_work(work)


def _check_work(work: Teamwork) -> None:
    if work.check_every < 0 or (work.check_every and not (work.check and work.step_end)):
        raise InputError(f"check_every {work.check_every} must be 0, or positive with a check and a step_end")
    if work.layout != "tokenwise":
        return
    if work.slot < 1:
        raise InputError(f"layout 'tokenwise' needs the positions of a member's slot; slot is {work.slot}")
    if work.past_header or work.others_header or work.own_header:
        raise InputError("layout 'tokenwise' has no place for headers: its tokens never leave their slots")


class StepRule:
    """Where members' steps of thought end, and what they are given to go on from (Hogwild! Inference, §3.2)."""

    def __init__(self, members: Sequence[Member], work: Teamwork) -> None:
        self._names = [member.name for member in members]
        self._steps = [1] * len(members)
        self._work = work
        self._unchecked = 0

    def header(self, member: int) -> str:
        """What opens the step in which a member is."""
        header = self._work.step_header.replace("{step}", str(self._steps[member]))
        return header.replace("{name}", self._names[member])

    def count(self, tokens: int) -> None:
        """So many tokens more were generated, by whomever."""
        self._unchecked += tokens

    def end(self, text: str, known: int) -> int:
        """Where a step ends that is completed by what came after the first `known` characters; −1 if none is."""
        mark = self._work.step_end
        start = text.find(mark, max(0, known - len(mark) + 1)) if mark else -1
        while start >= 0:
            if not self._work.step_after or (start and text[start - 1] in self._work.step_after):
                return start + len(mark)
            start = text.find(mark, start + 1)
        return -1

    def follow(self, member: int) -> str:
        """What a member that has ended a step goes on from: the next step's header, and the check if it is due."""
        self._steps[member] += 1
        if not self._work.check_every or self._unchecked < self._work.check_every:
            return self.header(member)
        self._unchecked = 0
        return self.header(member) + self._work.check

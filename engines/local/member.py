"""Members of a team: threads whose views hold what the others write (DESIGN.md §4)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .segment import Segment
from .thread import Thread, key_runs
from .view import Span, View

if TYPE_CHECKING:
    from ...kernels import KeyRun
    from .holding import Holding
    from .team import Team
    from .teaming import Part, Teaming


class MemberThread(Thread):
    """One member. Until it is `ready` it is a plain thread that encodes what is pending of its context. From then on
    its tail is the step of thought that it is in, and its view holds what it may see of the others."""

    __slots__ = ("absent", "begun", "entered", "heard", "index", "part", "read", "ready", "team")

    def __init__(self, team: Team, index: int, holding: Holding, part: Part, arrival: int) -> None:
        super().__init__(team.pool, holding, part.generation, arrival)
        self.team = team
        self.index = index
        self.part = part
        self.entered = False
        """Whether it holds its base."""
        self.ready = False
        """Whether its base is encoded."""
        self.begun = False
        """Whether its own tokens may be encoded: the team has come to the step in which it joins."""
        self.absent = False
        """Whether the window had no room for it when it was to begin."""
        self.heard = self.read = 0
        """How many of its sampled tokens, and of its text's characters, were looked at for the end of a step."""

    @property
    def unit(self) -> Team:
        return self.team

    @property
    def view(self) -> View:
        """All that it sees now, its own step last."""
        if not self.ready:
            return super().view
        return self.base.append(*self.team.around(self), *([self.tail] if self.tail is not None else []))

    @property
    def todo(self) -> int:
        if not self.ready:
            return self.lead - self.encoded
        return len(self.own) - self.encoded if self.begun else 0

    @property
    def needs_logits(self) -> bool:
        return not self.part.opening and super().needs_logits

    @property
    def adds(self) -> bool:
        return True

    def wanted(self, start: int, stop: int) -> range:
        """Its first token comes from its context's last, unless it is given an opening."""
        return super().wanted(start, stop) if self.ready or self.needs_logits else range(0)

    def get_ready(self) -> None:
        """Its base is encoded: what is encoded from here on belongs to the team."""
        base = self.view
        self._close_tail()
        self.base, self.ready = base, True
        self._base_keys = tuple(key for span in base.spans for key in key_runs(span))
        del self.own[: self.lead]
        self.encoded -= self.lead
        self.lead = self._relost = self.found = 0

    def leave(self) -> None:
        super().leave()
        self.entered = self.ready = False
        self.base = View()  # until it enters again it reads nothing

    def pages_wanted(self, tokens: int, available: int) -> int:
        return super().pages_wanted(tokens, available - self.team.owed)

    def grow(self, tokens: int) -> None:
        if self.ready and self.tail is None and tokens:
            start = self.team.start(self, self.team.around(self))
            segment = Segment(start, self.pool.page_size)
            segment.written = True
            self.tail = Span(segment, 0, 0, start, exact=self.team.exact, teamed=not self.team.exact)
        super().grow(tokens)

    def end_step(self) -> Segment:
        """Leave the step that it is in to the common history."""
        return self._close_tail()

    def forget_pass(self) -> None:
        """The pass is over: nothing of it is new any more."""
        self._fresh = 0

    @property
    def shown(self) -> int:
        """Tokens of its step that others see."""
        assert self.tail is not None
        return self.tail.stop if self.team.work.asked.same_step else self.tail.stop - self._fresh

    def _own_segment(self) -> Segment | None:
        if not self.ready:
            return super()._own_segment()
        return self.tail.segment if self.tail is not None else None

    def _surroundings(self) -> tuple[KeyRun, ...]:
        """Positions belong to a view and a step: its tail stands after all that it sees just now."""
        if not self.ready:
            return super()._surroundings()
        assert self.tail is not None
        around = self.team.around(self)
        self.tail = replace(self.tail, position=self.team.start(self, around))
        return self._base_keys + tuple(key for span in around for key in key_runs(span))

    def _close_tail(self) -> Segment:
        assert self.tail is not None
        segment = self.tail.segment
        self._granted = 0
        self.trim()
        segment.written, self.tail = False, None
        return segment


class HeadingThread(Thread):
    """Encodes the headers for all members."""

    __slots__ = ("team",)

    def __init__(self, team: Team, holding: Holding, work: Teaming, arrival: int) -> None:
        super().__init__(team.pool, holding, work.heading, arrival)
        self.team = team

    @property
    def unit(self) -> Team:
        return self.team

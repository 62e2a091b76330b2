"""The horizon: how much of itself a trace goes on attending to (TIM and TIMRUN, 2025)."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Literal

from ..engines import Generation
from .subtasks import SubtaskBuffer, TextSpan
from .trace import Trace

UNBOUNDED = 1 << 40
"""Room where no bound is stated: the window ends a generation by itself."""


@dataclass(slots=True)
class Horizon:
    """Drops what is finished: lists that the buffer gives up and, where the context would outgrow `live` tokens (0: the
    engine's window), more of it, until half of them are free.

    Then all finished lists of subtasks go, and after them the finished tasks of lists that are still open: of the
    outermost list first, and there the oldest.
    """

    live: int
    buffer: SubtaskBuffer
    mode: Literal["exact", "shift", "none"]
    minimum: int

    def room(self, trace: Trace) -> int:
        """Tokens that the trace may still grow by."""
        return max(self.live - trace.context.length, 0) if self.live else UNBOUNDED

    def reached(self, trace: Trace, written: Generation, bound: int, max_tokens: int) -> bool:
        """Whether a generation of at most `bound` tokens ended for want of room that can be made."""
        full = written.finish == "window" or (written.finish == "length" and bound < max_tokens)
        finished = self.buffer.kept or trace.tree.finished or (self.live and any(trace.tree.open_lists()))
        return full and self._can_prune(trace) and bool(finished)

    async def take(self, trace: Trace) -> None:
        """Drop what the lists that have just finished push out of the buffer."""
        old = [span for finished in trace.tree.take_finished() for span in self.buffer.push(finished)]
        if self.mode != "none" and self._can_prune(trace):
            await trace.prune(old, mode=self.mode, minimum=self.minimum)

    async def make_room(self, trace: Trace) -> None:
        """Drop finished lists, and then as many finished tasks of open lists as it takes."""
        if self.mode == "none" or not self._can_prune(trace):
            return
        await self.take(trace)
        await trace.prune(self.buffer.flush(), mode=self.mode, minimum=self.minimum)
        for start, ends in trace.tree.open_lists() if self.live else ():
            need = trace.context.length - self.live // 2
            if need <= 0:
                return
            enough = bisect_left(ends, need, key=lambda end: _width(trace, TextSpan(start, end)))
            await trace.prune([TextSpan(start, ends[min(enough, len(ends) - 1)])], mode=self.mode, minimum=1)

    def _can_prune(self, trace: Trace) -> bool:
        return self.mode in trace.scope.engine.capabilities.prune


def _width(trace: Trace, span: TextSpan) -> int:
    start, stop = trace.tokens.span(*span)
    return stop - start

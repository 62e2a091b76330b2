"""Work: what a thread is extended for. Generating is in `generation`; here is what needs no sampling."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from weakref import finalize

from ...usage import Usage
from .mailbox import Mailbox

if TYPE_CHECKING:
    from torch import Tensor

    from .adapter import Adapter
    from .holding import Holding
    from .team import Team
    from .thread import Thread


GENERATION_FOLLOWS = 512
"""Tokens that are expected after appended ones: as many as `generate` samples at most unless told otherwise."""


class Lease:
    """Keeps a holding in the pool until it is released or collected, whichever comes first."""

    __slots__ = ("__weakref__", "holding", "release")

    def __init__(self, holding: Holding, release: Callable[[Holding], None]) -> None:
        self.holding = holding
        self.release = finalize(self, release, holding)
        self.release.atexit = False


class Work:
    """A request on its way: the tokens that it adds and, in the end, what came of it.

    The step loop's thread owns it until its mailbox is closed; then the task that asked may read `lease`, what the
    extended context holds, and `usage`.
    """

    held_back = 0
    """Tokens at the end of the own ones that are left to be encoded by whatever follows."""
    makes_context = True
    """True if a context comes of it."""
    reads_states = False
    """True if it reads the hidden states of tokens, which are known in the step that encodes them only."""
    adapter: Adapter | None = None
    """What a context that begins with this work is encoded with; later works take it from what they go on from."""

    def __init__(self, tokens: Sequence[int] = (), mailbox: Mailbox | None = None) -> None:
        self.tokens = tuple(tokens)
        self.mailbox = mailbox if mailbox is not None else Mailbox()
        self.started = time.monotonic()
        self.thread: Thread | Team | None = None
        """The thread that does it, while it runs or waits."""
        self.lease: Lease | None = None
        self.usage = Usage()

    def take_lease(self) -> Lease:
        """The lease on what came of it, for the context that is made of it."""
        lease, self.lease = self.lease, None
        assert lease is not None, "work has not ended"
        return lease

    @property
    def needs_logits(self) -> bool:
        """True if the work can only go on from the logits of the holding's last token."""
        return False

    @property
    def expected(self) -> int:
        """Tokens that may yet be added beyond those at hand."""
        return 0

    def done(self, thread: Thread) -> bool:
        """True if nothing is left to do."""
        return thread.todo <= 0

    def wanted(self, thread: Thread, start: int, stop: int) -> range:
        """Those of the own tokens [start, stop), being encoded now, whose logits it reads."""
        return range(0)

    def account(self, thread: Thread) -> None:
        """Settle the bill, when the thread has ended."""
        held = thread.holding.length
        given = len(self.tokens)
        self.usage = Usage(
            prompt=given,
            prefilled=given - thread.cached,
            cached=thread.cached,
            recomputed=thread.recomputed,
            live=given,
            peak_live=held + given,
            critical_path=given,
            seconds=time.monotonic() - self.started,
        )


class Extension(Work):
    """Appends tokens. The last stays pending: a generation that follows needs its logits, and encodes it then."""

    held_back = 1

    def __init__(
        self, tokens: Sequence[int], mailbox: Mailbox | None = None, *, adapter: Adapter | None = None
    ) -> None:
        super().__init__(tokens, mailbox)
        self.adapter = adapter

    @property
    def expected(self) -> int:
        return GENERATION_FOLLOWS


class Settling(Work):
    """Encodes what is pending, so that the view can be edited."""

    makes_context = False


class Scoring(Work):
    """Sums the log-probabilities of a continuation. `tokens` leave out its last one, which is never encoded."""

    makes_context = False

    def __init__(self, continuation: Sequence[int], mailbox: Mailbox | None = None) -> None:
        super().__init__(continuation[:-1], mailbox)
        self.continuation = tuple(continuation)
        self.scores: dict[int, float] = {}

    @property
    def needs_logits(self) -> bool:
        return not self.scores

    def done(self, thread: Thread) -> bool:
        return len(self.scores) == len(self.continuation)

    @property
    def total(self) -> float:
        return sum((self.scores[index] for index in sorted(self.scores)), 0.0)

    def wanted(self, thread: Thread, start: int, stop: int) -> range:
        return range(max(start, thread.lead - 1), stop)

    def target(self, thread: Thread, index: int) -> tuple[int, int]:
        """The place in the continuation, and the token there, that the logits of own token `index` speak of."""
        place = index - thread.lead + 1
        return place, self.continuation[place]


class Embedding(Work):
    """Gathers the final hidden states of tokens that it encodes: of all, or of a context's last one, encoded again."""

    makes_context = False
    reads_states = True

    def __init__(
        self, tokens: Sequence[int] = (), mailbox: Mailbox | None = None, *, adapter: Adapter | None = None
    ) -> None:
        """`tokens` stand at the beginning, after nothing; without any, the last one of the context is meant."""
        super().__init__(tokens, mailbox)
        self.adapter = adapter
        self._total: Tensor | None = None

    @property
    def needs_logits(self) -> bool:
        return not self.tokens

    def take(self, start: int, states: Tensor) -> None:
        """The states [tokens, hidden_size] of own tokens from `start` on; after a preemption it begins again at 0."""
        if self.tokens:
            added = states.double().sum(0)
            self._total = added if start == 0 or self._total is None else self._total + added
        else:
            self._total = states[-1].double()

    @property
    def embedding(self) -> list[float]:
        """[hidden_size]"""
        assert self._total is not None, "work has not ended"
        return [float(value) for value in self._total / max(len(self.tokens), 1)]

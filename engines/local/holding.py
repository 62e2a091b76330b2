"""Holdings: what a context holds in the pool (DESIGN.md §4).

A holding is a view and the tokens after it that are not encoded yet: normally one, the last. The first thread that goes
on from a holding encodes them for it ("settles" it), so that all that follow share them. A holding evicted under
pool pressure is the same thing with an empty view and all its tokens pending.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .pages import PagePool
from .view import View

if TYPE_CHECKING:
    from torch import Tensor

    from .adapter import Adapter
    from .thread import Thread


class Holding:
    """A view with its pages, and pending tokens. `users` counts the contexts and requests that need it."""

    __slots__ = ("_content", "_pool", "adapter", "claimed", "logits", "lost", "pages", "settler", "users")

    def __init__(
        self, pool: PagePool, view: View, pending: tuple[int, ...], *, lost: int = 0, adapter: Adapter | None = None
    ) -> None:
        self._pool = pool
        self.adapter = adapter
        """What its tokens are encoded with, beside the model's own weights."""
        self._content = (view, pending)
        self.pages = view.pages()
        pool.hold(self.pages)
        self.users = 0
        self.claimed = False
        """True while an edit has its turn that needs it beside others: it is evicted last, and not for those others."""
        self.settler: Thread | None = None
        """The thread that encodes the pending tokens at present."""
        self.lost = lost
        """Of the pending tokens, how many (from the first) had been encoded before."""
        self.logits: Tensor | None = None
        """The logits of the last token, [vocab], if it is encoded and they are still kept."""

    @property
    def salt(self) -> bytes:
        """What its keys and values depend on beside tokens and positions: the adapter's content, empty without one."""
        return self.adapter.salt if self.adapter is not None else b""

    @property
    def view(self) -> View:
        return self._content[0]

    @property
    def pending(self) -> tuple[int, ...]:
        return self._content[1]

    @property
    def tokens(self) -> list[int]:
        """All tokens; safe to read from any thread."""
        view, pending = self._content
        return [*view.tokens, *pending]

    @property
    def length(self) -> int:
        """Tokens held."""
        view, pending = self._content
        return len(view) + len(pending)

    @property
    def next(self) -> int:
        """The position of the next token."""
        view, pending = self._content
        return view.next + len(pending)

    @property
    def ends_side_by_side(self) -> bool:
        """True if its last token is in a parallel group."""
        view, pending = self._content
        return not pending and view.ends_side_by_side

    @property
    def evictable(self) -> bool:
        """True if it can be encoded again from its tokens."""
        return bool(self.pages) and self.view.exact and self.settler is None

    def reopen(self) -> None:
        """Have the last token encoded again, to know its logits, where a team wrote it. It saw less then than stands
        before it now, so its keys and values become others, which all that go on from here have to share."""
        view = self.view
        if self.pending or self.logits is not None or not view.spans or not view.spans[-1].teamed:
            return
        self.lost = 1
        self._replace(view.cut(len(view) - 1)[0], (view.tokens[-1],))

    def settle(self, view: View) -> None:
        """Its pending tokens were encoded: `view` holds them."""
        self._replace(view, ())
        self.lost = 0
        self.settler = None

    def evict(self) -> None:
        self.lost = len(self.view) + self.lost
        self.logits = None
        self._replace(View(), tuple(self.tokens))

    def close(self) -> None:
        self.logits = None
        self._replace(View(), self.pending)

    def _replace(self, view: View, pending: tuple[int, ...]) -> None:
        pages = view.pages()
        self._pool.hold(pages)
        self._pool.drop(self.pages)
        self.pages = pages
        self._content = (view, pending)

"""Replicas: which of several servers a run's contexts go to, so that its prefixes are cached in one place."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from hashlib import blake2b

from ..errors import InputError
from .remote import Server

AFFINITY: ContextVar[str] = ContextVar("plait_affinity", default="")
"""What the contexts begun here belong to. A run sets it to its id; a run that is resumed has the same."""

SESSION = "X-Session-ID"
"""The header that names a request's run, for routers which keep a session on one server."""


def session_headers() -> dict[str, str]:
    """Headers that say which run a request belongs to; none outside of runs."""
    run = AFFINITY.get()
    return {SESSION: run} if run else {}


class Replicas:
    """Servers with the same model. Contexts of one affinity go to one of them, others to others (rendezvous hashing:
    when a server comes or goes, only its own move). A server that was lost is passed over for `rest` seconds, unless
    all were.
    """

    def __init__(
        self, servers: Sequence[Server], *, rest: float = 30.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not servers:
            raise InputError("an engine behind a server needs the address of at least one")
        self.servers = tuple(servers)
        self._rest = rest
        self._clock = clock
        self._lost: dict[str, float] = {}
        self._begun = 0

    def affinity(self) -> str:
        """What a context that is begun now belongs to: its run, or nothing but itself."""
        self._begun += 1
        return AFFINITY.get() or str(self._begun)

    def choose(self, affinity: str) -> Server:
        """The server of an affinity; while it is passed over, the next one in that affinity's own order."""
        now = self._clock()
        order = sorted(self.servers, key=lambda server: _place(affinity, server.url), reverse=True)
        standing = [server for server in order if now - self._lost.get(server.url, -self._rest) >= self._rest]
        return standing[0] if standing else min(order, key=lambda server: self._lost[server.url])

    def lose(self, server: Server) -> None:
        """Pass over a server for a while."""
        self._lost[server.url] = self._clock()

    def find(self, server: Server) -> None:
        """A server has answered."""
        self._lost.pop(server.url, None)


def _place(affinity: str, url: str) -> bytes:
    return blake2b(f"{affinity}\0{url}".encode(), digest_size=8).digest()

"""Sessions: SGLang keeps the tokens of earlier requests, so that a request sends only what it adds to one of them.

A session is a tree of requests. A context that goes on from one is an append, one that was cut first is sent with the
offset of the cut, and forks are branches. What is computed is the same with and without: the K/V come from the server's
prefix cache. Only fewer tokens travel.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import anyio

from ...errors import RequestError
from .prefixes import alike
from .wire import Wire

KEPT = 256
"""Requests in one session: the server keeps them all until it is closed. Then another one is opened."""
CLOSE_SECONDS = 10.0


@dataclass(slots=True, eq=False)
class Session:
    """A session on a server: by a request's id, the tokens after which another can go on."""

    id: str
    known: dict[str, tuple[int, ...]] = field(default_factory=dict)
    running: int = 0


class Sessions:
    """The sessions of one engine: one is used, earlier ones stay open until their last request has ended."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._current: Session | None = None
        self._open: list[Session] = []
        self._opening = anyio.Lock()

    async def generate(self, fields: Mapping[str, Any]) -> AsyncGenerator[Mapping[str, Any], None]:
        """The events of an answer to `/generate`. Where the server has lost the session, everything is sent."""
        session = await self._enter()
        begun = False
        try:
            async with aclosing(self._answer(session, fields)) as events:
                async for event in events:
                    begun = True
                    yield event
            return
        except RequestError as error:
            if begun or "session" not in str(error).lower():
                raise
        finally:
            await self._leave(session)
        if self._current is session:
            self._current = None
        async with aclosing(self._wire.generate(fields)) as events:
            async for event in events:
                yield event

    async def aclose(self) -> None:
        self._current = None
        for session in list(self._open):
            await self._close(session)

    async def _enter(self) -> Session:
        async with self._opening:
            session = self._current
            if session is None or len(session.known) >= KEPT:
                self._current = Session(await self._wire.open_session())
                self._open.append(self._current)
                if session is not None and not session.running:
                    await self._close(session)
                session = self._current
            session.running += 1
            return session

    async def _leave(self, session: Session) -> None:
        session.running -= 1
        if not session.running and session is not self._current and session in self._open:
            with anyio.CancelScope(shield=True), anyio.move_on_after(CLOSE_SECONDS):
                await self._close(session)

    async def _close(self, session: Session) -> None:
        self._open.remove(session)
        await self._wire.close_session(session.id)

    async def _answer(self, session: Session, fields: Mapping[str, Any]) -> AsyncGenerator[Mapping[str, Any], None]:
        """The events of an answer in a session. Others can go on from its prompt when it has ended well."""
        async with aclosing(self._wire.generate(within(session, fields))) as events:
            async for event in events:
                why = event.get("meta_info", {}).get("finish_reason") or {}
                if why.get("type") == "abort" and "session" in str(why.get("message")).lower():
                    raise RequestError(str(why["message"]))
                yield event
        session.known[fields["rid"]] = tuple(fields["input_ids"])


def within(session: Session, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A request as it is sent in a session: after the one with which it has most tokens in common."""
    tokens = tuple(fields["input_ids"])
    found = [(alike(known, tokens), rid) for rid, known in session.known.items()]
    shared, rid = max(found, default=(0, ""))
    shared = min(shared, len(tokens) - 1)
    if shared < 1 or tokens[shared] == tokens[0]:  # of what goes on from another, SGLang drops a bos in front
        return {**fields, "session_params": {"id": session.id}}
    where = {"id": session.id, "rid": rid, "offset": shared}
    return {**fields, "input_ids": list(tokens[shared:]), "session_params": where}

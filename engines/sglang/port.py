"""The port on an SGLang: generations, scores, adapters and sessions, over a wire (see `resent`)."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any

import anyio

from ...errors import (
    AnswerError,
    CapabilityError,
    ContextLengthError,
    EngineError,
    GrammarError,
    RequestError,
    ServerFaultError,
    ServerLostError,
)
from ..base import Grammar, Message
from ..port import Answer, Completion, Part
from .prefixes import Prefixes
from .request import Facts, Read, Take, generate_fields, own_logprobs, score_fields
from .sessions import Sessions
from .wire import Wire

ABORT_SECONDS = 10.0
"""How long is waited for a server to take an abort."""


class SGLangPort:
    """What contexts of token ids need, of an SGLang. `name` is the engine's, for messages."""

    def __init__(self, name: str, wire: Wire, *, sessions: bool) -> None:
        self.name = name
        self.wire = wire
        self.facts = Facts()
        self._sessions = Sessions(wire) if sessions else None
        self._generate = self._sessions.generate if self._sessions is not None else wire.generate
        self._prefixes = Prefixes()
        self._running: set[str] = set()
        self._eos: dict[int, str] = {}

    async def connect(self) -> int:
        self.facts = Facts.read(await self.wire.info())
        return self.facts.window

    async def encode(self, text: str, *, first: bool) -> Sequence[int]:
        return await self.wire.encode(text, special=first)

    async def decode(self, tokens: Sequence[int]) -> str:
        return await self.wire.decode(tokens)

    async def render(self, messages: Sequence[Message]) -> Sequence[int]:
        return await self.wire.render(messages)

    async def complete(self, asked: Completion) -> Answer:
        own = own_logprobs(asked)
        take = Take(asked, incremental=self.facts.incremental)
        async with aclosing(self._events(generate_fields(asked, _rid(), own=own))) as events:
            async for event in events:
                part = take.feed(event)
                self._check(take.why, asked.grammar)
                yield part if not take.why else await self._last(part, take.eos)
        if not take.why:
            raise AnswerError(f"engine '{self.name}' gave an answer without a reason for its end; try again")
        end = take.end()
        if asked.sampling.logprobs and not own and take.tokens:
            tokens, best = (*asked.tokens, *take.tokens), asked.sampling.logprobs
            read = await self._read(tokens, len(asked.tokens), asked.adapter, best=best)
            yield Part("", (), read.chances)
            end = replace(end, reread=read.encoded)
        yield end

    async def score(self, tokens: Sequence[int], start: int, *, adapter: str) -> float:
        return sum(chance.logprob for chance in (await self._read(tokens, start, adapter)).chances)

    async def adapter(self, name: str) -> str:
        if not self.facts.adapters:
            raise CapabilityError(
                f"engine '{self.name}' can't use adapter '{name}': start its server with --enable-lora, or use engine "
                "'local'"
            )
        loaded = await self.wire.adapters()
        if name in loaded:
            return name
        folder = _absolute(name)
        known_as = f"plait-{hashlib.blake2b(folder.encode(), digest_size=8).hexdigest()}"
        if known_as not in loaded:
            await self.wire.load_adapter(known_as, folder)
        return known_as

    async def aclose(self) -> None:
        with anyio.move_on_after(ABORT_SECONDS):
            with suppress(EngineError):  # a server that is gone has nothing to end
                for rid in list(self._running):
                    await self.wire.abort(rid)
                if self._sessions is not None:
                    await self._sessions.aclose()
        await self.wire.aclose()

    # ---- helpers

    async def _events(self, fields: Mapping[str, Any]) -> AsyncGenerator[Mapping[str, Any], None]:
        """The events of an answer. Left early, or closed, it ends the request on the server."""
        rid = fields["rid"]
        encoding = await self._prefixes.enter(tuple(fields["input_ids"]), fields.get("lora_path", ""))
        self._running.add(rid)
        ended = False
        try:
            async with aclosing(self._generate(fields)) as events:
                async for event in events:
                    self._prefixes.leave(encoding)
                    yield event
            ended = True
        except ServerLostError:
            ended = True  # with its server
            raise
        finally:
            self._prefixes.leave(encoding)
            self._running.discard(rid)
            if not ended:
                await self._abort(rid)

    async def _abort(self, rid: str) -> None:
        """Also where this task is cancelled. A server that is gone has nothing to end."""
        with anyio.CancelScope(shield=True), anyio.move_on_after(ABORT_SECONDS), suppress(EngineError):
            await self.wire.abort(rid)

    def _check(self, why: Mapping[str, Any], grammar: Grammar | None = None) -> None:
        """Raise the error of a request that the server has given up."""
        if why.get("type") != "abort":
            return
        message, status = str(why.get("message")), why.get("status_code")
        told = f"engine '{self.name}' gave up: {message}"
        if grammar is not None and "grammar" in message:
            raise GrammarError(told)
        if "context length" in message or "maximum allowed length" in message:
            raise ContextLengthError(told)
        if isinstance(status, int) and 400 <= status < 500:
            raise RequestError(told)
        raise ServerFaultError(told)

    async def _last(self, part: Part, eos: int | None) -> Part:
        """A last part without the name of an end-of-sequence token, and without a character that isn't whole."""
        text = part.text if eos is None else part.text.removesuffix(await self._name_of(eos))
        return Part(text.rstrip("\ufffd"), part.tokens, part.chances)

    async def _name_of(self, token: int) -> str:
        if token not in self._eos:
            self._eos[token] = await self.wire.decode([token])
        return self._eos[token]

    async def _read(self, tokens: Sequence[int], start: int, adapter: str, *, best: int = 0) -> Read:
        """What the server makes of the tokens from `start` on when it reads them."""
        read = Read((), 0)
        fields = score_fields(tokens, start, _rid(), adapter=adapter, best=best)
        async with aclosing(self._events(fields)) as events:
            async for event in events:
                self._check(event["meta_info"].get("finish_reason") or {})
                read = Read.of(event, start, tokens)
        return read


def _absolute(name: str) -> str:
    return os.path.abspath(name)


def _rid() -> str:
    return f"plait-{uuid.uuid4().hex}"

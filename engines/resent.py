"""Resent: engines whose contexts are token ids, and whose server is sent all of them again each time (DESIGN.md §5).

Nothing is sent before something is generated. A fork is free; prune and splice are exact, since what is sent afterwards
is encoded as a fresh prompt. vLLM and SGLang implement `port.Port`; what they have in common is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Self

import anyio

from ..errors import CapabilityError, ContextLengthError, EngineClosedError
from ..usage import Usage
from .base import (
    Capabilities,
    Generation,
    Likely,
    Member,
    Message,
    Prompt,
    TeamStream,
    Teamwork,
    TokenLogprobs,
)
from .conversation import TURN, Conversation
from .port import Chance, Port
from .resent_context import Piece, ResentContext
from .together import side_by_side


class ResentEngine:
    """An engine on a port. It connects when it is entered, or first asked."""

    def __init__(self, name: str, port: Port, capabilities: Capabilities) -> None:
        """`capabilities.window` may be 0 until the port has connected."""
        self.port = port
        self.closed = False
        self._name = name
        self._capabilities = capabilities
        self._connecting = anyio.Lock()
        self._connected = False
        self._names: dict[int, str] = {}
        self._bos: tuple[int, ...] = ()
        self._line: tuple[int, ...] = ()
        """A line's end, where the tokenizer puts a blank in front of each text."""

    @property
    def name(self) -> str:
        return self._name

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def start(self, prompt: Prompt, *, adapter: str = "") -> ResentContext:
        """A new context that holds the prompt. `adapter` is a LoRA adapter's name on the server, or its folder."""
        await self.connect()
        known_as = await self.port.adapter(adapter) if adapter else ""
        empty = ResentContext(self, (), Usage(), adapter=known_as)
        if not isinstance(prompt, str):
            return await self._open(empty, prompt)
        return empty.longer(Piece(tuple(await self.port.encode(prompt, first=True)), prompt))

    def stream_team(self, members: Sequence[Member], work: Teamwork) -> TeamStream:
        raise CapabilityError(
            f"engine '{self._name}' can't run a team in layout '{work.layout}': its server lets no sequence see "
            "another's tokens while they are generated; use engine 'local'"
        )

    async def team(self, members: Sequence[Member], work: Teamwork) -> list[Generation]:
        self.stream_team(members, work)
        return []

    async def aclose(self) -> None:
        self.closed = True
        with anyio.CancelScope(shield=True):
            await self.port.aclose()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    # ---- for contexts

    async def connect(self) -> None:
        """Be ready to be asked."""
        self.check_open()
        async with self._connecting:
            if self._connected:
                return
            window = await self.port.connect()
            self._capabilities = replace(self._capabilities, window=window)
            self._bos = tuple(await self.port.encode("", first=True))
            letter = await self.port.encode("a", first=False)
            if await self.port.decode([*letter, *letter]) == "a a":
                self._line = tuple(await self.port.encode("\n", first=False))
            self._connected = True

    def check_open(self) -> None:
        """Raise EngineClosedError if it is closed."""
        if self.closed:
            raise EngineClosedError(f"engine '{self._name}' is closed")

    def check_length(self, length: int) -> None:
        """Raise ContextLengthError for more tokens than the window holds."""
        window = self._capabilities.window
        if window and length > window:
            raise ContextLengthError(
                f"{length} tokens do not fit the window of {window} of '{self._name}': cut the prompt, or prune"
            )

    async def extend(self, context: ResentContext, prompt: Prompt) -> ResentContext:
        """A context that also holds the prompt; what it adds is tokenised on its own."""
        conversation = context.conversation
        if isinstance(prompt, str):
            added = prompt
        elif conversation is None:
            return await self._open(context, prompt)
        else:
            said = context.text[conversation.opened :]
            added = await self._follow(conversation, said, prompt)
            opened = len(context.text) + len(added)
            conversation = Conversation(conversation.followed_by(said, prompt), opened)
        return context.longer(Piece(await self.encode_more(added), added), conversation=conversation)

    async def encode_more(self, text: str) -> tuple[int, ...]:
        """Tokens of a text that follows others, tokenised on its own, without a blank put in front of it: that is put
        before a line's end then, which is taken off."""
        after = tuple(await self.port.encode("\n" + text if self._line else text, first=False))
        count = len(self._line)
        return after[count:] if after[:count] == self._line else tuple(await self.port.encode(text, first=False))

    async def text_of(self, tokens: Sequence[int], after: Sequence[int] = ()) -> str:
        """The text that tokens add after others, whose last few are enough; without a bos in front."""
        if not after:
            tokens = self._without_bos(tokens)
        if not after or not tokens:
            return await self.port.decode(tokens) if tokens else ""
        whole, before = await self.port.decode([*after[-8:], *tokens]), await self.port.decode(after[-8:])
        return whole[len(before.rstrip("\ufffd")) :]

    async def logprobs(self, chances: Sequence[Chance]) -> tuple[TokenLogprobs, ...]:
        """With the texts of the tokens."""
        tokens = {token for chance in chances for token in (chance.token, *(other for other, _ in chance.best))}
        unknown = [token for token in sorted(tokens) if token not in self._names]
        texts = await side_by_side([partial(self.port.decode, [token]) for token in unknown])
        self._names.update(zip(unknown, texts, strict=True))
        return tuple(
            TokenLogprobs(
                chance.token,
                self._names[chance.token],
                chance.logprob,
                tuple(Likely(token, self._names[token], logprob) for token, logprob in chance.best),
            )
            for chance in chances
        )

    # ---- helpers

    async def _open(self, context: ResentContext, messages: Sequence[Message]) -> ResentContext:
        """With the messages as the beginning of a conversation."""
        tokens: Sequence[int] = await self.port.render(messages)
        if context.length:
            tokens = self._without_bos(tokens)
        text = await self.text_of(tokens, context.tokens)
        conversation = Conversation(tuple(messages), len(context.text) + len(text))
        return context.longer(Piece(tuple(tokens), text), conversation=conversation)

    def _without_bos(self, tokens: Sequence[int]) -> Sequence[int]:
        count = len(self._bos)
        return tokens[count:] if tuple(tokens[:count]) == self._bos else tokens

    async def _follow(self, conversation: Conversation, said: str, messages: Sequence[Message]) -> str:
        """What closes the assistant's turn, in which it said `said`, and what the further messages add."""
        for history in conversation.histories(said, messages):
            rendered = await self.text_of(await self.port.render(history))
            if TURN in rendered:
                return rendered.split(TURN, 1)[1]
        raise CapabilityError(f"chat template of '{self._name}' leaves the assistant's turn out: extend with text")

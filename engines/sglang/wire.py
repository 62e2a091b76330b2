"""The wire: how SGLang is reached, over HTTP (`http`) or in this process (`in_process`). Both raise plait's errors."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Protocol

from ..base import Message


class Wire(Protocol):
    """An SGLang that can be asked."""

    async def info(self) -> Mapping[str, Any]:
        """What it says of itself, as `/server_info` does. Waits until it is ready, where it is started here."""
        ...

    def generate(self, fields: Mapping[str, Any]) -> AsyncGenerator[Mapping[str, Any], None]:
        """The events of an answer to `/generate`."""
        ...

    async def abort(self, rid: str) -> None:
        """End a request that goes on. Says nothing of one that has ended."""
        ...

    async def encode(self, text: str, *, special: bool) -> list[int]:
        """Tokens of a text; with `special` as at the start of a context."""
        ...

    async def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, special ones by their names."""
        ...

    async def render(self, messages: Sequence[Message]) -> list[int]:
        """Tokens of a conversation, with the assistant's turn opened."""
        ...

    async def adapters(self) -> list[str]:
        """The names of the adapters that are loaded."""
        ...

    async def load_adapter(self, name: str, folder: str) -> None:
        """Load an adapter from a folder that the server can read."""
        ...

    async def open_session(self) -> str:
        """A session's id."""
        ...

    async def close_session(self, session: str) -> None:
        """Give up a session; it may be gone."""
        ...

    async def metrics(self) -> str:
        """What `/metrics` says, in Prometheus' text format; empty where metrics are off."""
        ...

    async def aclose(self) -> None:
        """Give up what is held. Idempotent."""
        ...

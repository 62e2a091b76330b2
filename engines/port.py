"""The port: what contexts of token ids need of a server, and nothing of how it is asked (see `resent`)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from .base import Grammar, Message, Sampling, Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A generation to be asked of a server: the tokens to go on from, of a context with this adapter's name.

    `max_tokens` fits the window. `grammar` begins with the first token generated.
    """

    tokens: tuple[int, ...]
    max_tokens: int
    stop: tuple[Stop, ...]
    grammar: Grammar | None
    sampling: Sampling
    adapter: str = ""


@dataclass(frozen=True, slots=True)
class Chance:
    """The log-probability of a token that was sampled, and the likeliest ones in its place, best first; each as the
    model's own, before penalties, bias, grammar and temperature."""

    token: int
    logprob: float
    best: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """What a server has generated since the last part: whole characters of text, and all tokens. Special tokens stand
    in the text by their names. An end-of-sequence token is in neither."""

    text: str
    tokens: tuple[int, ...]
    chances: tuple[Chance, ...] = ()


@dataclass(frozen=True, slots=True)
class End:
    """Why a server has ended, and what it has counted: tokens sent, and those of them found in its cache.

    `stop` is the stop string or token that it met. `reread` tokens were encoded once more, for their chances.
    """

    reason: Literal["stop", "eos", "length"]
    prompt: int
    cached: int
    stop: Stop | None = None
    reread: int = 0


Answer: TypeAlias = AsyncGenerator["Part | End", None]
"""Parts as they come, up to and including a stop string or token (text may go beyond a stop string), and one end.
Closing it early ends the generation on the server."""


class Port(Protocol):
    """What contexts of token ids need of a server. All of it raises plait's errors (engines.remote)."""

    async def connect(self) -> int:
        """Be ready to be asked; the model's window in tokens. Called again after it has failed."""
        ...

    async def encode(self, text: str, *, first: bool) -> Sequence[int]:
        """Tokens of a text: at the start of a context (with bos, where the tokenizer is made so), or of one that
        follows others."""
        ...

    async def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, special ones by their names."""
        ...

    async def render(self, messages: Sequence[Message]) -> Sequence[int]:
        """Tokens of a conversation from its start, with the assistant's turn opened."""
        ...

    def complete(self, asked: Completion) -> Answer:
        """Generate."""
        ...

    async def score(self, tokens: Sequence[int], start: int, *, adapter: str) -> float:
        """The summed log-probability of the tokens from `start` on, each after all before it."""
        ...

    async def adapter(self, name: str) -> str:
        """The name under which the server knows an adapter, given by that or by its folder. Raises CapabilityError."""
        ...

    async def aclose(self) -> None:
        """Cancel what is under way. Idempotent."""
        ...

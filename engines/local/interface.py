"""The door to `transformers`: an attention function under its attention interface, which hands each call to us."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface

NAME = "plait"

MaskFunction = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Call:
    """One layer's call: q [heads, rows, head_dim], k and v [kv_heads, rows, head_dim], as the model made them.

    `mask` is what the handler gave for the mask, `extras` all else that the layer passes on.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    mask: Any
    scaling: float
    softcap: float
    extras: dict[str, Any]


class Handler(Protocol):
    """What answers a model's calls while it runs."""

    def mask(self, function: MaskFunction) -> Tensor | None:
        """What layers with this mask get as their mask."""
        ...

    def attend(self, call: Call) -> Tensor:
        """Returns [rows, heads, head_dim]."""
        ...


_HANDLER: ContextVar[Handler] = ContextVar("plait_attention_handler")


@contextmanager
def handled_by(handler: Handler) -> Iterator[None]:
    """Let a handler answer all calls made in this thread meanwhile."""
    token = _HANDLER.set(handler)
    try:
        yield
    finally:
        _HANDLER.reset(token)


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **options: Any
) -> tuple[Tensor, None]:
    scaling, softcap = options.pop("scaling", None), options.pop("softcap", None)
    call = Call(
        query[0],
        key[0],
        value[0],
        attention_mask,
        query.shape[-1] ** -0.5 if scaling is None else float(scaling),
        softcap or 0.0,
        options,
    )
    return _HANDLER.get().attend(call)[None], None


def _mask(*_: Any, mask_function: MaskFunction, **options: Any) -> Tensor | None:
    return _HANDLER.get().mask(mask_function)


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, _mask)

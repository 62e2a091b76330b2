"""Kernels: attention over views, on tensors alone; they know no model and no graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import UnknownNameError
from .base import Attention, AttentionShape, StepPlan
from .invariant import InvariantAttention
from .plan import KeyRun, QueryBlock
from .reference import ReferenceAttention
from .rope import Rope
from .torch import TorchAttention

KERNELS: dict[str, Callable[[AttentionShape], Attention[Any]]] = {
    "reference": ReferenceAttention,
    "torch": TorchAttention,
    "invariant": InvariantAttention,
}


def attention(shape: AttentionShape, name: str = "auto") -> Attention[Any]:
    """The kernel of that name, made for a model of that shape; `auto` takes the fastest for its device."""
    if name == "auto":
        name = "torch"
    if name not in KERNELS:
        raise UnknownNameError(f"unknown kernel '{name}'; known: auto, {', '.join(KERNELS)}")
    return KERNELS[name](shape)


__all__ = [
    "KERNELS",
    "Attention",
    "AttentionShape",
    "InvariantAttention",
    "KeyRun",
    "QueryBlock",
    "ReferenceAttention",
    "Rope",
    "StepPlan",
    "TorchAttention",
    "attention",
]

"""Backends: who computes a model."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from ...errors import InputError, MissingExtraError
from .decoder import Decoder

if TYPE_CHECKING:
    from .breadth import BreadthModel

Backend: TypeAlias = Literal["decoder", "transformers"]
"""Our decoder, or `transformers` with our attention (more families, slower)."""

KINDS = {"decoder": "local", "transformers": "transformers"}
"""What engines on a backend are called."""


def load_model(
    backend: Backend, directory: Path, *, dtype: str, device: str, kernel: str, batch_invariant: bool
) -> Decoder | BreadthModel:
    """Load a checkpoint. Raises CheckpointError, InputError, UnknownNameError, MissingExtraError."""
    if backend not in KINDS:
        raise InputError(f"unknown backend '{backend}'; known: {', '.join(KINDS)}")
    if backend == "decoder":
        return Decoder.load(directory, dtype=dtype, device=device, kernel=kernel, batch_invariant=batch_invariant)
    if batch_invariant:
        raise InputError("backend 'transformers' can't be batch-invariant: its matrix products are its own")
    if find_spec("transformers") is None:
        raise MissingExtraError("engine 'transformers'", "breadth")
    from .breadth import BreadthModel

    return BreadthModel.load(directory, dtype=dtype, device=device, kernel=kernel)

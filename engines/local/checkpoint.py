"""A checkpoint's tensors: safetensors, in one file or in shards named by an index, each read by name and shape."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...errors import CheckpointError, InputError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
AGAIN = "Fetch or export the checkpoint again"

_HARMLESS = ("rotary_emb.inv_freq",)
"""Tensors that old exports hold and nobody needs."""


class Checkpoint:
    """Opens files on first use and keeps none of the tensors. Every fault is a CheckpointError naming the file."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self._file_of = self._locate()
        self._read: set[str] = set()

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._file_of)

    def tensor(self, name: str, shape: Sequence[int]) -> Tensor:
        """The tensor as it is stored, which must have this shape.

        It is a copy: safetensors hands out the mapped file, and a file may be written anew while its model runs.
        """
        if name not in self._file_of:
            raise CheckpointError(
                f"checkpoint at {self.directory} lacks tensor '{name}', which its config.json calls for. {AGAIN}"
            )
        path = self._file_of[name]
        try:
            with safe_open(path, framework="pt") as file:
                stored = tuple(file.get_slice(name).get_shape())
                if stored != tuple(shape):
                    raise CheckpointError(
                        f"{path}: tensor '{name}' has shape {list(stored)}, but config.json calls for {list(shape)}. "
                        "Use the config.json that belongs to these weights"
                    )
                tensor: Tensor = file.get_tensor(name).clone()
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} can't be read: {error}. {AGAIN}") from error
        if not tensor.is_floating_point():
            raise CheckpointError(
                f"{path}: tensor '{name}' holds {tensor.dtype}; supported: float32, bfloat16, float16. "
                "Use weights that are not quantised"
            )
        self._read.add(name)
        return tensor

    def refuse_unread(self, *, except_for: Iterable[str] = ()) -> None:
        """Raise if a tensor was not asked for: the model would not be the one that was saved."""
        unread = sorted(self.names - self._read - set(except_for))
        unread = [name for name in unread if not name.endswith(_HARMLESS)]
        if unread:
            more = f" and {len(unread) - 1} more" if len(unread) > 1 else ""
            raise CheckpointError(
                f"checkpoint at {self.directory} holds tensor '{unread[0]}'{more}, for which its config.json has no "
                "place. Use the config.json that belongs to these weights"
            )

    # ---- files

    def _locate(self) -> dict[str, Path]:
        """The file of each tensor."""
        if (self.directory / INDEX).is_file():
            return self._locate_shards()
        path = self.directory / SINGLE
        if path.is_file():
            return dict.fromkeys(_names_in(path), path)
        others = sorted(file.name for file in self.directory.glob("*.bin"))
        found = f" (only {others[0]}, which is unsafe to load: convert it to safetensors)" if others else ""
        raise CheckpointError(f"checkpoint at {self.directory} has no {SINGLE}{found}. {AGAIN}")

    def _locate_shards(self) -> dict[str, Path]:
        index = self.directory / INDEX
        try:
            weights: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            placed = {name: self.directory / file for name, file in weights.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{index} can't be read: {type(error).__name__} {error}. {AGAIN}") from error
        for path in sorted(set(placed.values())):
            if not path.is_file():
                raise CheckpointError(f"{path} is missing, but {INDEX} places tensors there. {AGAIN}")
            lost = {name for name, file in placed.items() if file == path} - _names_in(path)
            if lost:
                raise CheckpointError(f"{path} lacks tensor '{min(lost)}', which {INDEX} places there. {AGAIN}")
        return placed


def _names_in(path: Path) -> set[str]:
    try:
        with safe_open(path, framework="pt") as file:
            return set(file.keys())
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} can't be read: {error}. {AGAIN}") from error


DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}
"""What a model can be computed in. float64 is for tests: it holds the engine to its laws beyond rounding."""


def dtype_for(name: str, stored: str, device: torch.device) -> torch.dtype:
    """The type to compute in. `auto`: as stored on a GPU, float32 on a CPU, where torch gains nothing from less."""
    if name == "auto":
        name = stored if device.type == "cuda" and stored in DTYPES else "float32"
    if name not in DTYPES:
        raise InputError(f"unknown dtype '{name}'; known: auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def device_for(name: str) -> torch.device:
    """The device of that name, if it is here."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"unknown device '{name}'; use 'cpu' or 'cuda'") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device '{name}' is not here (torch {torch.__version__} sees no GPU); use 'cpu'")
    return device

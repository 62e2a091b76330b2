"""LoRA adapters as PEFT writes them: adapter_config.json and adapter_model.safetensors, read by module."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from ...errors import CheckpointError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
AGAIN = "Export the adapter again"

_PREFIX = "base_model.model."
_REFUSED = {
    "use_dora": "DoRA",
    "modules_to_save": "whole modules trained beside LoRA",
    "trainable_token_indices": "trained token embeddings",
    "lora_bias": "biases in the low-rank path",
    "fan_in_fan_out": "transposed weights",
    "layer_replication": "replicated layers",
    "target_parameters": "LoRA on parameters outside linear layers",
    "alora_invocation_tokens": "activated LoRA",
    "use_qalora": "QA-LoRA",
    "use_bdlora": "block-diagonal LoRA",
    "arrow_config": "Arrow routing",
    "kasa_config": "KaSA",
    "monteclora_config": "MonteCLoRA",
}
"""Settings that change what an adapter computes, in words; each must be off."""
_HARMLESS_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")
"""How training may have begun; other ways take something off the base weights too, which the file doesn't tell."""


class LoraFiles:
    """An adapter's folder, read whole. Every fault is a CheckpointError naming the file."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        written = self._bytes(CONFIG)
        self._config = self._parsed(written)
        if found := adapter_problems(self._config):
            raise CheckpointError(
                f"adapter at {directory} can't be used: {'; '.join(found)}. Merge it into a checkpoint of its own"
            )
        stored = self._bytes(WEIGHTS)
        try:
            self._tensors: dict[str, Tensor] = load(stored)
        except (SafetensorError, ValueError) as error:
            raise CheckpointError(f"{self.directory / WEIGHTS} can't be read: {error}. {AGAIN}") from error
        self.salt = hashlib.sha256(written + stored).digest()
        """Stands for the content of both files."""
        self._read: set[str] = set()

    def pair(self, module: str, rows: int, columns: int) -> tuple[Tensor, Tensor] | None:
        """What to add to a module's weight [rows, columns] is B·A: A [rank, columns], and B [rows, rank] with the
        adapter's scale in it, both float32 (or float64). None if the adapter leaves the module alone.
        """
        names = [f"{_PREFIX}{module}.lora_{side}.weight" for side in "AB"]
        present = [name for name in names if name in self._tensors]
        if not present:
            return None
        if len(present) < 2:
            raise CheckpointError(f"{self.directory / WEIGHTS} has '{present[0]}' without its other half. {AGAIN}")
        rank = _pattern(self._config.get("rank_pattern"), module, self._config["r"])
        a, b = (self._tensor(name, shape) for name, shape in zip(names, ((rank, columns), (rows, rank)), strict=True))
        return a, b * self._scale(module, rank)

    def refuse_unread(self) -> None:
        """Raise if a tensor, or a module that the config names, was not asked for."""
        if unread := sorted(self._tensors.keys() - self._read):
            raise CheckpointError(
                f"adapter at {self.directory} changes '{unread[0].removeprefix(_PREFIX)}', which is no linear layer "
                "inside the model's layers. Train it on linear layers alone, or merge it into a checkpoint of its own"
            )
        targets = self._config.get("target_modules")
        modules = {name.removesuffix(".weight").rsplit(".lora_", 1)[0] for name in self._read}
        for target in targets if isinstance(targets, list) else ():
            if not any(module.endswith(f".{target}") for module in modules):
                raise CheckpointError(
                    f"adapter at {self.directory} targets '{target}' but changes no such linear layer of this model. "
                    "Use it with the model that it was trained for"
                )

    def _scale(self, module: str, rank: int) -> float:
        alpha = _pattern(self._config.get("alpha_pattern"), module, self._config["lora_alpha"])
        return float(alpha / rank**0.5 if self._config.get("use_rslora") else alpha / rank)

    def _tensor(self, name: str, shape: tuple[int, int]) -> Tensor:
        tensor = self._tensors[name]
        if tuple(tensor.shape) != shape:
            raise CheckpointError(
                f"{self.directory / WEIGHTS}: '{name}' has shape {list(tensor.shape)}, but {CONFIG} and the model call "
                f"for {list(shape)}. Use the adapter with the model that it was trained for"
            )
        if not tensor.is_floating_point():
            raise CheckpointError(f"{self.directory / WEIGHTS}: '{name}' holds {tensor.dtype}, no floats. {AGAIN}")
        self._read.add(name)
        return tensor.to(torch.promote_types(tensor.dtype, torch.float32))

    def _bytes(self, name: str) -> bytes:
        path = self.directory / name
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise CheckpointError(f"no adapter at {self.directory}: {name} is missing. Give a PEFT folder") from None
        except OSError as error:
            raise CheckpointError(f"{path} can't be read: {error}. {AGAIN}") from error

    def _parsed(self, written: bytes) -> dict[str, Any]:
        try:
            config = json.loads(written)
        except ValueError as error:
            raise CheckpointError(f"{self.directory / CONFIG} can't be read: {error}. {AGAIN}") from error
        if not isinstance(config, dict):
            raise CheckpointError(f"{self.directory / CONFIG} is no JSON object. {AGAIN}")
        return config


def adapter_problems(config: Mapping[str, Any]) -> list[str]:
    """All that keeps an adapter from being used, each in one clause; empty if nothing does."""
    if config.get("peft_type") != "LORA":
        return [f"PEFT type '{config.get('peft_type')}' (supported: LORA)"]
    found = [f"{words} ('{name}')" for name, words in _REFUSED.items() if config.get(name)]
    if config.get("bias", "none") != "none":
        found.append(f"trained biases ('bias' is '{config['bias']}'; supported: none)")
    if config.get("init_lora_weights", True) not in _HARMLESS_STARTS:
        found.append(f"a start that changes the base weights ('init_lora_weights' is '{config['init_lora_weights']}')")
    ranks, alphas = _values(config, "r", "rank_pattern"), _values(config, "lora_alpha", "alpha_pattern")
    found += [f"rank {rank!r}, not a positive integer" for rank in ranks if not isinstance(rank, int) or rank < 1]
    found += [f"lora_alpha {alpha!r}, not a number" for alpha in alphas if not isinstance(alpha, int | float)]
    return found


def _values(config: Mapping[str, Any], name: str, patterns: str) -> list[Any]:
    """A setting's value and those that it has for some modules only."""
    return [config.get(name), *(config.get(patterns) or {}).values()]


def _pattern(patterns: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    """The value of the first pattern that the module's name ends with."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default

"""Rotary position embedding (Su et al. 2021, arXiv:2104.09864): its frequencies, and rotations as complex numbers.

Pairs are interleaved here: elements 2i and 2i+1 of a head turn together by frequency i. Checkpoints in Hugging Face
layout pair i with i + head_dim/2; the decoder reorders the rows of their weights once, when it loads them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError

Parameters = Mapping[str, Any]
"""Rope parameters as `transformers` 5 writes them: `rope_type`, `rope_theta` and what the type needs."""


@dataclass(frozen=True, slots=True)
class Rope:
    """Frequencies in radians a position; `scale` is applied once to keys and once to queries (YaRN's mscale)."""

    frequencies: tuple[float, ...]
    scale: float = 1.0

    @classmethod
    def from_parameters(cls, parameters: Parameters, head_dim: int) -> Rope:
        """Raises InputError, naming what is wrong, for parameters that `problems` complains of."""
        if wrong := problems(parameters):
            raise InputError("; ".join(wrong))
        return _VARIANTS[parameters["rope_type"]].make(parameters, head_dim)

    def turns(self, positions: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Rotations to these positions, complex [positions, 1, head_dim / 2] (one for all heads).

        Angles are computed in float64: float32 angles are off by 5e-4 at position 32,000 (FACTS.md §11).
        """
        angles = np.multiply.outer(np.array(positions, dtype=np.float64), np.array(self.frequencies))
        turns = np.empty(angles.shape, np.complex128 if dtype == torch.float64 else np.complex64)
        turns.real, turns.imag = np.cos(angles) * self.scale, np.sin(angles) * self.scale
        return torch.from_numpy(turns[:, None]).to(device)


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Rotate x: [rows, heads, head_dim] by turns: [rows, 1, head_dim / 2]; computed in float32 (or float64)."""
    exact = x.float() if x.itemsize < 4 else x
    pairs = torch.view_as_complex(exact.view(*x.shape[:-1], x.shape[-1] // 2, 2))
    return torch.view_as_real(pairs * turns).flatten(-2).to(x.dtype)


def problems(parameters: Parameters) -> list[str]:
    """All that keeps these parameters from being used, each in one clause; empty if there is nothing."""
    kind = parameters.get("rope_type")
    if kind not in _VARIANTS:
        return [f"rope type '{kind}' (supported: {', '.join(_VARIANTS)})"]
    found = [f"rope parameter '{name}' is missing for rope type '{kind}'" for name in _missing(kind, parameters)]
    found += [f"rope parameter '{name}' is {value!r}, not a positive number" for name, value in _odd(kind, parameters)]
    if parameters.get("partial_rotary_factor", 1.0) != 1.0:
        found.append(f"partial_rotary_factor {parameters['partial_rotary_factor']} (only whole heads are rotated)")
    return found


# ---- variants


def _default(parameters: Parameters, head_dim: int) -> Rope:
    return Rope(_base_frequencies(parameters, head_dim))


def _linear(parameters: Parameters, head_dim: int) -> Rope:
    """Positional interpolation (Chen et al. 2023, arXiv:2306.15595)."""
    factor = parameters["factor"]
    return Rope(tuple(f / factor for f in _base_frequencies(parameters, head_dim)))


def _llama3(parameters: Parameters, head_dim: int) -> Rope:
    """Llama 3.1: long waves are stretched by `factor`, short ones are kept, those between are blended."""
    factor, original = parameters["factor"], parameters["original_max_position_embeddings"]
    low, high = parameters["low_freq_factor"], parameters["high_freq_factor"]

    def stretched(frequency: float) -> float:
        turns = original * frequency / (2 * math.pi)
        kept = min(max((turns - low) / (high - low), 0.0), 1.0)
        return float(frequency * (kept + (1 - kept) / factor))

    return Rope(tuple(stretched(f) for f in _base_frequencies(parameters, head_dim)))


def _yarn(parameters: Parameters, head_dim: int) -> Rope:
    """YaRN (Peng et al. 2023, arXiv:2309.00071): as llama3, but blended over dimensions; attention gets warmer."""
    factor, theta = parameters["factor"], parameters["rope_theta"]

    def dimension(turns: float) -> float:
        """The dimension whose wave turns this often within the original window."""
        window = parameters["original_max_position_embeddings"]
        return head_dim * math.log(window / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = dimension(parameters.get("beta_fast") or 32), dimension(parameters.get("beta_slow") or 1)
    if parameters.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    width = high - low or 0.001

    def stretched(i: int, frequency: float) -> float:
        kept = 1 - min(max((i - low) / width, 0.0), 1.0)
        return float(frequency * (kept + (1 - kept) / factor))

    frequencies = _base_frequencies(parameters, head_dim)
    return Rope(tuple(stretched(i, f) for i, f in enumerate(frequencies)), _yarn_scale(parameters))


def _yarn_scale(parameters: Parameters) -> float:
    given = parameters.get("attention_factor")
    if given is not None:
        return float(given)

    def mscale(weight: float) -> float:
        return 0.1 * weight * math.log(parameters["factor"]) + 1 if parameters["factor"] > 1 else 1.0

    weight, weight_all = parameters.get("mscale"), parameters.get("mscale_all_dim")
    return mscale(weight) / mscale(weight_all) if weight and weight_all else mscale(1.0)


@dataclass(frozen=True, slots=True)
class _Variant:
    make: Callable[[Parameters, int], Rope]
    needs: tuple[str, ...]


_VARIANTS = {
    "default": _Variant(_default, ("rope_theta",)),
    "linear": _Variant(_linear, ("rope_theta", "factor")),
    "llama3": _Variant(
        _llama3,
        ("rope_theta", "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    ),
    "yarn": _Variant(_yarn, ("rope_theta", "factor", "original_max_position_embeddings")),
}


_OPTIONAL = ("attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim")


def _base_frequencies(parameters: Parameters, head_dim: int) -> tuple[float, ...]:
    return tuple(parameters["rope_theta"] ** (-2 * i / head_dim) for i in range(head_dim // 2))


def _missing(kind: str, parameters: Parameters) -> list[str]:
    return [name for name in _VARIANTS[kind].needs if parameters.get(name) is None]


def _odd(kind: str, parameters: Parameters) -> list[tuple[str, object]]:
    given = [(name, parameters[name]) for name in _VARIANTS[kind].needs + _OPTIONAL if parameters.get(name) is not None]
    return [(name, value) for name, value in given if not _is_positive(value)]


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0

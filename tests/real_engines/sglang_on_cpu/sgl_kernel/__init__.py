"""A shim, for tests only: SGLang's CUDA kernels by name. What is run on a CPU calls none; whatever does, fails."""

from __future__ import annotations

from typing import Any

__version__ = "0.0.0+shim"


class _Kernel:
    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError(f"sgl_kernel.{self._name} was called: it does not exist on a CPU, and this is only a shim")


def __getattr__(name: str) -> _Kernel:
    if name.startswith("__"):
        raise AttributeError(name)
    return _Kernel(name)

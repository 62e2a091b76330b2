"""Prints what SGLang needs beside torch on a CPU: its own requirements, less those that are for CUDA."""

from __future__ import annotations

import re
from importlib.metadata import requires

CUDA = re.compile(
    r"cuda-|flash-attn|flashinfer|humming|kernels|nvidia-|nvshmem|quack|sgl-|sglang-kernel|tilelang|timm|torch"
)


def main() -> None:
    found = [line for line in requires("sglang") or [] if "extra ==" not in line]
    print("\n".join(line for line in found if not CUDA.match(line)))


if __name__ == "__main__":
    main()

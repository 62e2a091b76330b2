"""A shim, for tests only: lets torchvision's CUDA build be imported beside a torch without CUDA.

Its operators do not register there, and its import fails for want of two schemas. They are declared just before it is
imported, in SGLang's own processes too, which is why this is a `sitecustomize`. Nothing that SGLang runs for text calls
them.
"""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from typing import Any

_DECLARED: list[Any] = []


class _BeforeTorchvision(MetaPathFinder):
    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name != "torchvision":
            return
        sys.meta_path.remove(self)
        import torch

        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _DECLARED.append(library)  # an operator lives as long as its library


sys.meta_path.insert(0, _BeforeTorchvision())

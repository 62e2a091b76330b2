"""Where the user's code is: the nearest frame outside of the orchestrator."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from .graph import Where

_HERE = str(Path(__file__).parent)


def caller(file: str = "") -> Where:
    """The line that called into the orchestrator; `file` names another file to show in the same way."""
    frame = _outside()
    return Where(_short(file or frame.f_code.co_filename), frame.f_lineno)


def local_names() -> Mapping[str, Any]:
    """The names that the calling code sees: annotations may use classes defined inside a function."""
    return dict(_outside().f_locals)


def _outside() -> FrameType:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_HERE):
        frame = frame.f_back
    if frame is None:
        raise RuntimeError("called from nowhere")
    return frame


@cache
def _short(file: str) -> str:
    path = Path(file)
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return path.name

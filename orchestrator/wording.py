"""How nodes and values are named: seeds, parts of paths, calls and results as short text."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from ..errors import ToolError
from ..tools import Tool, render

SUMMARY_LENGTH = 200


def derive_seed(seed: int, path: str, *rest: int) -> int:
    """A seed for one thing in a run: the same for the same arguments on every machine. 63 bits."""
    text = "\0".join([str(seed), path, *map(str, rest)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def slug(title: str, length: int = 24) -> str:
    """A title as a part of a path."""
    words = "".join(letter if letter.isalnum() else " " for letter in title[: 2 * length]).split()
    return "-".join(words)[:length].strip("-") or "node"


def show_call(tool: Tool, arguments: Mapping[str, object]) -> str:
    """A call as it is written in code, cut short."""
    known = {name: "[secret]" if name in tool.secret else value for name, value in dict(arguments).items()}
    shown = f"{tool.name}({', '.join(f'{name}={value!r}' for name, value in known.items())})"
    return shown if len(shown) <= SUMMARY_LENGTH else shown[: SUMMARY_LENGTH - 1] + "…"


def summarise(value: object) -> str:
    """A value as text, cut short."""
    try:
        text = "" if value is None else render(value)
    except ToolError:
        text = repr(value)
    return text if len(text) <= SUMMARY_LENGTH else text[: SUMMARY_LENGTH - 1] + "…"

"""The catalogue of engines: from a name such as `local:MODEL_DIR` to an engine."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ..errors import MissingExtraError, UnknownNameError

if TYPE_CHECKING:
    from pathlib import Path

    from .base import Engine

NAMES = (
    "local",
    "local:MODEL_DIR",
    "transformers:MODEL_DIR",
    "scripted:FILE.json",
    "openai:MODEL",
    "openai:MODEL@URL",
    "vllm:URL",
    "vllm:MODEL_DIR",
    "sglang:URL",
    "sglang:MODEL_DIR",
    "roles:FILE.json",
)

ABLE = ("local", "scripted")
"""Engines that offer all that a node of a graph may need."""


def open_engine(name: str = "local", **options: Any) -> Engine:
    """Open an engine by name: `local` (the embedded model), `local:MODEL_DIR`, `transformers:MODEL_DIR` (the local
    engine with a model of any family that `transformers` has and views can serve), `scripted:FILE.json`,
    `openai:MODEL@URL` (a server that speaks OpenAI's protocol; without a URL, OpenAI itself), `vllm:URL` (a vLLM
    server), `vllm:MODEL_DIR` (one that is started for the engine, or vLLM in this process with `in_process=True`),
    `sglang:URL`, `sglang:MODEL_DIR` (the same of SGLang), `roles:FILE.json` (a table of engines by role, see `Roles`).

    `options` go to the engine's constructor. Raises UnknownNameError, InputError, CheckpointError, MissingExtraError.
    """
    kind, _, argument = name.partition(":")
    if kind == "local":
        return _open_local(argument, options)
    if kind == "transformers" and argument:
        return _open_local(argument, {"backend": "transformers", **options})
    if kind == "scripted" and argument:
        from .scripted import ScriptedEngine

        return ScriptedEngine.from_file(argument)
    if kind == "roles" and argument:
        from .roles import Roles, read_roles

        return Roles.open(read_roles(argument))
    if kind == "openai" and argument:
        return _open_openai(argument, options)
    if kind == "sglang" and argument:
        return _open_sglang(argument, options)
    if kind == "vllm" and argument:
        return _open_vllm(argument, options)
    shown = re.sub(r"//[^/]*@", "//…@", name)  # what stands there may be a key
    raise UnknownNameError(f"unknown engine '{shown}'; known: {', '.join(NAMES)}")


def _open_local(directory: str, options: dict[str, Any]) -> Engine:
    try:
        from .local import LocalEngine
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] == "plait":
            raise
        raise MissingExtraError("engine 'local'", "local") from error
    path: str | Path = directory or LocalEngine.EMBEDDED
    return LocalEngine.open(path, **options)


def _open_openai(argument: str, options: dict[str, Any]) -> Engine:
    try:
        from .openai import OpenAIEngine
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] == "plait":
            raise
        raise MissingExtraError("engine 'openai'", "openai") from error
    return OpenAIEngine.named(argument, **options)


def _open_sglang(argument: str, options: dict[str, Any]) -> Engine:
    from .sglang import SGLangEngine

    return SGLangEngine.named(argument, **options)


def _open_vllm(argument: str, options: dict[str, Any]) -> Engine:
    from .vllm import VllmEngine

    return VllmEngine.named(argument, **options)

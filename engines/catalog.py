"""The catalogue of engines: from a name such as `local:MODEL_DIR` to an engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import MissingExtraError
from .kinds import Kind, kind_of

if TYPE_CHECKING:
    from pathlib import Path

    from .base import Engine


def open_engine(name: str = "local", **options: Any) -> Engine:
    """Open an engine by name: `local` (the embedded model), `local:MODEL_DIR`, `transformers:MODEL_DIR` (the local
    engine with a model of any family that `transformers` has and views can serve), `scripted:FILE.json`,
    `openai:MODEL@URL` (a server that speaks OpenAI's protocol; without a URL, OpenAI itself), `vllm:URL` (a vLLM
    server), `vllm:MODEL_DIR` (one that is started for the engine, or vLLM in this process with `in_process=True`),
    `sglang:URL`, `sglang:MODEL_DIR` (the same of SGLang), `roles:FILE.json` (a table of engines by role, see `Roles`).

    `options` go to the engine's constructor. Raises UnknownNameError, InputError, CheckpointError, MissingExtraError.
    """
    kind, argument = kind_of(name), name.partition(":")[2]
    if kind.name in ("local", "transformers"):
        return _open_local(kind, argument, options)
    if kind.name == "openai":
        return _open_openai(kind, argument, options)
    if kind.name == "vllm":
        return _open_vllm(kind, argument, options)
    if kind.name == "sglang":
        return _open_sglang(kind, argument, options)
    return _open_roles(argument) if kind.name == "roles" else _open_scripted(argument)


def _open_local(kind: Kind, directory: str, options: dict[str, Any]) -> Engine:
    with _installed(kind):
        from .local import LocalEngine

    path: str | Path = directory or LocalEngine.EMBEDDED
    backend = {"backend": "transformers"} if kind.name == "transformers" else {}
    return LocalEngine.open(path, **{**backend, **options})


def _open_openai(kind: Kind, argument: str, options: dict[str, Any]) -> Engine:
    with _installed(kind):
        from .openai import OpenAIEngine

    return OpenAIEngine.named(argument, **options)


def _open_vllm(kind: Kind, argument: str, options: dict[str, Any]) -> Engine:
    with _installed(kind):
        from .vllm import VllmEngine

    return VllmEngine.named(argument, **options)


def _open_sglang(kind: Kind, argument: str, options: dict[str, Any]) -> Engine:
    with _installed(kind):
        from .sglang import SGLangEngine

    return SGLangEngine.named(argument, **options)


def _open_scripted(file: str) -> Engine:
    from .scripted import ScriptedEngine

    return ScriptedEngine.from_file(file)


def _open_roles(file: str) -> Engine:
    from .roles import Roles, read_roles

    return Roles.open(read_roles(file))


@contextmanager
def _installed(kind: Kind) -> Iterator[None]:
    """Raise MissingExtraError where an import of others' packages fails."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] == "plait":
            raise
        raise MissingExtraError(f"engine '{kind.name}'", kind.extra) from error

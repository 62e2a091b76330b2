"""The vLLM engine (DESIGN.md §5): a server at an address, a server of one's own, or vLLM in this process.

    open_engine("vllm:http://HOST:PORT")         a server that runs
    open_engine("vllm:MODEL_DIR")                a server that is started for this engine, and stopped with it
    open_engine("vllm:MODEL_DIR", in_process=True)

Contexts hold token ids, and each request sends all of them: the server finds what it has in its prefix cache and says
how much, which is `usage.cached`. What the server should be started with, since plait asks for it:

- `--enable-prompt-tokens-details`: it then says what it found in its cache.
- `--structured-outputs-config '{"backend": "guidance", "disable_any_whitespace": true}'`: with xgrammar 0.2 strings
  with a maxLength may hold raw control characters, which are no JSON: such an answer is a GrammarError here.
- `--generation-config vllm`, and `--max-logprobs` for as many as are asked for (20 by default).

A server of one's own is started so. Teams, `embed`, parallel splices and going on within a grammar are refused.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import CheckpointError, MissingExtraError
from ..base import Capabilities
from ..child import Child, free_port
from ..http import Http
from ..kinds import VLLM
from ..remote import Server
from ..resent import ResentEngine
from .counters import Counters
from .in_process import InProcessPort
from .server import OwnServerPort, ServerPort
from .wire import STRUCTURED

PYTHON = "PLAIT_VLLM_PYTHON"
"""The environment variable that names the Python of an environment with vLLM, for servers of one's own."""
_SPACE = "VLLM_CPU_KVCACHE_SPACE"

_AT = re.compile(r"(?:([^@]+?)@)?(https?://.*)", re.DOTALL)

_CAN = replace(VLLM, adapters=False)
"""What it can do before its server has said whether it takes adapters."""


class VllmEngine(ResentEngine):
    """A model behind vLLM. Make it with `VllmEngine.at`, `VllmEngine.server` or `VllmEngine.in_process`."""

    def __init__(self, name: str, port: ServerPort | InProcessPort) -> None:
        super().__init__(name, port, _CAN)
        self._port = port

    @classmethod
    def named(cls, argument: str, *, in_process: bool = False, **options: Any) -> VllmEngine:
        """From `http://HOST:PORT`, `MODEL@http://HOST:PORT` or a checkpoint's folder. Raises InputError,
        CheckpointError, MissingExtraError."""
        found = _AT.fullmatch(argument)
        if found:
            return cls.at(found[2], **{"model": found[1] or "", **options})
        return cls.in_process(argument, **options) if in_process else cls.server(argument, **options)

    @classmethod
    def at(
        cls,
        url: str,
        *,
        model: str = "",
        key: str = "",
        priority: int = 0,
        cache_salt: str = "",
        timeout: float = 600.0,
        connect: float = 10.0,
    ) -> VllmEngine:
        """The server at a base URL such as http://HOST:PORT, which is asked when the engine is entered.

        `model` is one of the server's, its first by default. `key` names the environment variable of its key. Requests
        of a lower `priority` go first, on a server started with `--scheduling-policy priority`. Prefixes are shared
        only by those who send the same `cache_salt`: one for each tenant. `timeout` is in seconds for each read.
        Raises InputError.
        """
        url = url.rstrip("/").removesuffix("/v1")
        name = f"vllm:{url}" if not model else f"vllm:{model}@{url}"
        http = Http(Server.at(name, url, variable=key), timeout=timeout, connect=connect)
        return cls(name, ServerPort(name, http, model=model, priority=priority, cache_salt=cache_salt))

    @classmethod
    def server(
        cls,
        model: str | Path,
        *,
        python: str = "",
        args: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        lora: bool = False,
        priority: int = 0,
        cache_salt: str = "",
        start_seconds: float = 600.0,
        timeout: float = 600.0,
    ) -> VllmEngine:
        """A checkpoint on a server that is started when the engine is entered, on a free port of this machine alone,
        and stopped when it is closed.

        `python` is the Python of an environment that has vLLM: by default that of PLAIT_VLLM_PYTHON, or this one.
        `args` are further arguments of vLLM's, `environment` further variables. With `lora` it takes adapters. It has
        `start_seconds` to be ready. Raises CheckpointError, MissingExtraError.
        """
        directory = _checked(model)
        name, port = f"vllm:{directory.name}", free_port()
        command = [_python(python), "-m", "vllm.entrypoints.openai.api_server", *_arguments(directory, port, lora)]
        child = Child(name, [*command, *args], environment={**_environment(lora), **(environment or {})})
        http = Http(Server.at(name, f"http://127.0.0.1:{port}"), timeout=timeout)
        owned = OwnServerPort(name, http, child, seconds=start_seconds, priority=priority, cache_salt=cache_salt)
        return cls(name, owned)

    @classmethod
    def in_process(
        cls,
        model: str | Path,
        *,
        lora: bool = False,
        priority: int = 0,
        cache_salt: str = "",
        options: Mapping[str, Any] | None = None,
    ) -> VllmEngine:
        """A checkpoint on vLLM's `AsyncLLM`, made in this process when the engine is entered, for the event loop (of
        asyncio) that it is entered in. `options` are arguments of `AsyncEngineArgs`. Raises CheckpointError,
        MissingExtraError."""
        directory = _checked(model)
        if importlib.util.find_spec("vllm") is None:
            raise MissingExtraError("engine 'vllm' in this process", "vllm")
        name = f"vllm:{directory.name}"
        port = InProcessPort(
            name, directory, options=options or {}, priority=priority, cache_salt=cache_salt, lora=lora
        )
        return cls(name, port)

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, adapters=self._port.adapters)

    @property
    def url(self) -> str:
        """The server's address; empty in this process."""
        return self._port.http.server.url if isinstance(self._port, ServerPort) else ""

    @property
    def keys(self) -> Mapping[str, str]:
        """The key that its server is asked with, by its environment variable."""
        server = self._port.http.server if isinstance(self._port, ServerPort) else None
        return {server.variable: server.key} if server is not None and server.key else {}

    @property
    def child(self) -> Child | None:
        """The server of one's own, where there is one."""
        return self._port.child if isinstance(self._port, OwnServerPort) else None

    async def counters(self) -> Counters:
        """What the server has counted since it started, for all who use it; or all engines in this process."""
        await self.connect()
        return await self._port.counters()


def _checked(model: str | Path) -> Path:
    directory = Path(model)
    if not (directory / "config.json").is_file():
        raise CheckpointError(
            f"{directory} is no checkpoint: it has no config.json. Name a model's folder, or a server as "
            "vllm:http://HOST:PORT"
        )
    return directory.resolve()


def _python(python: str) -> str:
    """The Python that has vLLM."""
    chosen = python or os.environ.get(PYTHON, "")
    if not chosen and importlib.util.find_spec("vllm") is None:
        raise MissingExtraError(f"engine 'vllm:MODEL_DIR' (without {PYTHON}, the Python of an environment)", "vllm")
    return chosen or sys.executable


def _arguments(directory: Path, port: int, lora: bool) -> list[str]:
    found = ["--model", str(directory), "--served-model-name", directory.name, "--host", "127.0.0.1"]
    found += ["--port", str(port), "--generation-config", "vllm", "--enable-prompt-tokens-details"]
    found += ["--structured-outputs-config", json.dumps(STRUCTURED)]
    found += ["--enable-lora"] if lora else []
    return found if _has_gpu() else [*found, "--enforce-eager"]


def _environment(lora: bool) -> dict[str, str]:
    found = {"VLLM_NO_USAGE_STATS": "1", "PYTHONSAFEPATH": "1"}  # modules of the current folder are not vLLM's
    found |= {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"} if lora else {}
    if not _has_gpu() and _SPACE not in os.environ:
        found[_SPACE] = "1"  # GiB for K/V, where vLLM would take half of the machine's memory
    return found


def _has_gpu() -> bool:
    return shutil.which("nvidia-smi") is not None or shutil.which("rocm-smi") is not None

"""The SGLang engine (DESIGN.md §5): a server at an address, a server of one's own, or SGLang in this process.

    open_engine("sglang:http://HOST:PORT")         a server that runs, or the router before several
    open_engine("sglang:MODEL_DIR")                a server that is started for this engine, and stopped with it
    open_engine("sglang:MODEL_DIR", in_process=True)

Contexts hold token ids and go through SGLang's native API: what was generated is sent again exactly as it was, and the
server finds it in its prefix cache and says how much, which is `usage.cached`. What depends on how the server was
started is known once the engine is entered:

- `--enable-deterministic-inference`: only then do seeds count.
- `--enable-lora`: it then takes adapters, by the names that it knows or by folders that it can read.
- `--grammar-backend`: which grammars it holds to. With xgrammar 0.2, strings with a maxLength may hold raw control
  characters, which are no JSON: such an answer is a GrammarError here. llguidance has no such fault.
- `--constrained-json-disable-any-whitespace`: JSON is then compact whatever the backend.
- `--incremental-streaming-output`: events of a stream then hold only what is new. `--enable-metrics`: for `counters`.

A server of one's own is started with the latter four.

Of forks that come at once SGLang would have each encode the whole context: they wait here until the first one has (see
`prefixes`). It takes log-probabilities after penalties, bias, grammar and temperature: where there are such, it reads
once more what it has said, for the model's own. Teams, `embed`, parallel splices, `shift`, Lark grammars, going
on within a grammar and a repetition penalty (it applies it to less than plait means by it) are refused.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import CheckpointError, MissingExtraError
from ..child import Child, free_port
from ..http import Http
from ..kinds import SGLANG
from ..remote import Server
from ..resent import ResentEngine
from .counters import Counters
from .http import ChildWire, HttpWire
from .in_process import InProcessWire
from .port import SGLangPort
from .wire import Wire

PYTHON = "PLAIT_SGLANG_PYTHON"
"""The environment variable that names the Python of an environment with SGLang, for servers of one's own."""

_CAN = replace(SGLANG, seeds=False)
"""What it can do before its server has said how it was started."""


class SGLangEngine(ResentEngine):
    """A model behind SGLang. Make it with `SGLangEngine.at`, `SGLangEngine.server` or `SGLangEngine.in_process`.

    With `sessions` each request sends only what it adds to an earlier one (see `sessions`): of use where contexts are
    long and the way to the server is narrow, and only where all requests reach one server.
    """

    def __init__(self, name: str, wire: Wire, *, sessions: bool = False) -> None:
        self._sglang = SGLangPort(name, wire, sessions=sessions)
        super().__init__(name, self._sglang, _CAN)

    @classmethod
    def named(cls, argument: str, *, in_process: bool = False, **options: Any) -> SGLangEngine:
        """From `http://HOST:PORT` or a checkpoint's folder. Raises InputError, CheckpointError, MissingExtraError."""
        if argument.startswith(("http://", "https://")):
            return cls.at(argument, **options)
        return cls.in_process(argument, **options) if in_process else cls.server(argument, **options)

    @classmethod
    def at(
        cls, url: str, *, key: str = "", sessions: bool = False, timeout: float = 600.0, connect: float = 10.0
    ) -> SGLangEngine:
        """The server at an address such as http://HOST:PORT, which is asked when the engine is entered.

        `key` names the environment variable of its key. `timeout` is in seconds for each read, `connect` for a
        connection. Raises InputError.
        """
        url = url.rstrip("/").removesuffix("/v1")
        name = f"sglang:{url}"
        http = Http(Server.at(name, url, variable=key), timeout=timeout, connect=connect)
        return cls(name, HttpWire(http), sessions=sessions)

    @classmethod
    def server(
        cls,
        model: str | Path,
        *,
        python: str = "",
        args: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        sessions: bool = False,
        start_seconds: float = 900.0,
        timeout: float = 600.0,
    ) -> SGLangEngine:
        """A checkpoint on a server that is started when the engine is entered, on a free port of this machine alone,
        and stopped when it is closed.

        `python` is the Python of an environment that has SGLang: by default that of PLAIT_SGLANG_PYTHON, or this one.
        `args` are further arguments of SGLang's (`("--tp", "4")`), `environment` further variables. It has
        `start_seconds` to be ready. Raises CheckpointError, MissingExtraError.
        """
        directory = _checked(model)
        name, port = f"sglang:{directory.name}", free_port()
        command = [_python(python), "-m", "sglang.launch_server", *_arguments(directory, port), *args]
        child = Child(name, command, environment={**_environment(), **(environment or {})})
        http = Http(Server.at(name, f"http://127.0.0.1:{port}"), timeout=timeout)
        return cls(name, ChildWire(http, child, seconds=start_seconds), sessions=sessions)

    @classmethod
    def in_process(
        cls, model: str | Path, *, sessions: bool = False, options: Mapping[str, Any] | None = None
    ) -> SGLangEngine:
        """A checkpoint on an `sglang.Engine`, made in this process when the engine is entered, for the event loop (of
        asyncio) that it is entered in. `options` are arguments of `sglang.Engine`. Raises CheckpointError,
        MissingExtraError."""
        directory = _checked(model)
        if importlib.util.find_spec("sglang") is None:
            raise MissingExtraError("engine 'sglang' in this process", "sglang")
        name = f"sglang:{directory.name}"
        return cls(name, InProcessWire(name, directory, options or {}), sessions=sessions)

    @property
    def url(self) -> str:
        """The address of its server; empty in process."""
        wire = self._sglang.wire
        return wire.http.server.url if isinstance(wire, HttpWire) else ""

    @property
    def child(self) -> Child | None:
        """The server of its own, if it has one."""
        wire = self._sglang.wire
        return wire.child if isinstance(wire, ChildWire) else None

    @property
    def keys(self) -> Mapping[str, str]:
        """The key that its server is asked with, by its environment variable."""
        wire = self._sglang.wire
        server = wire.http.server if isinstance(wire, HttpWire) else None
        return {server.variable: server.key} if server is not None and server.key else {}

    async def connect(self) -> None:
        await super().connect()
        facts = self._sglang.facts
        self._capabilities = replace(
            self._capabilities, seeds=facts.seeds, adapters=facts.adapters, grammars=facts.grammars
        )

    async def counters(self) -> Counters:
        """What the server has counted since it started, for all who use it. Raises CapabilityError in process, and
        UnknownModelError where its metrics are off."""
        await self.connect()
        return Counters.read(await self._sglang.wire.metrics())


def _checked(model: str | Path) -> Path:
    directory = Path(model)
    if not (directory / "config.json").is_file():
        raise CheckpointError(
            f"{directory} is no checkpoint: it has no config.json. Name a model's folder, or a server as "
            "sglang:http://HOST:PORT"
        )
    return directory.resolve()


def _python(python: str) -> str:
    """The Python that has SGLang."""
    chosen = python or os.environ.get(PYTHON, "")
    if not chosen and importlib.util.find_spec("sglang") is None:
        raise MissingExtraError(f"engine 'sglang:MODEL_DIR' (without {PYTHON}, the Python of an environment)", "sglang")
    return chosen or sys.executable


def _arguments(directory: Path, port: int) -> list[str]:
    found = ["--model-path", str(directory), "--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
    found += ["--enable-metrics", "--incremental-streaming-output"]
    found += ["--grammar-backend", "llguidance", "--constrained-json-disable-any-whitespace"]
    return found if _has_gpu() else [*found, "--device", "cpu", "--disable-overlap-schedule"]


def _environment() -> dict[str, str]:
    safe = {"PYTHONSAFEPATH": "1"}  # a folder here that is called like one of its packages is none of its business
    return safe if _has_gpu() else {**safe, "SGLANG_USE_CPU_ENGINE": "1"}


def _has_gpu() -> bool:
    return shutil.which("nvidia-smi") is not None or shutil.which("rocm-smi") is not None

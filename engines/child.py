"""Child: a server that is started for one engine, and stopped with it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from weakref import finalize

import anyio
import anyio.to_thread

from ..errors import EngineError, ServerTimeoutError, TransientEngineError

_SHOWN = 1500
"""Characters of the end of its log that an error shows."""
_LOOK = 0.2
"""Seconds between two looks at it."""


def free_port() -> int:
    """A port of this machine that nobody listens to."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Child:
    """A server process with all that it starts. What it prints goes to a file, whose end is shown if it fails.

    It ends with `stop`; at the latest when the child is collected, or with this process if that ends in order.
    """

    def __init__(self, name: str, command: Sequence[str], *, environment: Mapping[str, str]) -> None:
        """`name` is the engine's, for messages; `environment` is added to this process's."""
        self.name = name
        self._command = list(command)
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None
        self._log: Path | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id; 0 before it is started."""
        return self._process.pid if self._process is not None else 0

    async def start(self, ready: Callable[[], Awaitable[object]], *, seconds: float) -> None:
        """Start it, and wait until `ready` raises no passing error. Raises EngineError if it ends instead, and
        ServerTimeoutError if it takes longer than `seconds`; then it is stopped."""
        self._launch()
        try:
            await self._wait(ready, seconds)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.stop()
            raise

    async def stop(self, *, seconds: float = 30.0) -> None:
        """Ask it to leave and wait until it has; after so many seconds end it by force. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(_end, process, seconds)
        if self._log is not None:
            self._log.unlink(missing_ok=True)

    def _launch(self) -> None:
        handle, path = tempfile.mkstemp(prefix="plait-", suffix=".log")
        self._log = Path(path)
        try:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=handle,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a group of its own, to be ended as a whole
            )
        except OSError as error:
            raise EngineError(f"engine '{self.name}': {self._command[0]} can't be started: {error}") from error
        finally:
            os.close(handle)
        finalize(self, _end, self._process)
        finalize(self, Path.unlink, self._log, missing_ok=True)

    async def _wait(self, ready: Callable[[], Awaitable[object]], seconds: float) -> None:
        until = monotonic() + seconds
        while True:
            try:
                await ready()
                return
            except TransientEngineError as error:
                if not self.running:
                    raise EngineError(f"engine '{self.name}': its server ended as it began. {self._said()}") from None
                if monotonic() > until:
                    raise ServerTimeoutError(
                        f"engine '{self.name}': its server is not ready after {seconds:g} seconds ({error}); give it "
                        f"more with start_seconds=. {self._said()}"
                    ) from None
            await anyio.sleep(_LOOK)

    def _said(self) -> str:
        """The end of what it has printed."""
        text = self._log.read_text(errors="replace").strip() if self._log is not None else ""
        return f"It said at last:\n{text[-_SHOWN:]}" if text else "It said nothing"


def _end(process: subprocess.Popen[bytes], seconds: float = 10.0) -> None:
    """Ask it to leave, and end by force what has not left after so many seconds, or has outlived it."""
    _signal(process, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # it has left, with all that it started
        os.killpg(process.pid, number)

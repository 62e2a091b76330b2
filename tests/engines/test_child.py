"""Servers of one's own: started, waited for, and ended with all that they have started."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from plait.engines.child import Child, free_port
from plait.errors import EngineError, ServerLostError, ServerTimeoutError

pytestmark = pytest.mark.anyio
SERVER = """
import pathlib, subprocess, sys, time
inner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path(sys.argv[1]).write_text(str(inner.pid))
time.sleep(600)
"""


def child(code: str, *args: object) -> Child:
    return Child("e:m", [sys.executable, "-c", code, *map(str, args)], environment={"MINE": "1"})


def holds_text(path: Path) -> bool:
    return path.exists() and path.read_text() != ""


def ready_when(there: Path) -> Callable[[], Awaitable[None]]:
    async def ready() -> None:
        if not holds_text(there):
            raise ServerLostError("not yet")

    return ready


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


def has_ended(pid: int) -> bool:
    """Wait until it has, for a minute."""
    until = time.monotonic() + 60
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.01)
    return not alive(pid)


async def test_it_is_waited_for_and_ends_with_what_it_has_started(tmp_path: Path) -> None:
    server, said = child(SERVER, tmp_path / "pid"), tmp_path / "pid"
    await server.start(ready_when(said), seconds=60)
    inner = int(said.read_text())
    assert server.running
    assert alive(inner)
    await server.stop()
    assert not server.running
    assert await anyio.to_thread.run_sync(has_ended, inner)
    await server.stop()


async def test_one_that_ends_at_once_shows_what_it_said() -> None:
    server = child("import os, sys; sys.exit('no such model, ' + os.environ['MINE'])")

    async def ready() -> None:
        raise ServerLostError("not yet")

    with pytest.raises(EngineError, match="no such model, 1"):
        await server.start(ready, seconds=60)
    assert not server.running


async def test_one_that_is_never_ready_is_ended(tmp_path: Path) -> None:
    server = child(SERVER, tmp_path / "pid")
    with pytest.raises(ServerTimeoutError, match="start_seconds"):
        await server.start(ready_when(tmp_path / "never"), seconds=0)
    assert not server.running


async def test_one_that_ignores_the_request_to_leave_is_ended_by_force(tmp_path: Path) -> None:
    code = SERVER.replace("import", "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\nimport", 1)
    server = child(code, tmp_path / "up")
    await server.start(ready_when(tmp_path / "up"), seconds=60)
    pid = server.pid
    await server.stop(seconds=0.1)
    assert not alive(pid)


async def test_what_can_not_be_started_is_named() -> None:
    with pytest.raises(EngineError, match="/no/such/python"):
        await Child("e:m", ["/no/such/python"], environment={}).start(anyio.sleep_forever, seconds=1)


def test_a_free_port_can_be_listened_to() -> None:
    assert 0 < free_port() < 1 << 16
    assert os.name == "posix"

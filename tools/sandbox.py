"""The Python sandbox: model-written code in a process of its own, with nothing of the host's but the interpreter.

Bubblewrap (a small setuid-free program, package `bubblewrap` of Linux distributions) gives the process its own network,
process and file name spaces; limits of the kernel (rlimits) bound what it may use. Where bubblewrap can't be had, code
is refused unless the caller settles for the limits alone.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from subprocess import DEVNULL, PIPE, run
from typing import Literal, TypeAlias

import anyio
from anyio.abc import ByteReceiveStream, Process

from ..errors import InputError, ToolError
from .tool import Tool, tool

Outcome: TypeAlias = Literal["ok", "error", "exit", "timeout", "cpu", "memory", "output", "killed"]
"""How code ended: well, by an exception, by its own exit status, by the wall clock or the processor time, out of
memory, after too much output, or by a signal."""

Protection: TypeAlias = Literal["environment", "files", "limits", "network", "processes"]

_JAIL = Path(__file__).with_name("jail.py")
_MEMORY_STATUS = 120
_CPU_SIGNAL = 24
_LIBRARIES = ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache")
_OWN_USERS = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What code may use: wall and processor seconds, bytes of memory a process, processes and threads, bytes of its
    files (kept in memory) and of what it prints."""

    seconds: float = 10.0
    memory: int = 512 << 20
    processes: int = 16
    files: int = 32 << 20
    output: int = 1 << 20

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise InputError(f"sandbox bound {name}={getattr(self, name)} leaves nothing to run with; use more")


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a piece of code. `status` is the exit status, negative for a signal."""

    outcome: Outcome
    stdout: str
    stderr: str
    status: int

    def text(self) -> str:
        """As a model reads it: what was printed, then how it ended if not well."""
        if self.outcome == "ok":
            return self.stdout
        last = self.stderr.strip().splitlines()[-1:] if self.outcome in ("error", "exit") else []
        return self.stdout + "".join(f"[{part}]\n" for part in [_ENDINGS[self.outcome], *last])


_ENDINGS: dict[Outcome, str] = {
    "error": "the code raised an exception",
    "exit": "the code ended with an exit status",
    "timeout": "stopped: it took too long",
    "cpu": "stopped: it used too much processor time",
    "memory": "stopped: it ran out of memory",
    "output": "stopped: it printed too much",
    "killed": "stopped by a signal",
}


@cache
def protections() -> frozenset[Protection]:
    """What keeps sandboxed code from the host on this machine.

    "files": it sees the interpreter and system libraries, read-only, and a folder of its own; "network": none, not even
    the host's loopback; "processes": it sees and can signal only its own; "limits": of time, memory, processes, files,
    output; "environment": none of the host's variables and open files. The kernel itself is shared with the host.
    """
    always: frozenset[Protection] = frozenset({"environment", "limits"})
    return always | {"files", "network", "processes"} if _bubblewrap_works() else always


async def run_python(code: str, *, bounds: Bounds = Bounds(), stdin: str = "", isolated: bool = True) -> Ran:
    """Run code to its end or its bounds. With `isolated=False` it also runs where only limits protect the host.

    Raises ToolError where the protections are missing. Cancelling stops the code.
    """
    if isolated and "files" not in protections():
        raise ToolError(
            "model-written code is not run here: bubblewrap is missing or not allowed, so only limits would protect "
            "this machine. Install the package 'bubblewrap', or pass isolated=False to run it all the same"
        )
    with tempfile.TemporaryDirectory(prefix="plait-sandbox-") as folder, tempfile.TemporaryFile() as source:
        source.write(code.encode("utf-8", "replace"))
        source.seek(0)
        command = _confined(bounds) if "files" in protections() else _limited(bounds)
        process = await anyio.open_process(
            ["/bin/sh", "-c", 'exec 3<&0 0<"$0" "$@"', _input(folder, stdin), *command],
            stdin=source,
            env={},
            cwd=folder,
            start_new_session=True,
        )
        return await _watched(process, bounds)


def python(*, bounds: Bounds = Bounds(), isolated: bool = True, cap: int = 2) -> Tool[[str], str]:
    """A tool that runs Python code in the sandbox; the model reads what the code printed and how it ended."""

    @tool(name="python", cap=cap, timeout=bounds.seconds + 10, idempotent=True)
    async def run_code(code: str) -> str:
        """Run Python code and give what it prints. There is no network and no file but those it makes.

        Args:
            code: The program.
        """
        return (await run_python(code, bounds=bounds, isolated=isolated)).text()

    return run_code


# ---- running


async def _watched(process: Process, bounds: Bounds) -> Ran:
    """Read what a process prints, and stop it where it goes beyond its bounds."""
    stdout, stderr = bytearray(), bytearray()
    stopped: list[Outcome] = []

    def stop(why: Outcome) -> None:
        stopped.append(why)
        _kill(process)

    try:
        with anyio.move_on_after(bounds.seconds) as clock:
            async with anyio.create_task_group() as group:
                for stream, kept in ((process.stdout, stdout), (process.stderr, stderr)):
                    assert stream is not None
                    group.start_soon(_read, stream, kept, bounds.output, stop)
                await process.wait()
        if clock.cancelled_caught:
            stop("timeout")
    finally:
        _kill(process)
        with anyio.CancelScope(shield=True):
            await process.aclose()
    status = process.returncode or 0
    if status > 128:  # bubblewrap says so of a signal
        status = 128 - status
    outcome = stopped[0] if stopped else _outcome(status)
    return Ran(outcome, stdout.decode("utf-8", "replace"), stderr.decode("utf-8", "replace"), status)


async def _read(stream: ByteReceiveStream, kept: bytearray, limit: int, stop: Callable[[Outcome], None]) -> None:
    async for data in stream:
        kept += data[: limit - len(kept)]
        if len(kept) >= limit:
            stop("output")
            return


def _kill(process: Process) -> None:
    """The whole session: bubblewrap takes its process name space with it."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, 9)


def _outcome(status: int) -> Outcome:
    if status == _MEMORY_STATUS:
        return "memory"
    if status == -_CPU_SIGNAL:
        return "cpu"
    if status < 0:
        return "killed"
    return "ok" if status == 0 else "error" if status == 1 else "exit"


def _input(folder: str, stdin: str) -> str:
    if not stdin:
        return "/dev/null"
    path = Path(folder) / "stdin"
    path.write_text(stdin, encoding="utf-8")
    return str(path)


# ---- confining


def _limited(bounds: Bounds) -> list[str]:
    """Limits alone: a user of one's own would not see the interpreter where that lies in a home folder."""
    return [sys.executable, "-I", str(_JAIL), "0", *_limits(bounds)]


def _limits(bounds: Bounds) -> list[str]:
    return [str(int(value)) for value in (bounds.memory, bounds.seconds + 1, bounds.processes, bounds.files)]


def _confined(bounds: Bounds) -> list[str]:
    """The command line of bubblewrap. As root the jail becomes a user that nobody else is."""
    as_root = os.getuid() == 0
    uid = _OWN_USERS + secrets.randbelow(1_000_000) if as_root else 65534
    interpreter = Path(sys.base_prefix)
    command = [_bubblewrap(), "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]
    command += ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    command += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"] if as_root else ["--uid", str(uid)]
    for folder in _LIBRARIES:
        command += _shown(Path(folder))
    for parent in reversed(interpreter.parents[:-1]):
        command += ["--perms", "0755", "--dir", str(parent)]
    command += ["--ro-bind", str(interpreter), str(interpreter), "--ro-bind", str(_JAIL), "/jail.py"]
    command += ["--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--size", str(bounds.files), "--tmpfs", "/tmp"]
    command += ["--remount-ro", "/", "--chdir", "/tmp", "--setenv", "HOME", "/tmp", "--setenv", "PATH", "/usr/bin:/bin"]
    python = interpreter / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    return [*command, str(python), "-I", "/jail.py", str(uid), *_limits(bounds)]


def _shown(path: Path) -> list[str]:
    if path.is_symlink():
        return ["--symlink", str(path.readlink()), str(path)]
    return ["--ro-bind", str(path), str(path)] if path.exists() else []


def _bubblewrap() -> str:
    return shutil.which("bwrap") or ""


def _bubblewrap_works() -> bool:
    """Whether bubblewrap is there and the kernel lets it make its name spaces."""
    if not _bubblewrap():
        return False
    with tempfile.TemporaryFile() as source:
        done = run(
            ["/bin/sh", "-c", 'exec 3<&0 0</dev/null "$@"', "sh", *_confined(Bounds())],
            stdin=source,
            stdout=DEVNULL,
            stderr=PIPE,
            env={},
            timeout=20,
            check=False,
        )
    return done.returncode == 0

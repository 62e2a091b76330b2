"""The sandbox against code that means harm: every attempt ends as named, and the host is as it was."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from plait.errors import InputError, ToolError
from plait.tools import sandbox
from plait.tools.sandbox import Bounds, Outcome, protections, run_python

SMALL = Bounds(seconds=2, memory=256 << 20, processes=8, files=8 << 20, output=100_000)

pytestmark = pytest.mark.anyio
isolated = pytest.mark.skipif(
    "files" not in protections(), reason="bubblewrap is not installed or not allowed here (package 'bubblewrap')"
)


@dataclass(frozen=True)
class Host:
    """What the code must not get at: a file, an environment variable, a server and a process of the host."""

    secret: str
    file: Path
    port: int
    bystander: int


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    secret = f"secret-{os.getpid()}"
    file = tmp_path_factory.mktemp("host") / "secret.txt"
    file.write_text(secret)
    file.chmod(0o666)
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    server = socket.create_server(("127.0.0.1", 0))
    os.environ["PLAIT_TEST_API_KEY"] = secret
    answering = threading.Thread(target=_answer, args=(server, secret.encode()), daemon=True)
    answering.start()
    yield Host(secret, file, server.getsockname()[1], bystander.pid)
    assert bystander.poll() is None, "a process of the host was killed"
    assert file.read_text() == secret, "a file of the host was changed"
    del os.environ["PLAIT_TEST_API_KEY"]
    bystander.kill()
    bystander.wait()
    server.close()


def _answer(server: socket.socket, secret: bytes) -> None:
    while True:
        try:
            peer, _ = server.accept()
        except OSError:
            return
        with peer:
            peer.sendall(secret)


ATTEMPTS: dict[str, tuple[str, Outcome]] = {
    "read a file of the host": ("print(open({file!r}).read())", "error"),
    "write a file of the host": ("open({file!r}, 'w').write('gone')", "error"),
    "read the password file": ("print(open('/etc/passwd').read())", "error"),
    "write into the interpreter": ("import os; open(os.__file__, 'a').write('x')", "error"),
    "write to the root": ("open('/evil', 'w')", "error"),
    "list home folders": ("import os; print(os.listdir('/home'))", "error"),
    "follow a symbolic link out": ("import os; os.symlink({file!r}, '/tmp/l'); print(open('/tmp/l').read())", "error"),
    "climb out of the folder": ("import os; os.chdir('/tmp'); print(open('../../..' + {file!r}).read())", "error"),
    "leave by chroot": ("import os; os.mkdir('/tmp/j'); os.chroot('/tmp/j')", "error"),
    "mount the host's disk": ("import os, sys; sys.exit(os.system('mount -t proc x /tmp 2>/dev/null') >> 8)", "exit"),
    "make a device": ("import os, stat; os.mknod('/tmp/d', 0o600 | stat.S_IFBLK, os.makedev(8, 0))", "error"),
    "become root again": ("import os; os.setuid(0)", "error"),
    "read the environment": ("import os; assert {secret!r} in str(os.environ)", "error"),
    "read the parent's environment": (
        "import glob\nprint([open(p, 'rb').read() for p in glob.glob('/proc/[0-9]*/environ')])",
        "error",
    ),
    "read the host's processes": ("open('/proc/{bystander}/cmdline').read()", "error"),
    "kill a process of the host": ("import os; os.kill({bystander}, 9)", "error"),
    "reach a server of the host": ("import socket; socket.create_connection(('127.0.0.1', {port}), 2)", "error"),
    "reach the network": ("import socket; socket.create_connection(('192.0.2.1', 80), 2)", "error"),
    "look a name up": ("import socket; socket.getaddrinfo('example.org', 80)", "error"),
    "fork without end": ("import os\nwhile True:\n try: os.fork()\n except OSError: pass", "timeout"),
    "start threads without end": (
        "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(99,)).start()",
        "timeout",
    ),
    "take all memory": ("held = []\nwhile True: held.append(bytearray(10_000_000))", "memory"),
    "fill the disk": ("for i in range(10**6): open(f'/tmp/{{i}}', 'wb').write(bytes(10**6))", "error"),
    "write one endless file": ("f = open('/tmp/f', 'wb')\nwhile True: f.write(bytes(10**6))", "error"),
    "print without end": ("while True: print('x' * 1000)", "output"),
    "print errors without end": ("import sys\nwhile True: sys.stderr.write('x' * 1000)", "output"),
    "loop without end": ("while True: pass", "timeout"),
    "sleep without end": ("import time; time.sleep(10**6)", "timeout"),
    "ignore signals": (
        "import signal, time\nfor s in (1, 2, 3, 15, 24): signal.signal(s, signal.SIG_IGN)\nwhile True: time.sleep(1)",
        "timeout",
    ),
    "live on as a daemon": (
        "import os, time\nif os.fork() == 0:\n os.setsid()\n os.closerange(0, 10)\n time.sleep(300)",
        "ok",
    ),
    "crash the interpreter": ("import ctypes; ctypes.string_at(0)", "killed"),
    "raise its own limits": (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)",
        "error",
    ),
    "open files without end": ("held = [open('/tmp/x', 'w') for _ in range(10_000)]", "error"),
}


@isolated
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("attempt", ATTEMPTS)
async def test_harm_is_contained_and_named(attempt: str, host: Host) -> None:
    code, expected = ATTEMPTS[attempt]
    values = {"file": str(host.file), "secret": host.secret, "port": host.port, "bystander": host.bystander}
    with anyio.fail_after(30):
        ran = await run_python(code.format(**values), bounds=SMALL)
    assert ran.outcome == expected, (ran.status, ran.stderr)
    assert host.secret not in ran.stdout
    assert len(ran.stdout) <= SMALL.output
    await all_gone()


async def all_gone() -> None:
    """The kernel takes a moment to end a process name space; then no process of it is left."""
    with anyio.fail_after(10):
        while _left():  # noqa: ASYNC110
            await anyio.sleep(0.05)


def _left() -> list[str]:
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if "/jail.py" in line and "bwrap" not in line]


@isolated
async def test_code_gives_what_it_prints_and_reads_its_input() -> None:
    ran = await run_python("import json\nprint(json.dumps(sorted(input().split())))", stdin="b a")
    assert (ran.outcome, ran.stdout) == ("ok", '["a", "b"]\n')


@isolated
async def test_an_exit_gives_its_status_or_its_text_and_a_signal_its_number() -> None:
    assert (await run_python("raise SystemExit(7)")).status == 7
    assert (await run_python("raise SystemExit")).outcome == "ok"
    ran = await run_python("raise SystemExit('no such thing')")
    assert (ran.outcome, ran.stderr) == ("error", "no such thing\n")
    ran = await run_python("import os; os.kill(os.getpid(), 9)")
    assert (ran.outcome, ran.status) == ("killed", -9)


@isolated
async def test_the_tool_tells_the_model_how_code_ended() -> None:
    run_code = sandbox.python(bounds=SMALL)
    assert await run_code("print(6 * 7)") == "42\n"
    ended = await run_code("print('so far')\n1 / 0")
    assert ended.startswith("so far\n")
    assert "ZeroDivisionError" in ended
    assert "took too long" in await run_code("while True: pass")


@isolated
async def test_a_cancelled_call_leaves_no_process() -> None:
    with anyio.move_on_after(0.5):
        await run_python("import time; time.sleep(60)")
    await all_gone()


@isolated
async def test_two_at_once_do_not_share_their_allowance_of_processes() -> None:
    code = "import threading, time\nfor _ in range(5): threading.Thread(target=time.sleep, args=(1,)).start()"
    found = []

    async def one() -> None:
        found.append((await run_python(code, bounds=SMALL)).outcome)

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(one)
    assert found == ["ok"] * 4


async def test_without_protections_code_is_refused_unless_the_caller_settles_for_limits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sandbox, "protections", lambda: frozenset({"environment", "limits"}))
    with pytest.raises(ToolError, match=r"bubblewrap.*isolated=False"):
        await run_python("print(1)")
    monkeypatch.setenv("PLAIT_TEST_API_KEY", "hidden")
    ran = await run_python("import os; print(os.environ.get('PLAIT_TEST_API_KEY'))", isolated=False)
    assert (ran.outcome, ran.stdout) == ("ok", "None\n")
    assert (await run_python("while True: pass", bounds=SMALL, isolated=False)).outcome == "timeout"
    assert (await run_python("bytearray(10**9)", bounds=SMALL, isolated=False)).outcome == "memory"


def test_bounds_that_leave_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="memory=0"):
        Bounds(memory=0)

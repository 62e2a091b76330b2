"""A cancelled run leaves no task, thread, subprocess, socket or page behind: they are counted."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest

import plait
from plait.engines.local import LocalEngine
from plait.orchestrator import Builder, Scope

PROC = Path("/proc/self")
pytestmark = pytest.mark.skipif(not (PROC / "fd").exists(), reason="counts what /proc/self shows")


def sockets() -> int:
    """Sockets of this process."""
    return sum(_link(entry).startswith("socket:") for entry in os.listdir(PROC / "fd"))


def _link(entry: str) -> str:
    try:
        return os.readlink(PROC / "fd" / entry)
    except OSError:
        return ""


def children() -> set[str]:
    """Processes that this one has started, but for what waits to be collected."""
    found = set[str]()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = status.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if parent == str(os.getpid()) and state != "Z":
            found.add(status.parent.name)
    return found


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


class Busy:
    """Tools that hold something for ever; `holding` counts those that do."""

    def __init__(self) -> None:
        self.holding = 0
        self.seen: dict[str, Any] = {}

        @plait.tool
        async def process() -> int:
            """Runs a process."""
            self.holding += 1
            return (await anyio.run_process(["sleep", "3600"])).returncode

        @plait.tool
        async def connect(port: int) -> bytes:
            """Waits for an answer."""
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                self.holding += 1
                return await stream.receive()

        self.process, self.connect = process, connect

    def graph(self) -> Any:
        async def drive(scope: Scope, port: int) -> str:
            context = await scope.start("Say something. ")
            calls = [(self.process, {}), (self.connect, {"port": port})] * 2
            async with anyio.create_task_group() as group:
                group.start_soon(scope.settle, calls)
                while True:
                    await scope.generate(context, max_tokens=64, title="words")

        @plait.graph
        def build(g: Builder, port: int) -> list[Any]:
            return [g.drive(drive, port=port), g.call(self.process), g.think("Count on.", samples=4, max_tokens=2000)]

        return build

    async def cancel(self, engine: LocalEngine, journal: Path) -> None:
        """Start a run, wait until all is held, note what is there, and leave it."""
        tasks = len(anyio.get_running_tasks())
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            async with anyio.create_task_group() as group:
                group.start_soon(listener.serve, _say_nothing)
                async with self.graph().stream(port, engine=engine, journal=journal):
                    while self.holding < 5 or not engine.stats().running:  # noqa: ASYNC110 - the engine rings no bell
                        await anyio.sleep(0.01)
                    self.seen = {"children": children(), "sockets": sockets(), "threads": threads()}
                group.cancel_scope.cancel()
        assert len(anyio.get_running_tasks()) == tasks


async def _say_nothing(stream: anyio.abc.SocketStream) -> None:
    async with stream:
        await anyio.sleep_forever()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancelled_run_leaves_nothing(backend: str, tmp_path: Path) -> None:
    before = (children(), sockets())
    busy = Busy()

    async def main(check: Callable[[LocalEngine], None]) -> None:
        async with LocalEngine.open() as engine:
            await busy.cancel(engine, tmp_path / "journal.db")
            with anyio.fail_after(30):
                while engine.stats().running or engine.stats().contexts:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
            check(engine)

    def check(engine: LocalEngine) -> None:
        engine.check_integrity()
        stats = engine.stats()
        assert stats.pages_used == stats.pages_cached
        assert not [name for name in threads() if "journal" in name]
        assert children() == before[0]

    named = {thread.ident for thread in threading.enumerate()}
    anyio.run(main, check, backend=backend)
    assert len(busy.seen["children"]) == len(before[0]) + 3
    assert busy.seen["sockets"] >= before[1] + 5
    assert any("journal" in name for name in busy.seen["threads"])
    assert (children(), sockets()) == before
    left = [thread for thread in threading.enumerate() if thread.ident not in named]
    assert all(thread.name.startswith("Trio thread") for thread in left), left  # trio keeps idle ones for later

"""MCP: the tools of real servers, over stdio and HTTP, in graphs and side by side."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

import plait
from plait.errors import GraphError, NodeError, ToolArgumentError, ToolError, ToolServerError
from plait.tools import mcp_server

pytestmark = pytest.mark.anyio

CLOCK = [str(Path(sys.executable).with_name("python")), "-P", "-m", "mcp_server_time"]
"""A published server, `mcp-server-time`."""

SERVER = textwrap.dedent(
    '''
    import sys, anyio
    from mcp.server import MCPServer

    server = MCPServer("numbers")
    now = most = 0

    @server.tool()
    async def double(number: int, note: str = "") -> str:
        """Twice a number."""
        global now, most
        now += 1
        most = max(most, now)
        await anyio.sleep(0.2)
        now -= 1
        return f"{2 * number}{note}"

    @server.tool()
    def most_at_once() -> str:
        """The most calls of double that ran at once."""
        return str(most)

    @server.tool()
    def refuse(reason: str) -> str:
        """Fails."""
        raise ValueError(reason)

    @server.resource("numbers://primes")
    def primes() -> str:
        """Some primes."""
        return "2 3 5 7"

    if sys.argv[1] == "stdio":
        server.run(transport="stdio")
    else:
        server.run(transport="streamable-http", port=int(sys.argv[1]))
    '''
)


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mcp") / "numbers_server.py"
    path.write_text(SERVER)
    return path


@pytest.fixture
def address(script: Path) -> Iterator[str]:
    """The same server over streamable HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-P", str(script), str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        signal.sigtimedwait([], 0.05)
    yield f"http://127.0.0.1:{port}/mcp"
    process.kill()
    process.wait()


async def test_a_published_servers_tools_are_called_by_name() -> None:
    async with mcp_server(CLOCK) as server:
        now, convert = server.tools
        assert (now.name, convert.name) == ("get_current_time", "convert_time")
        assert "timezone" in now.parameters["properties"]
        assert '"timezone": "Asia/Tokyo"' in await now.invoke({"timezone": "Asia/Tokyo"})
        with pytest.raises(ToolError, match="Nowhere"):
            await now.invoke({"timezone": "Nowhere"})
        with pytest.raises(ToolArgumentError, match="'timezone' is missing"):
            await now.invoke({})


async def test_tools_run_side_by_side_in_a_graph(script: Path) -> None:
    async with mcp_server([sys.executable, "-P", str(script), "stdio"], prefix="n_") as server:
        double, most, _ = server.tools

        @plait.graph
        def doubled(g: plait.Builder, numbers: list[int]) -> list[str]:
            return g.map(double, numbers, note="!")

        assert await doubled.run([1, 2, 3, 4], engine=None) == ["2!", "4!", "6!", "8!"]
        assert int(await most()) > 1
        assert double.name == "n_double"


async def test_a_wrong_argument_is_refused_when_the_graph_is_built(script: Path) -> None:
    async with mcp_server([sys.executable, "-P", str(script), "stdio"]) as server:
        with pytest.raises(GraphError, match="number"):

            @plait.graph
            def wrong(g: plait.Builder, text: str) -> str:
                return g.call(server.tools[0], number=text)


async def test_a_server_over_http_gives_tools_resources_and_errors(address: str) -> None:
    async with mcp_server(address, name="numbers") as server:
        double, _, refuse = server.tools
        assert await double(21) == "42"
        assert [resource.uri for resource in await server.resources()] == ["numbers://primes"]
        assert await server.read("numbers://primes") == "2 3 5 7"
        with pytest.raises(ToolError, match="tool 'refuse' failed"):
            await refuse("because")
        with pytest.raises(ToolServerError, match="MCP server 'numbers' could not read 'numbers://none'"):
            await server.read("numbers://none")


async def test_a_server_that_dies_in_a_run_is_named(script: Path) -> None:
    async with mcp_server([sys.executable, "-P", str(script), "stdio"], name="numbers") as server:

        @plait.graph
        def double(g: plait.Builder, number: int) -> str:
            return g.call(server.tools[0], number=number)

        assert await double.run(2, engine=None) == "4"
        async with anyio.create_task_group() as group:
            group.start_soon(_kill_soon, str(script))
            with anyio.fail_after(20), pytest.raises(NodeError, match="'numbers' could not call 'double'") as failed:
                await double.run(3, engine=None)
        assert isinstance(failed.value.__cause__, ToolServerError)


async def _kill_soon(script: str) -> None:
    await anyio.sleep(0.1)
    listed = await anyio.run_process(["pgrep", "-f", f"{script} stdio"])
    for pid in listed.stdout.split():
        os.kill(int(pid), signal.SIGKILL)


@pytest.mark.parametrize("server", [["/nowhere/server"], [sys.executable, "-c", ""], "http://127.0.0.1:9/mcp"])
async def test_a_server_that_cannot_be_had_is_named(server: str | list[str]) -> None:
    with anyio.fail_after(20), pytest.raises(ToolServerError, match=r"can't be used: .*Check the command or address"):
        async with mcp_server(server):
            pass


async def test_an_error_of_the_block_is_its_own() -> None:
    with pytest.raises(ZeroDivisionError):
        async with mcp_server(CLOCK):
            _ = 1 / 0

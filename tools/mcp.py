"""Tools of MCP servers (Model Context Protocol), over stdio or streamable HTTP, by the official client."""

from __future__ import annotations

import inspect
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import anyio

from ..errors import MissingExtraError, ToolArgumentError, ToolError, ToolServerError
from .signature import read_signature
from .tool import TIMEOUT_SECONDS, Tool

if TYPE_CHECKING:
    from mcp import Client, types

_TYPES: Mapping[str, Any] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}


@dataclass(frozen=True, slots=True)
class Resource:
    """Something that a server lets one read: its address, name, description and media type."""

    uri: str
    name: str
    description: str
    media_type: str


class McpServer:
    """A server under way: its tools, which run side by side, and its resources. Made by `mcp_server`."""

    def __init__(self, name: str, client: Client, tools: Sequence[Tool]) -> None:
        self.name = name
        self.tools = tuple(tools)
        self._client = client

    async def resources(self) -> list[Resource]:
        """What can be read. Raises ToolServerError, as `read` does."""
        found: list[Resource] = []
        cursor: str | None = None
        while True:
            with _named(self.name, "list its resources"):
                page = await self._client.list_resources(cursor=cursor)
            found += [
                Resource(str(entry.uri), entry.name, entry.description or "", entry.mime_type or "")
                for entry in page.resources
            ]
            cursor = page.next_cursor
            if not cursor:
                return found

    async def read(self, uri: str) -> str:
        """A resource's text."""
        with _named(self.name, f"read '{uri}'"):
            given = await self._client.read_resource(uri)
        texts = [getattr(part, "text", None) for part in given.contents]
        if not any(text is not None for text in texts):
            raise ToolError(f"resource '{uri}' of MCP server '{self.name}' holds no text")
        return "\n".join(text for text in texts if text is not None)


@asynccontextmanager
async def mcp_server(
    server: str | Sequence[str],
    *,
    name: str = "",
    prefix: str = "",
    env: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT_SECONDS,
    cap: int = 8,
) -> AsyncIterator[McpServer]:
    """`async with mcp_server(["uvx", "mcp-server-time"]) as server: agent = tim(tools=server.tools)`.

    `server` is the address of a streamable HTTP server, or a command that is started here, spoken to over stdio and
    stopped at the end; it gets only PATH, HOME and `env` of the environment. `prefix` goes before the tools' names,
    `timeout` (seconds) and `cap` hold for each tool. A tool counts as idempotent where its server says so.
    Raises ToolServerError where the server can't be started or reached.
    """
    try:
        from mcp import Client
    except ModuleNotFoundError as error:
        raise MissingExtraError("an MCP server", "mcp") from error
    title = name or (server if isinstance(server, str) else " ".join(server))
    raised: list[BaseException] = []
    try:
        with anyio.fail_after(timeout) as opening:
            async with Client(_transport(server, env), read_timeout_seconds=timeout) as client:
                tools = [_tool(client, title, found, prefix, timeout, cap) for found in await _listed(client)]
                opening.deadline = float("inf")
                try:
                    yield McpServer(title, client, tools)
                except BaseException as error:
                    raised.append(error)  # the block's own, not the server's
                    raise
    except BaseException as error:
        if raised:
            raise raised[0]  # noqa: B904
        if not isinstance(error, Exception) and not isinstance(error, BaseExceptionGroup):
            raise
        raise ToolServerError(
            f"MCP server '{title}' can't be used: {_reason(error)}. "
            "Check the command or address, and that it speaks MCP"
        ) from error


async def _listed(client: Client) -> list[types.Tool]:
    found: list[types.Tool] = []
    cursor: str | None = None
    while True:
        page = await client.list_tools(cursor=cursor)
        found += page.tools
        cursor = page.next_cursor
        if not cursor:
            return found


def _transport(server: str | Sequence[str], env: Mapping[str, str] | None) -> Any:
    if isinstance(server, str):
        return server
    from mcp import StdioServerParameters

    inherited = {key: os.environ[key] for key in ("HOME", "PATH") if key in os.environ}
    return StdioServerParameters(command=server[0], args=list(server[1:]), env={**inherited, **(env or {})})


# ---- one tool


def _tool(client: Client, server: str, found: types.Tool, prefix: str, timeout: float, cap: int) -> Tool:
    name = prefix + found.name

    async def call(**arguments: Any) -> Any:
        with _named(server, f"call '{found.name}'"):
            given = await client.call_tool(found.name, arguments)
        text = "\n".join(getattr(part, "text", f"[{part.type}]") for part in given.content)
        if given.is_error:
            raise ToolError(text or "the server gave no reason")
        return text

    parameters = _parameters(found)
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": str}
    hints = found.annotations
    return Tool(
        name,
        found.description or "",
        call,
        replace(read_signature(call, name, {}), schema=found.input_schema),
        cap=cap,
        timeout=timeout,
        idempotent=bool(hints and (hints.read_only_hint or hints.idempotent_hint)),
    )


def _parameters(found: types.Tool) -> list[inspect.Parameter]:
    """The arguments as Python writes them; one that may be left out is never sent with its default here."""
    required = set(found.input_schema.get("required", ()))
    properties = found.input_schema.get("properties", {})
    try:
        return [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                annotation=_type(schema),
                default=inspect.Parameter.empty if name in required else None,
            )
            for name, schema in properties.items()
        ]
    except ValueError as error:
        raise ToolArgumentError(f"tool '{found.name}' has an argument that Python can't name: {error}") from error


def _type(schema: Any) -> Any:
    """The Python type that a JSON schema comes nearest to; what is finer than that is the server's to check."""
    if not isinstance(schema, dict):
        return Any
    if isinstance(options := schema.get("enum"), list) and all(isinstance(option, str) for option in options):
        return Literal[tuple(options)]
    kind = schema.get("type")
    return _TYPES.get(kind, Any) if isinstance(kind, str) else Any


@contextmanager
def _named(server: str, doing: str) -> Iterator[None]:
    """Turns what the client raises when its server is gone into an error that says so."""
    try:
        yield
    except Exception as error:
        raise ToolServerError(
            f"MCP server '{server}' could not {doing}: {_reason(error)}. "
            "If it has ended, start it again and open it anew"
        ) from error


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}".removesuffix(": ")

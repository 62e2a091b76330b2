"""HTTP: JSON values, and streams of them, from a server that is asked beside OpenAI's protocol (httpx)."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import anyio
import anyio.lowlevel
import httpx

from ..errors import AnswerError, EngineError, ServerLostError
from .remote import Server, body_fault, fault_of, status_fault
from .replicas import session_headers

_FAULTS = (httpx.HTTPError, httpx.StreamError, anyio.ClosedResourceError, OSError)


class Http:
    """Asks one server. `timeout` is in seconds, for each read; `connect` for a connection.

    What goes wrong is raised as plait's error, which does not hold the client's: that one holds the key.
    """

    def __init__(self, server: Server, *, timeout: float = 600.0, connect: float = 10.0) -> None:
        self.server = server
        self._timeout = httpx.Timeout(timeout, connect=connect)
        self._clients: dict[Any, httpx.AsyncClient] = {}

    async def text(self, method: str, path: str, fields: Mapping[str, Any] | None = None) -> str:
        """An answer's body."""
        fault: EngineError
        try:
            response = await self._client().request(
                method, self.server.url + path, json=fields, headers=session_headers()
            )
        except _FAULTS as error:
            fault = fault_of(error, self.server)
        else:
            if response.status_code < 400:
                return response.text
            fault = status_fault(self.server, response.status_code, _body(response.content), response.headers)
        raise fault

    async def ask(self, method: str, path: str, fields: Mapping[str, Any] | None = None) -> Any:
        """An answer's body as JSON values."""
        return self._read(await self.text(method, path, fields))

    async def events(self, path: str, fields: Mapping[str, Any]) -> AsyncGenerator[Mapping[str, Any], None]:
        """The events of a stream, up to `[DONE]`. Closed early, it closes the connection."""
        fault: EngineError
        try:
            url, headers = self.server.url + path, session_headers()
            async with self._client().stream("POST", url, json=fields, headers=headers) as response:
                if response.status_code >= 400:
                    body = _body(await response.aread())
                    fault = status_fault(self.server, response.status_code, body, response.headers)
                else:
                    async for line in response.aiter_lines():
                        if line == "data: [DONE]":
                            return
                        if line.startswith("data:"):
                            yield self._event(line.removeprefix("data:"))
                    fault = ServerLostError(self.server.said("broke off its answer: the stream ended before its end"))
        except _FAULTS as error:
            fault = fault_of(error, self.server)
        raise fault

    def field(self, answer: Any, name: str, kind: type) -> Any:
        """A field that an answer must have."""
        found = answer.get(name) if isinstance(answer, Mapping) else None
        if not isinstance(found, kind):
            raise AnswerError(self.server.said(f"gave an answer without '{name}'", str(answer)))
        return found

    async def aclose(self) -> None:
        """Close the connections, with what is under way on them."""
        here = anyio.lowlevel.current_token()
        clients, self._clients = self._clients, {}
        for loop, client in clients.items():
            if loop == here:  # the connections of another loop went with it
                await client.aclose()

    def _client(self) -> httpx.AsyncClient:
        """The client in this event loop: connections can't be used in another."""
        loop = anyio.lowlevel.current_token()
        client = self._clients.get(loop)
        if client is None:
            headers = {"Authorization": f"Bearer {self.server.key}"} if self.server.key else {}
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
            client = httpx.AsyncClient(timeout=self._timeout, headers=headers, limits=limits)
            self._clients[loop] = client
        return client

    def _event(self, text: str) -> Mapping[str, Any]:
        event = self._read(text)
        if not isinstance(event, Mapping):
            raise AnswerError(self.server.said("gave an event that is no object", text))
        if "error" in event:
            raise body_fault(self.server, event)
        return event

    def _read(self, text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError as error:
            raise AnswerError(self.server.said("gave an answer that is no JSON", str(error))) from None


def _body(data: bytes) -> object:
    try:
        return json.loads(data)
    except ValueError:
        return data.decode(errors="replace")

"""SGLang over HTTP, by its native API: a server at an address, or one that is started for the engine."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from ...errors import CapabilityError, RequestError, UnknownModelError
from ..base import Message
from ..child import Child
from ..http import Http

SESSION_CHARACTERS = 1 << 24
"""What a session is opened for; the server takes it for a hint."""


class HttpWire:
    """An SGLang server, or the router before several."""

    def __init__(self, http: Http) -> None:
        self.http = http

    async def info(self) -> Mapping[str, Any]:
        try:
            return dict(await self.http.ask("GET", "/server_info"))
        except UnknownModelError:  # an older server, which knows it by its former name
            return dict(await self.http.ask("GET", "/get_server_info"))

    def generate(self, fields: Mapping[str, Any]) -> AsyncGenerator[Mapping[str, Any], None]:
        return self.http.events("/generate", fields)

    async def abort(self, rid: str) -> None:
        await self.http.text("POST", "/abort_request", {"rid": rid})

    async def encode(self, text: str, *, special: bool) -> list[int]:
        answer = await self.http.ask("POST", "/v1/tokenize", {"prompt": text, "add_special_tokens": special})
        return list(self.http.field(answer, "tokens", list))

    async def decode(self, tokens: Sequence[int]) -> str:
        fields = {"tokens": list(tokens), "skip_special_tokens": False}
        return str(self.http.field(await self.http.ask("POST", "/v1/detokenize", fields), "text", str))

    async def render(self, messages: Sequence[Message]) -> list[int]:
        listed = [{"role": message.role, "content": message.content} for message in messages]
        answer = await self.http.ask("POST", "/v1/tokenize", {"messages": listed, "add_generation_prompt": True})
        return list(self.http.field(answer, "tokens", list))

    async def adapters(self) -> list[str]:
        models = self.http.field(await self.http.ask("GET", "/v1/models"), "data", list)
        return [str(model["id"]) for model in models if model.get("parent")]

    async def load_adapter(self, name: str, folder: str) -> None:
        try:
            await self.http.text("POST", "/load_lora_adapter", {"lora_name": name, "lora_path": folder})
        except RequestError as error:
            raise CapabilityError(
                f"adapter at {folder} can't be loaded; it must be a PEFT folder that the server can read: {error}"
            ) from None

    async def open_session(self) -> str:
        return str(await self.http.ask("POST", "/open_session", {"capacity_of_str_len": SESSION_CHARACTERS}))

    async def close_session(self, session: str) -> None:
        await self.http.text("POST", "/close_session", {"session_id": session})

    async def metrics(self) -> str:
        return await self.http.text("GET", "/metrics")

    async def aclose(self) -> None:
        await self.http.aclose()


class ChildWire(HttpWire):
    """The same, where the server is a child: it is started with the first connection, and stopped at the end."""

    def __init__(self, http: Http, child: Child, *, seconds: float) -> None:
        """The child has so many seconds to be ready."""
        super().__init__(http)
        self.child = child
        self._seconds = seconds

    async def info(self) -> Mapping[str, Any]:
        if not self.child.running:
            await self.child.start(self._healthy, seconds=self._seconds)
        return await super().info()

    async def aclose(self) -> None:
        await super().aclose()
        await self.child.stop()

    async def _healthy(self) -> None:
        await self.http.text("GET", "/health")

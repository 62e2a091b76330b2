"""The port on a vLLM server: completions of token ids, and the routes beside them (see `resent`)."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any

from ...errors import AnswerError, CapabilityError, CheckpointError, RequestError, UnknownModelError
from ..base import Message
from ..child import Child
from ..http import Http
from ..port import Answer, Chance, Completion, End, Part
from ..remote import Counts
from .counters import Counters
from .wire import adapter_folder, grammar_fault, grammar_fields, read_chances, sampling_fields, why_ended

logger = logging.getLogger("plait.engines.vllm")


class ServerPort:
    """What contexts of token ids need, of a vLLM server. `adapters` says whether it serves any, once connected."""

    def __init__(self, name: str, http: Http, *, model: str, priority: int, cache_salt: str) -> None:
        """`name` is the engine's, for messages; `model` one of the server's, "" for its first."""
        self.name = name
        self.http = http
        self.model = model
        self.adapters = False
        self.tells_cached = True
        """Whether the server says what it found in its cache; without that, all counts as encoded."""
        given = {"priority": priority, "cache_salt": cache_salt}
        self._extra = {name: value for name, value in given.items() if value}
        self._eos: dict[int, str] = {}

    async def connect(self) -> int:
        models = await self._models()
        own = [model for model in models if not model.get("parent")]
        chosen = next((model for model in own if self.model in ("", model["id"])), None)
        if chosen is None:
            known = ", ".join(model["id"] for model in own)
            raise UnknownModelError(self.http.server.said(f"has no model '{self.model}'; it has: {known}"))
        self.model = chosen["id"]
        self.adapters = len(own) < len(models) or "/v1/load_lora_adapter" in await self._paths()
        return int(chosen.get("max_model_len") or 0)

    async def encode(self, text: str, *, first: bool) -> list[int]:
        fields = {"model": self.model, "prompt": text, "add_special_tokens": first}
        return list(self.http.field(await self.http.ask("POST", "/tokenize", fields), "tokens", list))

    async def decode(self, tokens: Sequence[int]) -> str:
        fields = {"model": self.model, "tokens": list(tokens)}
        return str(self.http.field(await self.http.ask("POST", "/detokenize", fields), "prompt", str))

    async def render(self, messages: Sequence[Message]) -> list[int]:
        listed = [{"role": message.role, "content": message.content} for message in messages]
        fields = {"model": self.model, "messages": listed, "add_generation_prompt": True}
        return list(self.http.field(await self.http.ask("POST", "/tokenize", fields), "tokens", list))

    async def complete(self, asked: Completion) -> Answer:
        finish, stop, counts = "", None, None
        try:
            async with aclosing(self.http.events("/v1/completions", self._fields(asked))) as events:
                async for event in events:
                    for choice in event.get("choices", ()):
                        finish, stop = choice.get("finish_reason") or "", choice.get("stop_reason")
                        yield await self._part(choice, asked, ended=finish)
                    if event.get("usage"):
                        counts = self._counts(event["usage"])
        except RequestError as error:
            fault = grammar_fault(error, asked)
        else:
            if counts is None:
                raise AnswerError(self.http.server.said("ended its answer without its usage"))
            reason = why_ended(finish, stop, asked, f"engine '{self.name}'")
            yield End(reason, counts.prompt, counts.cached, stop if reason == "stop" else None)
            return
        raise fault

    async def score(self, tokens: Sequence[int], start: int, *, adapter: str) -> float:
        fields = {
            "model": adapter or self.model,
            "prompt": list(tokens),
            "max_tokens": 1,
            "temperature": 0.0,
            "prompt_logprobs": 0,
            **self._extra,
        }
        answer = await self.http.ask("POST", "/v1/completions", fields)
        (choice,) = self.http.field(answer, "choices", list)
        rows = self.http.field(choice, "prompt_logprobs", list)
        return float(sum(rows[index][str(tokens[index])]["logprob"] for index in range(start, len(tokens))))

    async def adapter(self, name: str) -> str:
        if not self.adapters:
            raise CapabilityError(
                f"engine '{self.name}' takes no adapters ('{name}'): start its server with --enable-lora and "
                "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, or with --lora-modules (an own server: lora=True)"
            )
        served = {model["id"] for model in await self._models() if model.get("parent")}
        if name in served:
            return name
        folder, _ = adapter_folder(name)
        known_as = f"plait-{hashlib.blake2b(folder.encode(), digest_size=8).hexdigest()}"
        if known_as not in served:
            try:
                await self.http.text("POST", "/v1/load_lora_adapter", {"lora_name": known_as, "lora_path": folder})
            except RequestError as error:
                raise CheckpointError(
                    f"adapter '{name}' is neither served by engine '{self.name}' (it serves: "
                    f"{', '.join(sorted(served)) or 'none'}) nor a folder that its server can load: {error}"
                ) from None
        return known_as

    async def counters(self) -> Counters:
        """What the server has counted since it started, for all who use it."""
        return Counters.read(await self.http.text("GET", "/metrics"))

    async def healthy(self) -> None:
        """Raise an error unless the server can be asked."""
        await self.http.text("GET", "/health")

    async def aclose(self) -> None:
        await self.http.aclose()

    # ---- helpers

    async def _models(self) -> list[Mapping[str, Any]]:
        return list(self.http.field(await self.http.ask("GET", "/v1/models"), "data", list))

    async def _paths(self) -> Mapping[str, Any]:
        """The routes that the server has, where it tells them."""
        try:
            return dict(self.http.field(await self.http.ask("GET", "/openapi.json"), "paths", dict))
        except UnknownModelError:  # --disable-fastapi-docs
            return {}

    def _fields(self, asked: Completion) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "model": asked.adapter or self.model,
            "prompt": list(asked.tokens),
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
            **sampling_fields(asked),
            **self._extra,
        }
        if asked.grammar is not None:
            fields["structured_outputs"] = grammar_fields(asked.grammar)
        return fields

    async def _part(self, choice: Mapping[str, Any], asked: Completion, *, ended: str) -> Part:
        text, tokens = choice["text"], choice.get("token_ids")
        if tokens is None:
            raise AnswerError(self.http.server.said("gives no token ids; plait needs vLLM 0.11 or later"))
        chances: tuple[Chance, ...] = ()
        if asked.sampling.logprobs:
            chances = read_chances(choice["logprobs"], tokens, asked.sampling.logprobs)
        if ended and tokens and why_ended(ended, choice.get("stop_reason"), asked, self.name) == "eos":
            text = text.removesuffix(await self._name_of(tokens[-1]))
            tokens, chances = tokens[:-1], chances[:-1]
        return Part(text, tuple(tokens), chances)

    async def _name_of(self, token: int) -> str:
        if token not in self._eos:
            self._eos[token] = await self.decode([token])
        return self._eos[token]

    def _counts(self, usage: Mapping[str, Any]) -> Counts:
        if self.tells_cached and usage.get("prompt_tokens_details") is None:
            self.tells_cached = False
            logger.warning(
                "engine '%s': its server does not say what it finds in its cache, so that usage counts all as encoded; "
                "start it with --enable-prompt-tokens-details",
                self.name,
            )
        return Counts.read(usage)


class OwnServerPort(ServerPort):
    """The same, where the server is a child, which is started with the first connection and stopped with the port."""

    def __init__(self, name: str, http: Http, child: Child, *, seconds: float, priority: int, cache_salt: str) -> None:
        """The child has so many seconds to be ready."""
        super().__init__(name, http, model="", priority=priority, cache_salt=cache_salt)
        self.child = child
        self._seconds = seconds

    async def connect(self) -> int:
        if not self.child.running:
            await self.child.start(self.healthy, seconds=self._seconds)
        return await super().connect()

    async def aclose(self) -> None:
        await super().aclose()
        await self.child.stop()

"""SGLang in this process: `sglang.Engine`, asked through its tokenizer manager as its own HTTP server asks it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio.to_thread

from ...errors import (
    CapabilityError,
    CheckpointError,
    ContextLengthError,
    EngineClosedError,
    MissingExtraError,
    RequestError,
)
from ..base import Message
from .http import SESSION_CHARACTERS


class InProcessWire:
    """An `sglang.Engine`, made when it is first needed, for this event loop (asyncio's). The model runs in processes of
    its own, which end with it. SGLang then ends all child processes of this one: start no others beside it."""

    def __init__(self, name: str, folder: Path, options: Mapping[str, Any]) -> None:
        """`name` is plait's engine, for messages; `options` are arguments of `sglang.Engine`."""
        self.name = name
        self._folder = folder
        self._options = dict(options)
        self._engine: Any = None

    async def info(self) -> Mapping[str, Any]:
        try:
            from sglang import Engine
        except ImportError as error:
            raise MissingExtraError("engine 'sglang' in this process", "sglang") from error
        if self._engine is None:
            try:
                self._engine = await anyio.to_thread.run_sync(self._made, Engine)
            except (ValueError, TypeError, RuntimeError, OSError) as error:
                raise CheckpointError(f"engine '{self.name}': SGLang can't run {self._folder}: {error}") from error
        return {**self._engine.server_args.resolved_dict(), "max_req_input_len": self._manager.max_req_input_len}

    async def generate(self, fields: Mapping[str, Any]) -> AsyncGenerator[Mapping[str, Any], None]:
        if self._engine is None:
            raise EngineClosedError(f"engine '{self.name}' is closed")
        try:
            async with aclosing(await self._engine.async_generate(**fields)) as events:
                async for event in events:
                    yield event
            return
        except ValueError as error:  # how SGLang refuses a request
            refusal = str(error)
        kind = ContextLengthError if "context length" in refusal else RequestError
        raise kind(f"engine '{self.name}' refuses: {refusal}")

    async def abort(self, rid: str) -> None:
        if self._engine is not None:
            self._manager.abort_request(rid=rid)

    async def encode(self, text: str, *, special: bool) -> list[int]:
        return list(self._manager.tokenizer.encode(text, add_special_tokens=special))

    async def decode(self, tokens: Sequence[int]) -> str:
        return str(self._manager.tokenizer.decode(list(tokens), skip_special_tokens=False))

    async def render(self, messages: Sequence[Message]) -> list[int]:
        listed = [{"role": message.role, "content": message.content} for message in messages]
        tokenizer = self._manager.tokenizer
        try:
            tokens = tokenizer.apply_chat_template(listed, add_generation_prompt=True, return_dict=False)
        except ValueError as error:
            raise CapabilityError(f"engine '{self.name}' can't render messages, give text instead: {error}") from error
        return list(tokens)

    async def adapters(self) -> list[str]:
        return [reference.lora_name for reference in self._manager.lora_registry.get_all_adapters().values()]

    async def load_adapter(self, name: str, folder: str) -> None:
        answer = await self._engine.async_load_lora_adapter(name, folder)
        if not answer.success:
            raise CapabilityError(f"adapter at {folder} can't be loaded: {answer.error_message}")

    async def open_session(self) -> str:
        from sglang.srt.managers.io_struct import OpenSessionReqInput

        return str(await self._manager.open_session(OpenSessionReqInput(capacity_of_str_len=SESSION_CHARACTERS)))

    async def close_session(self, session: str) -> None:
        from sglang.srt.managers.io_struct import CloseSessionReqInput

        if self._engine is not None:
            await self._manager.close_session(CloseSessionReqInput(session_id=session))

    async def metrics(self) -> str:
        raise CapabilityError(f"engine '{self.name}' runs in this process, which has no /metrics")

    async def aclose(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            await anyio.to_thread.run_sync(engine.shutdown)

    # ---- helpers

    @property
    def _manager(self) -> Any:
        if self._engine is None:
            raise EngineClosedError(f"engine '{self.name}' is closed")
        return self._engine.tokenizer_manager

    def _made(self, engine: Any) -> Any:
        defaults = {
            "model_path": str(self._folder),
            "incremental_streaming_output": True,
            "grammar_backend": "llguidance",
            "constrained_json_disable_any_whitespace": True,
        }
        return engine(**{**defaults, **self._options})

"""The port on an `AsyncLLM` in this process (see `resent`)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio.to_thread

from ...errors import CapabilityError, CheckpointError, EngineError, MissingExtraError, RequestError, ServerFaultError
from ..base import Message
from ..port import Answer, Chance, Completion, End, Part
from .counters import Counters
from .wire import STRUCTURED, adapter_folder, chance, grammar_fault, grammar_fields, sampling_fields, why_ended

_REFUSALS = {"ValueError", "VLLMClientError"}
"""The errors by which vLLM refuses a request; the latter is there in newer versions only."""


class InProcessPort:
    """What contexts of token ids need, of an `AsyncLLM`, which runs in this event loop (asyncio's)."""

    def __init__(
        self, name: str, model: Path, *, options: Mapping[str, Any], priority: int, cache_salt: str, lora: bool
    ) -> None:
        """`options` are arguments of `AsyncEngineArgs`."""
        self.name = name
        self.adapters = lora
        self._model = model
        self._options = {
            "structured_outputs_config": STRUCTURED,
            "generation_config": "vllm",
            "enable_lora": lora,
            **options,
        }
        self._priority = priority
        self._salt = {"cache_salt": cache_salt} if cache_salt else {}
        self._llm: Any = None
        self._tokenizer: Any = None
        self._adapters: dict[str, Any] = {}

    async def connect(self) -> int:
        try:
            from vllm import AsyncEngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM
        except ImportError as error:
            raise MissingExtraError("engine 'vllm' in this process", "vllm") from error
        try:
            arguments = AsyncEngineArgs(model=str(self._model), **self._options)
            self._llm = await anyio.to_thread.run_sync(AsyncLLM.from_engine_args, arguments)
        except (ValueError, TypeError, RuntimeError, OSError) as error:
            raise CheckpointError(f"engine '{self.name}': vLLM can't run {self._model}: {error}") from error
        self._tokenizer = self._llm.get_tokenizer()
        return int(self._llm.model_config.max_model_len)

    async def encode(self, text: str, *, first: bool) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=first))

    async def decode(self, tokens: Sequence[int]) -> str:
        shown = self._tokenizer.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return str(shown)

    async def render(self, messages: Sequence[Message]) -> list[int]:
        listed = [{"role": message.role, "content": message.content} for message in messages]
        try:
            tokens = self._tokenizer.apply_chat_template(listed, add_generation_prompt=True, return_dict=False)
        except ValueError as error:
            raise CapabilityError(f"engine '{self.name}' can't render messages, give text instead: {error}") from error
        return list(tokens)

    async def complete(self, asked: Completion) -> Answer:
        finish, stop, cached = "", None, 0
        try:
            async with aclosing(self._outputs(asked.tokens, self._params(asked), asked.adapter)) as outputs:
                async for output in outputs:
                    (said,) = output.outputs
                    finish, stop = said.finish_reason or "", said.stop_reason
                    cached = output.num_cached_tokens or cached
                    yield await self._part(said, asked)
        except EngineError:
            raise
        except Exception as error:
            if _REFUSALS.isdisjoint(kind.__name__ for kind in type(error).__mro__):
                raise ServerFaultError(f"engine '{self.name}' failed: {type(error).__name__}: {error}") from error
            raise grammar_fault(RequestError(f"engine '{self.name}' refused the request: {error}"), asked) from error
        reason = why_ended(finish, stop, asked, f"engine '{self.name}'")
        yield End(reason, len(asked.tokens), cached, stop if reason == "stop" else None)

    async def score(self, tokens: Sequence[int], start: int, *, adapter: str) -> float:
        from vllm import SamplingParams

        params = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0)
        rows: Sequence[Any] = ()
        async with aclosing(self._outputs(tokens, params, adapter)) as outputs:
            async for output in outputs:
                rows = output.prompt_logprobs or rows
        return float(sum(rows[index][tokens[index]].logprob for index in range(start, len(tokens))))

    async def adapter(self, name: str) -> str:
        from vllm.lora.request import LoRARequest

        if not self.adapters:
            raise CapabilityError(f"engine '{self.name}' takes no adapters ('{name}'): open it with lora=True")
        known_as, found = adapter_folder(name)
        if not found:
            raise CheckpointError(f"adapter '{name}' is no folder with an adapter_config.json")
        self._adapters.setdefault(known_as, LoRARequest(known_as, len(self._adapters) + 1, known_as))
        return known_as

    async def counters(self) -> Counters:
        """What all engines in this process have counted."""
        from prometheus_client import generate_latest

        return Counters.read(generate_latest().decode())

    async def aclose(self) -> None:
        llm, self._llm = self._llm, None
        if llm is not None:
            await anyio.to_thread.run_sync(llm.shutdown)

    # ---- helpers

    async def _outputs(self, tokens: Sequence[int], params: Any, adapter: str) -> Any:
        if self._llm is None:
            raise EngineError(f"engine '{self.name}' is closed")
        prompt = {"prompt_token_ids": list(tokens), **self._salt}
        answer = self._llm.generate(
            prompt,
            params,
            f"plait-{uuid.uuid4().hex}",
            lora_request=self._adapters.get(adapter),
            priority=self._priority,
        )
        async with aclosing(answer) as outputs:  # closed early, it aborts the request
            async for output in outputs:
                yield output

    def _params(self, asked: Completion) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        held = {"structured_outputs": StructuredOutputsParams(**grammar_fields(asked.grammar))} if asked.grammar else {}
        return SamplingParams(output_kind=RequestOutputKind.DELTA, **sampling_fields(asked), **held)

    async def _part(self, said: Any, asked: Completion) -> Part:
        text, tokens = said.text, tuple(said.token_ids)
        chances: tuple[Chance, ...] = ()
        if asked.sampling.logprobs:
            count = asked.sampling.logprobs
            chances = tuple(
                chance(token, row[token].logprob, {other: one.logprob for other, one in row.items()}, count)
                for token, row in zip(tokens, said.logprobs, strict=True)
            )
        if said.finish_reason and tokens and why_ended(said.finish_reason, said.stop_reason, asked, self.name) == "eos":
            text = text.removesuffix(await self.decode(tokens[-1:]))
            tokens, chances = tokens[:-1], chances[:-1]
        return Part(text, tokens, chances)

"""The local engine: contexts that share one KV pool, on torch (DESIGN.md §4, §5)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, Self
from weakref import finalize

import anyio
import anyio.to_thread
import torch

from ...errors import CapabilityError, ContextError, ContextLengthError, GrammarError, InputError
from ...usage import Usage
from ..base import (
    Capabilities,
    Context,
    Grammar,
    GrammarState,
    Member,
    Mode,
    Placement,
    Pooling,
    Prompt,
    TeamStream,
    Teamwork,
)
from ..base import Generation as Finished
from ..conversation import Conversation
from ..kinds import LOCAL
from .adapter import Adapter, AdapterCache
from .asking import perform
from .backends import KINDS, Backend, load_model
from .chat import ChatTemplate
from .context import Ask, LocalContext, check_adapters
from .editing import Editor
from .edits import Edit, Other, prune_exact, prune_shift, splice_exact, splice_shift
from .generation import Generation
from .grammar import GrammarCompiler, LocalGrammarState, Matcher
from .holding import Holding
from .loop import StepLoop
from .mailbox import Mailbox
from .model import Model, ModelSizes, StatefulModel
from .pages import PagePool
from .teaming import LocalTeam, Teaming
from .tokenizer import Tokenizer
from .view import View
from .work import Embedding, Extension, Scoring, Work

_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_SMALL = 50_000_000
"""Parameters up to which one torch thread is faster than several (FACTS.md §11)."""


@dataclass(frozen=True, slots=True)
class EngineStats:
    """What an engine holds and does at the moment; rates are over the time in which it had work."""

    pages: int
    pages_used: int
    pages_cached: int
    """Of those used, the ones that only the prefix cache holds: they are given up when others need them."""
    tokens: int
    """Tokens that the pool can hold."""
    contexts: int
    running: int
    waiting: int
    preempted: int
    evicted: int
    """Contexts that gave way."""
    pages_evicted: int
    """Pages of the prefix cache that gave way."""
    tokens_found: int
    """Tokens that were not encoded, since the prefix cache had them."""
    steps: int
    encoded: int
    keys_read: int
    """Tokens whose keys a layer has read, summed over steps; one read for several threads at once counts once."""
    sampled: int
    tokens_per_second: float


class LocalEngine:
    """A model of one's own machine behind the engine protocol. Make it with `LocalEngine.open`."""

    EMBEDDED: ClassVar[Path] = Path(__file__).parent / "embedded"
    """The checkpoint that comes with plait."""

    def __init__(self, name: str, decoder: Model, tokenizer: Tokenizer, template: ChatTemplate, loop: StepLoop):
        self.tokenizer = tokenizer
        self.decoder = decoder
        self._name = name
        self._template = template
        self._grammars = GrammarCompiler(tokenizer)
        self._adapters = AdapterCache(decoder.adapter)
        self._loop = loop
        self._window = decoder.config.max_positions
        self._stop = finalize(self, loop.close)
        loop.start()

    @classmethod
    def open(
        cls,
        path: str | Path = EMBEDDED,
        *,
        backend: Backend = "decoder",
        dtype: str = "auto",
        device: str = "auto",
        kernel: str = "auto",
        kv_memory: str | int = "1GiB",
        kv_tokens: int = 0,
        page_size: int = 16,
        step_tokens: int = 512,
        max_batch: int = 64,
        threads: int | Literal["auto"] = "auto",
        batch_invariant: bool = False,
        prefix_cache: bool = True,
        prefix_least: int = 128,
    ) -> LocalEngine:
        """Load a checkpoint in Hugging Face layout and start its step loop. `backend` says who computes the model.

        The KV pool takes `kv_memory` ("1GiB", or bytes), or holds `kv_tokens` tokens if that is given. A step encodes
        up to `step_tokens` tokens of at most `max_batch` threads. `threads` is torch's number of threads, which is the
        whole process's; "auto" is one for a small model on a CPU, and otherwise as torch has it. `prefix_cache` keeps
        what was encoded for prompts that begin alike, until others need the pages; they must have `prefix_least` tokens
        in common, since what is shared is one more read for every layer and step.
        With `batch_invariant` a thread's logits are the same to the last bit whatever else is in the batch, in whatever
        chunks and pages, preempted or not; without it, to rounding. Prompts and steps then take two to four times
        as long (`plait bench engine --only invariant`).
        Raises CheckpointError, InputError.
        """
        directory = Path(path)
        place = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        sizes = {"page_size": (page_size, 1), "step_tokens": (step_tokens, 1), "max_batch": (max_batch, 1)}
        counts = {
            "kv_tokens": (kv_tokens, 0),
            "prefix_least": (prefix_least, 0),
            "threads": (0 if threads == "auto" else threads, 0),
        }
        for option, (value, least) in {**sizes, **counts}.items():
            if value < least:
                raise InputError(f"{option} is {value}; it must be at least {least}")
        if batch_invariant and kernel not in ("auto", "invariant"):
            raise InputError(f"kernel '{kernel}' is not batch-invariant; leave it out, or take 'invariant'")
        kernel = "invariant" if batch_invariant else kernel
        decoder = load_model(
            backend, directory, dtype=dtype, device=place, kernel=kernel, batch_invariant=batch_invariant
        )
        config = decoder.config
        tokenizer = Tokenizer.load(directory, vocabulary=config.vocab_size, eos=config.eos_tokens)
        tokens = kv_tokens or parse_memory(kv_memory) // config.kv_bytes_per_token(decoder.dtype.itemsize)
        asked = f"kv_tokens {kv_tokens}" if kv_tokens else f"kv_memory {kv_memory!r}"
        if tokens < page_size:
            raise InputError(f"{asked} holds {tokens} tokens, no page of {page_size}; give more")
        try:
            loop = StepLoop(
                decoder,
                PagePool(tokens // page_size, page_size),
                tokens=tokenizer.size,
                step_tokens=step_tokens,
                max_batch=max_batch,
                threads=_threads(threads, config, decoder.device.type),
                prefix_cache=prefix_cache,
                prefix_least=prefix_least,
            )
        except (MemoryError, RuntimeError) as error:
            raise InputError(f"{asked} is more than device '{place}' has room for; give less") from error
        return cls(f"{KINDS[backend]}:{directory.name}", decoder, tokenizer, ChatTemplate.load(directory), loop)

    @property
    def name(self) -> str:
        return self._name

    @property
    def capabilities(self) -> Capabilities:
        return replace(LOCAL, embed=isinstance(self.decoder, StatefulModel), window=self._window)

    @property
    def chat_template(self) -> str:
        return self._template.source

    def prefix(self, text: str, tokens: int) -> int:
        return self.tokenizer.prefix(text, tokens)

    def stats(self) -> EngineStats:
        """A snapshot; cheap, from any thread."""
        loop = self._loop
        scheduler, pool = loop.scheduler, loop.pool
        return EngineStats(
            pages=pool.pages,
            pages_used=pool.used,
            pages_cached=pool.cached,
            tokens=pool.pages * pool.page_size,
            contexts=scheduler.holdings,
            running=len(scheduler.running),
            waiting=len(scheduler.waiting),
            preempted=scheduler.preempted,
            evicted=scheduler.evicted,
            pages_evicted=scheduler.cache.evicted,
            tokens_found=scheduler.found,
            steps=loop.steps,
            encoded=loop.encoded,
            keys_read=loop.keys_read,
            sampled=loop.sampled,
            tokens_per_second=loop.sampled / loop.seconds if loop.seconds else 0.0,
        )

    def check_integrity(self) -> None:
        """Law 1, after everything that was asked before. Waits for the step that runs. Raises AssertionError."""
        self._loop.call(self._loop.scheduler.check_integrity).result()

    def drop_cache(self) -> None:
        """Give up what only the prefix cache holds, and let it begin anew. Waits for the step that runs."""
        self._loop.call(self._loop.scheduler.cache.clear).result()

    async def start(self, prompt: Prompt, *, adapter: str | Path = "") -> LocalContext:
        """A new context that holds the prompt. `adapter` is a PEFT folder with a LoRA adapter, which the context and
        all that comes of it are encoded with. Raises CheckpointError.
        """
        loaded = await anyio.to_thread.run_sync(self._adapters.get, adapter) if adapter else None
        if isinstance(prompt, str):
            return await self._append(None, self.tokenizer.encode(prompt), None, loaded)
        text = self._template.open(prompt)
        tokens = self.tokenizer.encode_rendered(text)
        conversation = Conversation(tuple(prompt), len(self.tokenizer.text(tokens)))
        return await self._append(None, tokens, conversation, loaded)

    def stream_team(self, members: Sequence[Member], work: Teamwork) -> TeamStream:
        return LocalTeam(self, members, work)

    async def team(self, members: Sequence[Member], work: Teamwork) -> list[Finished]:
        async with self.stream_team(members, work) as stream:
            async for _ in stream:
                pass
        return stream.results

    async def aclose(self) -> None:
        """Cancel what is under way and free everything. Idempotent."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._stop)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    # ---- for contexts

    async def extend(self, context: LocalContext, prompt: Prompt) -> LocalContext:
        """A context that also holds the prompt; what it adds is tokenised on its own."""
        if isinstance(prompt, str):
            return await self._append(context, self.tokenizer.encode_more(prompt), context.conversation)
        said, conversation = context.text, context.conversation
        if conversation is None:
            added, history = self._template.open(prompt), tuple(prompt)
        else:
            said = said[conversation.opened :]
            added = self._template.follow(conversation, said, prompt)
            history = conversation.followed_by(said, prompt)
        opened = len(context.text) + len(added)
        return await self._append(context, self.tokenizer.encode_more(added), Conversation(history, opened))

    async def recall(
        self, context: LocalContext, text: str, tokens: Sequence[int], grammar: Grammar | GrammarState | None
    ) -> tuple[LocalContext, LocalGrammarState | None]:
        """The context and the grammar's state after what an earlier run generated (engines.base.Recalls)."""
        ids = tuple(tokens) or tuple(self.tokenizer.encode_more(text))
        matcher = await self._matcher(grammar)
        if matcher is not None:
            matcher.force(text)
        state = LocalGrammarState(matcher, self.tokenizer) if matcher is not None else None
        return await self._append(context, ids, context.conversation), state

    async def generation(self, context: LocalContext, ask: Ask, *, streams: bool) -> Generation:
        """A generation as it was asked for, ready to begin."""
        _check_seen("generate from", context)
        self._check_ask(ask)
        return Generation(
            self.tokenizer,
            context.holding.tokens,
            room=self._window - context.position,
            max_tokens=ask.max_tokens,
            stop=ask.stop,
            matcher=await self._matcher(ask.grammar),
            sampling=ask.sampling,
            streams=streams,
            mailbox=Mailbox.here(),
        )

    async def prune(self, context: LocalContext, start: int, stop: int, mode: Mode) -> LocalContext:
        _check_choice("prune", mode, ("exact", "shift"))
        if not 0 <= start <= stop <= context.length:
            raise ContextError(
                f"prune({start}, {stop}) does not fit a context of {context.length} tokens: "
                "give 0 <= start <= stop <= length"
            )
        edit = prune_exact if mode == "exact" else prune_shift
        return await self._edit(
            context,
            (),
            lambda views: edit(views[0], start, stop),
            kept=start,
            conversation=self._conversation_without(context, start, stop),
            pruned=stop - start,
        )

    async def splice(self, context: LocalContext, others: Sequence[Context], at: Placement, mode: Mode) -> LocalContext:
        _check_choice("splice", mode, ("exact", "shift"))
        _check_choice("splice", at, ("sequence", "parallel"))
        own = []
        for other in others:
            if not isinstance(other, LocalContext) or other.engine is not self:
                raise ContextError(
                    f"a context of another engine can't be spliced into one of '{self.name}': start it on this one"
                )
            own.append(other)
        check_adapters([context, *own])
        edit = splice_exact if mode == "exact" else splice_shift

        def splice(views: Sequence[View]) -> Edit:
            return edit(views[0], [_other(context, *pair) for pair in zip(own, views[1:], strict=True)], at)

        return await self._edit(context, own, splice, kept=context.length, conversation=context.conversation)

    async def score(self, context: LocalContext, continuations: Sequence[str]) -> list[float]:
        _check_seen("score after", context)
        works = []
        for continuation in continuations:
            tokens = self.tokenizer.encode_more(continuation)
            self._check_length(context, len(tokens))
            works.append(Scoring(tokens, Mailbox.here()))
        await self.perform(context, *(work for work in works if work.continuation))
        return [work.total for work in works]

    async def embed(self, context: LocalContext, pooling: Pooling) -> list[float]:
        """See Context.embed. Raises CapabilityError where the context's states can't be had again by encoding it."""
        _check_choice("embed", pooling, ("mean", "last"))
        _check_seen("embed", context)
        if not isinstance(self.decoder, StatefulModel):
            raise CapabilityError(f"'{self.name}' does not show hidden states, and has no 'embed'")
        if pooling == "last":
            work = Embedding(mailbox=Mailbox.here())
            await self.perform(context, work)
        elif context.holding.view.exact:
            work = Embedding(context.tokens, Mailbox.here(), adapter=context.adapter)
            await self.perform(None, work)
        else:
            raise CapabilityError(
                "pooling 'mean' encodes the context anew, which gives other states than those of shifted or parallel "
                "spans or of a team; use pooling='last', or edit with mode='exact'"
            )
        return work.embedding

    async def perform(self, context: LocalContext | None, *works: Work) -> None:
        """Do works to their end, all at once; if one fails or this is cancelled, none goes on."""
        await perform(self._loop, context.holding if context else None, *works)

    def begin(self, context: LocalContext | None, work: Work) -> None:
        """Hand a work to the step loop."""
        self._loop.submit(context.holding if context else None, work)

    def begin_team(self, holdings: Sequence[Holding], work: Teaming) -> None:
        """Hand a team to the step loop; `holdings` are the members', in order."""
        self._loop.submit_team(holdings, work)

    def encode_more(self, text: str) -> tuple[int, ...]:
        """The tokens of a text that stands after others."""
        return tuple(self.tokenizer.encode_more(text)) if text else ()

    def cancel(self, work: Work) -> None:
        self._loop.cancel(work)

    # ---- helpers

    async def _append(
        self,
        context: LocalContext | None,
        tokens: Sequence[int],
        conversation: Conversation | None,
        adapter: Adapter | None = None,
    ) -> LocalContext:
        self._check_length(context, len(tokens))
        work = Extension(tokens, Mailbox.here(), adapter=adapter)
        await self.perform(context, work)
        if context is None:
            return LocalContext(self, work.take_lease(), work.usage, conversation)
        return context.followed_by(work.take_lease(), work.usage, conversation)

    def _check_length(self, context: LocalContext | None, more: int) -> None:
        self._check_position((context.position if context else 0) + more)

    def _check_position(self, length: int) -> None:
        if length > self._window:
            raise ContextLengthError(
                f"{length} tokens do not fit the window of {self._window} of '{self.name}': cut the prompt, or prune"
            )

    def _check_ask(self, ask: Ask) -> None:
        if ask.max_tokens < 0 or "" in ask.stop:
            raise InputError(
                f"max_tokens {ask.max_tokens} or a stop string of {ask.stop!r} can't be used: give 0 tokens or more, "
                "and strings that aren't empty"
            )
        size = self.tokenizer.size
        named = {"stop": [stop for stop in ask.stop if isinstance(stop, int)], "logit_bias": ask.sampling.logit_bias}
        for option, tokens in named.items():
            for token in tokens:
                if not 0 <= token < size:
                    raise InputError(f"{option} names token {token}; '{self.name}' has tokens 0 to {size - 1}")
        if ask.sampling.logprobs > size:
            raise InputError(f"logprobs={ask.sampling.logprobs} is more than the vocabulary of '{self.name}', {size}")

    async def _matcher(self, grammar: Grammar | GrammarState | None) -> Matcher | None:
        if grammar is None:
            return None
        if isinstance(grammar, LocalGrammarState):
            if grammar.tokenizer is not self.tokenizer:
                raise GrammarError(
                    "a grammar's state belongs to the engine that made it: begin with the grammar itself"
                )
            return grammar.matcher()
        if isinstance(grammar, GrammarState):
            raise GrammarError("a grammar's state belongs to the engine that made it: begin with the grammar itself")
        return self._grammars.known(grammar) or await anyio.to_thread.run_sync(self._grammars.matcher, grammar)

    async def _edit(
        self,
        context: LocalContext,
        others: Sequence[LocalContext],
        edit: Callable[[Sequence[View]], Edit],
        *,
        kept: int,
        conversation: Conversation | None,
        pruned: int = 0,
    ) -> LocalContext:
        """Have an edit made and what it asks for encoded; the first `kept` tokens are the context's own."""
        started = time.monotonic()
        editor = Editor(self._loop)
        lease, made = await editor.make([part.holding for part in (context, *others)], edit)
        self._check_position(made.next)
        lease = await editor.carry_out(lease, made.again)
        usage = Usage(
            prompt=made.added,
            cached=editor.cached,
            recomputed=editor.recomputed,
            pruned=pruned,
            live=made.added - pruned,
            peak_live=context.length + made.added,
            seconds=time.monotonic() - started,
        )
        return LocalContext(self, lease, usage, conversation, parent=context, shared=kept)

    def _conversation_without(self, context: LocalContext, start: int, stop: int) -> Conversation | None:
        """Its conversation after a prune."""
        if context.conversation is None:
            return None
        tokens, text = context.tokens, self.tokenizer.text
        begin, gone = len(text(tokens[:start])), len(text(tokens)) - len(text(tokens[:start] + tokens[stop:]))
        return context.conversation.without(begin, begin + gone)


def _check_seen(use: str, context: LocalContext) -> None:
    if not context.length:
        raise ContextError(f"can't {use} an empty context: start with a prompt")
    if context.holding.ends_side_by_side:
        raise ContextError(
            f"can't {use} a context that ends with a parallel group, of which no token has seen every sibling: "
            "extend it with some text first"
        )


def _other(context: LocalContext, other: LocalContext, view: View) -> Other:
    common = context.lineage.common(other.lineage)
    return Other(view, common, stays=common == context.length)


def _check_choice(operation: str, choice: str, supported: Sequence[str]) -> None:
    if choice not in supported:
        raise CapabilityError(f"{operation} does not know '{choice}'; supported: {', '.join(supported)}")


def parse_memory(memory: str | int) -> int:
    """Bytes of "1GiB", "512MiB" or a number. Raises InputError."""
    if isinstance(memory, int):
        return memory
    for unit, size in _UNITS.items():
        number = memory.strip().removesuffix(unit)
        if number != memory.strip():
            try:
                return int(float(number) * size)
            except (OverflowError, ValueError):
                break
    raise InputError(f"kv_memory {memory!r} can't be read; give bytes, or a number with one of {', '.join(_UNITS)}")


def _threads(threads: int | Literal["auto"], sizes: ModelSizes, device: str) -> int:
    if threads != "auto":
        return threads
    return 1 if device == "cpu" and sizes.parameters <= _SMALL else 0

"""The engine protocol (DESIGN.md §5): all that the orchestrator knows of an engine.

A context is an immutable value: every operation returns a new one and leaves the old one usable, so
"fork" is using the same context twice. Engines declare what they can do in `Capabilities`; a graph that
needs more is refused when it is compiled.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, Self, TypeAlias, runtime_checkable

from ..errors import InputError
from ..usage import Usage

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
Mode: TypeAlias = Literal["exact", "shift"]
Placement: TypeAlias = Literal["sequence", "parallel"]
Layout: TypeAlias = Literal["contiguous", "interleaved", "combined", "tokenwise"]
Pooling: TypeAlias = Literal["mean", "last"]
Finish: TypeAlias = Literal["stop", "eos", "grammar", "length", "window"]
"""Why a generation ended: a stop string or token, the end-of-sequence token, a complete grammar, `max_tokens`,
or the model's window."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation, rendered by the engine's chat template."""

    role: Role
    content: str


Prompt: TypeAlias = str | Sequence[Message]
"""Raw text, taken as it is, or messages, rendered by the chat template with the assistant's turn opened."""

Stop: TypeAlias = str | int
"""A stop string, or the id of a stop token."""


LARGEST = 1e15
"""How large, and by its inverse how small, a number of a `Sampling` may be: float32 can then divide one by another."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen. Raises InputError for a value that can't be used.

    Penalties and bias change the logits first. `temperature=0` then takes the best and ignores what follows; otherwise
    `top_k` (0 keeps all tokens), `top_p` and `min_p` leave out unlikely tokens, in this order.
    `repetition_penalty` divides positive and multiplies negative logits of tokens that the context or the generation
    holds (CTRL, Keskar et al. 2019); `presence_penalty` is subtracted from the logits of tokens that this generation
    has sampled; `logit_bias` is added by token id. `logprobs` asks for the log-probabilities of the chosen token and of
    that many best ones, at every step.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict, hash=False)
    logprobs: int = 0

    def __post_init__(self) -> None:
        for name, value, fits, what in (
            ("temperature", self.temperature, self.temperature >= 0, "0 or more"),
            ("top_k", self.top_k, self.top_k >= 0, "0 or more"),
            ("top_p", self.top_p, 0 <= self.top_p <= 1, "between 0 and 1"),
            ("min_p", self.min_p, 0 <= self.min_p <= 1, "between 0 and 1"),
            ("repetition_penalty", self.repetition_penalty, self.repetition_penalty > 0, "more than 0"),
            ("presence_penalty", self.presence_penalty, True, "a number"),
            ("logprobs", self.logprobs, self.logprobs >= 0, "0 or more"),
            *((f"logit_bias[{token}]", bias, token >= 0, "a number, for a token id") for token, bias in self._biases()),
        ):
            if not fits or not math.isfinite(value):
                raise InputError(f"sampling: {name} is {value}; it must be {what}, and finite")
            if value and not 1 / LARGEST <= abs(value) <= LARGEST:
                raise InputError(
                    f"sampling: {name} is {value}; it must be 0, or {1 / LARGEST:g} to {LARGEST:g} in size"
                )

    def _biases(self) -> list[tuple[int, float]]:
        return list(self.logit_bias.items())


GREEDY = Sampling()


def seeds(sampling: Sampling, count: int) -> list[Sampling]:
    """The sampling of each of `count` samples, seeded from the seed and the sample's index. Raises InputError."""
    if count < 1:
        raise InputError(f"{count} samples were asked for; ask for at least 1")
    data = [f"{sampling.seed}\0{index}".encode() for index in range(count)]
    digests = [hashlib.blake2b(text, digest_size=8).digest() for text in data]
    return [replace(sampling, seed=int.from_bytes(digest) >> 1) for digest in digests]


# ---- grammars


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """Output is compact JSON (no white space between tokens) that fits the schema, keys in the schema's order."""

    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Regex:
    """Output matches the regular expression as a whole."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Choice:
    """Output is one of the options."""

    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lark:
    """Output follows a context-free grammar in llguidance's Lark syntax."""

    text: str


@dataclass(frozen=True, slots=True)
class Ebnf:
    """Output follows a context-free grammar in EBNF, as llama.cpp (GBNF) and the W3C write it: `root ::= "a" root?`.

    It begins at the rule `root`, or at the first one if there is none. White space counts only within quotes.
    """

    text: str


Grammar: TypeAlias = JsonSchema | Regex | Choice | Lark | Ebnf


@runtime_checkable
class GrammarState(Protocol):
    """Where a generation stands in its grammar: an immutable value, given back to the next `generate` to go on.

    It is a function of the tokens emitted or forced since the grammar began, never of the view (DESIGN.md §4):
    prune and splice do not touch it.
    """

    def force(self, text: str) -> GrammarState:
        """The state after `text` was inserted (a tool result, say). Raises GrammarError if it isn't allowed here."""
        ...

    @property
    def complete(self) -> bool:
        """True where the output may end."""
        ...


# ---- what engines can do


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do. `grammars` holds the names of grammar classes above; `window` is in tokens, 0 = unknown.

    `shared_prefix` says that forks of one context share K/V instead of encoding the prefix again; `grammar_states` that
    a generation goes on within a grammar, from the state in which another left it.
    """

    streaming: bool = True
    seeds: bool = True
    shared_prefix: bool = False
    score: bool = False
    grammars: frozenset[str] = frozenset()
    grammar_states: bool = False
    prune: frozenset[Mode] = frozenset()
    splice: frozenset[Mode] = frozenset()
    team: frozenset[Layout] = frozenset()
    logprobs: bool = False
    embed: bool = False
    adapters: bool = False
    window: int = 0

    @property
    def offered(self) -> tuple[str, ...]:
        """What is there, as nodes of a graph ask for it: `score`, `prune:exact`, `grammar:Regex`, …"""
        named = {"grammar": self.grammars, "prune": self.prune, "splice": self.splice, "team": self.team}
        flags = ("streaming", "seeds", "shared_prefix", "score", "grammar_states", "logprobs", "embed", "adapters")
        plain = (*flags, "window")
        options = [f"{name}:{option}" for name, options in named.items() for option in sorted(options)]
        return (*(name for name in plain if getattr(self, name)), *options)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Newly generated text; `tokens` counts the tokens sampled for it (0 where an engine can't tell)."""

    text: str
    tokens: int = 1


@dataclass(frozen=True, slots=True)
class Likely:
    """A token that could have come next. `logprob` is the model's own, before penalties, bias, grammar and temperature
    (the log-softmax of its logits, as `score` sums it)."""

    token: int
    text: str
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenLogprobs(Likely):
    """A token that was sampled, and the `Sampling.logprobs` likeliest ones in its place, best first."""

    best: tuple[Likely, ...] = ()


@dataclass(frozen=True, slots=True)
class Generation:
    """A finished generation.

    `text` is everything generated, the stop string or stop token included, so that the text of `context` is always the
    text of the context before plus `text`; an end-of-sequence token is in neither, be it a stop token or not. `stop` is
    the stop string or token met. `grammar` is the state in which the grammar stands (None without a grammar).
    `logprobs` has an entry for each token sampled (a last one that goes beyond a stop string too), if they were asked
    for.
    """

    text: str
    context: Context
    finish: Finish
    usage: Usage
    stop: Stop | None = None
    grammar: GrammarState | None = None
    tokens: tuple[int, ...] = field(default=(), repr=False)
    logprobs: tuple[TokenLogprobs, ...] = field(default=(), repr=False)


class GenerationStream(Protocol):
    """A generation under way: `async with context.stream(...) as s: async for chunk in s: ...; s.result`.

    Leaving the block early cancels the generation and frees what it held.
    """

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc: object) -> None: ...
    def __aiter__(self) -> AsyncIterator[Chunk]: ...

    @property
    def result(self) -> Generation:
        """The finished generation; raises EngineError before the stream has ended."""
        ...


class Context(Protocol):
    """An immutable handle on what a thread attends to. `usage` is what the operation that made it has cost."""

    @property
    def engine(self) -> Engine: ...
    @property
    def length(self) -> int:
        """Tokens held."""
        ...

    @property
    def text(self) -> str:
        """The tokens held, as text."""
        ...

    @property
    def usage(self) -> Usage: ...

    async def extend(self, prompt: Prompt) -> Context:
        """Append text (tokenised on its own) or further messages, without generating."""
        ...

    def stream(
        self,
        *,
        max_tokens: int = 512,
        stop: Sequence[Stop] = (),
        grammar: Grammar | GrammarState | None = None,
        sampling: Sampling = GREEDY,
    ) -> GenerationStream:
        """Generate and yield text as it comes."""
        ...

    async def generate(
        self,
        *,
        max_tokens: int = 512,
        stop: Sequence[Stop] = (),
        grammar: Grammar | GrammarState | None = None,
        sampling: Sampling = GREEDY,
    ) -> Generation:
        """Generate until a stop string or token, the end of sequence, a complete grammar, `max_tokens` or the window's
        end."""
        ...

    async def samples(
        self,
        count: int,
        *,
        max_tokens: int = 512,
        stop: Sequence[Stop] = (),
        grammar: Grammar | GrammarState | None = None,
        sampling: Sampling = GREEDY,
    ) -> list[Generation]:
        """So many generations side by side, seeded by their index (`seeds`). The first failure cancels the others."""
        ...

    async def prune(self, start: int, stop: int, *, mode: Mode) -> Context:
        """Drop the tokens [start, stop), counted in view order; later ones move up. `exact` encodes again what has seen
        the cut, `shift` leaves it as it is. Raises ContextError for a range that doesn't fit, or that crosses the
        boundary of a parallel group."""
        ...

    async def splice(self, others: Sequence[Context], *, at: Placement, mode: Mode) -> Context:
        """Append what the other contexts hold beyond where they were forked from this one, or beyond what both have
        from a third. In `sequence` each sees those before it; in `parallel` all begin at one place and see what was
        there, none sees another, and what follows sees them all. Raises ContextError for a context of another engine.
        """
        ...

    async def score(self, continuations: Sequence[str]) -> list[float]:
        """Summed log-probability of each continuation."""
        ...

    async def embed(self, *, pooling: Pooling = "mean") -> list[float]:
        """What the model's last layer makes of the tokens held, after its norm: the mean over all, or the last one's.

        `last` costs nearly nothing; `mean` encodes the context again.
        """
        ...

    def release(self) -> None:
        """Give up the tokens held. Using a released context is an error; a context left to the garbage collector
        is released with it."""
        ...


@runtime_checkable
class Recalls(Protocol):
    """A context that can take over exactly what an earlier run generated from it; others are extended by the text."""

    async def recall(
        self, text: str, tokens: Sequence[int] = (), *, grammar: Grammar | GrammarState | None = None
    ) -> tuple[Context, GrammarState | None]:
        """The context, and the grammar's state, as they were after a generation gave these tokens (or this text, where
        no tokens are given). Encodes the tokens and samples none."""
        ...


# ---- what an engine may tell of its checkpoint


@runtime_checkable
class Templated(Protocol):
    """An engine that knows its checkpoint's chat template ("" where there is none)."""

    @property
    def chat_template(self) -> str: ...


@runtime_checkable
class Measures(Protocol):
    """An engine that can tell how much text a number of tokens is."""

    def prefix(self, text: str, tokens: int) -> int:
        """How many characters of a text its first tokens stand for, tokenised on its own."""
        ...


CHARACTERS_PER_TOKEN = 4
"""What is taken for an engine that can't tell: what English text has with most tokenizers."""


def prefix(engine: Engine, text: str, tokens: int) -> int:
    """How many characters of a text its first tokens stand for, as far as the engine can tell."""
    if isinstance(engine, Measures):
        return engine.prefix(text, tokens)
    return min(len(text), tokens * CHARACTERS_PER_TOKEN)


# ---- teams


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member of a team: the context that it goes on from, and how it generates.

    `name` stands in step headers; `joins` is the team's step (a forward pass, counted from 0) in which it begins.
    """

    context: Context
    name: str = ""
    max_tokens: int = 512
    stop: Sequence[Stop] = ()
    grammar: Grammar | GrammarState | None = None
    sampling: Sampling = GREEDY
    joins: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Teamwork:
    """How the members of a team see each other while they generate (DESIGN.md §4, team layouts).

    - `contiguous`: own context, the others' tails in the members' order, own tail.
    - `interleaved`: own context, the finished steps of all in the order in which they ended, own unfinished step.
    - `combined`: own context, finished steps of all, the others' unfinished steps, own unfinished step (Hogwild!
      Inference, arXiv:2504.06261).
    - `tokenwise`: own context, then a slot of `slot` positions for each member, which its tokens never leave (Group
      Think, arXiv:2505.11107).

    `same_step`: whether members see the tokens that the others encode in the same forward pass (Hogwild!), or only
    those of earlier ones (Group Think). A step of thought ends with `step_end` where one of the characters of
    `step_after` stands before it (any may, if that is empty); without `step_end` none does. `step_header` opens each
    step with `{name}` and `{step}` filled in. `past_header`, `others_header` and `own_header` stand before the parts of
    the view. Where `check_every` tokens have been generated by all members together since the last time, the member
    that ends a step next is given `check` to go on from.
    """

    layout: Layout
    same_step: bool = True
    step_end: str = ""
    step_after: str = ""
    step_header: str = ""
    past_header: str = ""
    others_header: str = ""
    own_header: str = ""
    check: str = ""
    check_every: int = 0
    slot: int = 0


@dataclass(frozen=True, slots=True)
class TeamChunk:
    """Newly generated text of one member, by its index."""

    member: int
    text: str
    tokens: int = 1


class TeamStream(Protocol):
    """A team at work: `async with engine.stream_team(...) as s: async for chunk in s: ...; s.results`.

    Leaving the block early cancels the whole team and frees what it held.
    """

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc: object) -> None: ...
    def __aiter__(self) -> AsyncIterator[TeamChunk]: ...

    @property
    def results(self) -> list[Generation]:
        """The finished generations, in the members' order; raises EngineError before the team has ended."""
        ...


class Engine(Protocol):
    """Makes contexts. Use as `async with open_engine("local") as engine`."""

    @property
    def name(self) -> str: ...
    @property
    def capabilities(self) -> Capabilities: ...

    async def start(self, prompt: Prompt, *, adapter: str = "") -> Context:
        """A new context that holds the prompt.

        `adapter` is a LoRA adapter's folder in PEFT format, which this context and all that comes of it run with
        (capability `adapters`).
        """
        ...

    def stream_team(self, members: Sequence[Member], work: Teamwork) -> TeamStream:
        """Let the members generate side by side, seeing each other as `work` says, and yield text as it comes.

        A result's text is all that the member said, step headers and checks included; its context holds what the member
        saw in the end, its own text last. Raises CapabilityError for a layout that the engine doesn't have.
        """
        ...

    async def team(self, members: Sequence[Member], work: Teamwork) -> list[Generation]:
        """`stream_team` to its end: the finished generations, in the members' order."""
        ...

    async def aclose(self) -> None:
        """Cancel what is under way and free everything. Idempotent."""
        ...

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc: object) -> None: ...


@runtime_checkable
class HoldsKeys(Protocol):
    """An engine that is asked with keys: a run keeps them out of its events, its journal and its errors."""

    @property
    def keys(self) -> Mapping[str, str]:
        """The keys by the names of their environment variables."""
        ...

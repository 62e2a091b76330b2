"""Bad input: each is an error that names the thing and the way out; nothing leaks, and the engine goes on."""

from __future__ import annotations

import gc
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from plait.engines import Choice, JsonSchema, Lark, Regex, Sampling
from plait.engines.local import LocalEngine
from plait.engines.local.context import LocalContext
from plait.engines.scripted import ScriptedEngine
from plait.errors import (
    CapabilityError,
    CheckpointError,
    ContextError,
    ContextLengthError,
    GrammarError,
    InputError,
    PlaitError,
    PoolError,
)

pytestmark = pytest.mark.anyio
Open = Callable[..., LocalEngine]
WEIGHTS, TOKENIZER, CONFIG = "model.safetensors", "tokenizer.json", "config.json"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


# ---- checkpoints


def configured(directory: Path, **changes: object) -> None:
    config = json.loads((directory / CONFIG).read_text())
    (directory / CONFIG).write_text(json.dumps({**config, **changes}))


def cut(file: Path, kept: float) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * kept)])


def renumbered(file: Path) -> None:
    """One token beyond the model's vocabulary."""
    tokenizer = json.loads(file.read_text())
    tokenizer["model"]["vocab"]["far"] = 5000
    file.write_text(json.dumps(tokenizer))


CHECKPOINTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "unknown architecture": (
        lambda path: configured(path, model_type="abacus", architectures=["AbacusForCausalLM"]),
        r"abacus.*Use a checkpoint of one of the families llama, mistral.*or try --engine transformers:",
    ),
    "unknown rope type": (
        lambda path: configured(path, rope_scaling={"rope_type": "longrope", "factor": 2.0}),
        r"longrope.*Use a checkpoint of one of the families",
    ),
    "no config": (lambda path: (path / CONFIG).unlink(), r"config\.json"),
    "no weights": (lambda path: (path / WEIGHTS).unlink(), r"has no model\.safetensors.*Fetch or export"),
    "truncated weights": (lambda path: cut(path / WEIGHTS, 0.6), r"model\.safetensors can't be read.*Fetch or export"),
    "weights of another model": (
        lambda path: configured(path, intermediate_size=96),
        r"calls for \[96, 48\].*Use the config\.json that belongs to these weights",
    ),
    "no tokenizer": (lambda path: (path / TOKENIZER).unlink(), r"no tokenizer\.json: fetch or convert"),
    "truncated tokenizer": (lambda path: cut(path / TOKENIZER, 0.5), r"tokenizer\.json can't be read.*Fetch"),
    "tokenizer of another model": (
        lambda path: renumbered(path / TOKENIZER),
        r"tokens up to 5000, its model only 352.*Use the tokenizer that the model was trained with",
    ),
}


@pytest.mark.parametrize("case", CHECKPOINTS)
def test_a_checkpoint_that_cannot_be_used_is_refused(
    tiny_checkpoint: Callable[..., Path], checkpoint: Path, open_local: Open, case: str
) -> None:
    path = tiny_checkpoint("qwen3", num_hidden_layers=1, vocab_size=352, eos_token_id=0)
    (path / TOKENIZER).write_bytes((checkpoint / TOKENIZER).read_bytes())
    spoil, message = CHECKPOINTS[case]
    spoil(path)
    with pytest.raises(CheckpointError, match=f"(?s){message}"):
        open_local(path)


# ---- requests


@dataclass(frozen=True, slots=True)
class Bench:
    """What a bad request is made of: a context of nine tokens, one that holds two siblings, one that was released, and
    one of another engine."""

    engine: LocalEngine
    context: LocalContext
    siblings: LocalContext
    released: LocalContext
    foreign: LocalContext


REQUESTS: dict[str, tuple[Callable[[Bench], Awaitable[object]], type[PlaitError], str]] = {
    "negative span": (
        lambda on: on.context.prune(-2, 3, mode="exact"),
        ContextError,
        r"prune\(-2, 3\) does not fit a context of 9 tokens: give 0 <= start <= stop <= length",
    ),
    "span that ends before it starts": (
        lambda on: on.context.prune(4, 2, mode="shift"),
        ContextError,
        r"prune\(4, 2\) does not fit.*give 0 <= start",
    ),
    "span beyond the end": (lambda on: on.context.prune(3, 10, mode="exact"), ContextError, "of 9 tokens: give"),
    "span that overlaps two siblings": (
        lambda on: on.siblings.prune(10, 14, mode="exact"),
        ContextError,
        r"crosses the boundary of a parallel group.*prune within it, or all of it",
    ),
    "unknown mode": (
        lambda on: on.context.prune(0, 1, mode="quick"),  # type: ignore[arg-type]
        CapabilityError,
        "prune does not know 'quick'; supported: exact, shift",
    ),
    "context of another engine": (
        lambda on: on.context.splice([on.foreign], at="sequence", mode="exact"),
        ContextError,
        "another engine can't be spliced into one of 'local:.*': start it on this one",
    ),
    "released context": (lambda on: on.released.generate(), ContextError, "was released; keep it until its last use"),
    "released context among others": (
        lambda on: on.context.splice([on.context, on.released], at="parallel", mode="shift"),
        ContextError,
        "was released; keep it until its last use",
    ),
    "no prompt": (lambda on: _from_nothing(on.engine), ContextError, "an empty context: start with a prompt"),
    "context that ends side by side": (
        lambda on: on.siblings.generate(),
        ContextError,
        "ends with a parallel group.*extend it with some text first",
    ),
    "grammar with an error": (
        lambda on: on.context.generate(grammar=Regex("(a")),
        GrammarError,
        "can't be compiled, correct it",
    ),
    "grammar that nothing fits": (
        lambda on: on.context.generate(grammar=JsonSchema({"type": "string", "minLength": 5, "maxLength": 2})),
        GrammarError,
        "can't be compiled, correct it",
    ),
    "grammar that no text fits": (
        lambda on: on.context.generate(grammar=Regex(r"[^\s\S]")),
        GrammarError,
        r"the grammar can't be satisfied: no text fits it from here on\. Correct it$",
    ),
    "text that is no text": (
        lambda on: on.context.extend("a\ud800"),
        InputError,
        r"character 1 of a text is half a surrogate pair, U\+D800.*read the text as",
    ),
    "grammar without a token to go on": (
        lambda on: on.context.generate(grammar=Lark("start: <|nothing|>")),
        GrammarError,
        "correct it|Change it",
    ),
    "no choice": (lambda on: on.context.generate(grammar=Choice(())), GrammarError, "needs options that are not empty"),
    "prompt longer than the window": (
        lambda on: on.engine.start("a" * 600),
        ContextLengthError,
        "600 tokens do not fit the window of 512.*cut the prompt, or prune",
    ),
    "extension beyond the window": (
        lambda on: on.context.extend("a" * 510),
        ContextLengthError,
        "519 tokens do not fit the window of 512.*cut the prompt, or prune",
    ),
    "prompt that the pool can't hold": (
        lambda on: on.engine.start("ab" * 150),
        PoolError,
        "slots more in the KV pool.*Open the engine with more kv_memory, or release contexts",
    ),
    "generation that outgrows the pool": (
        lambda on: on.context.generate(max_tokens=400, sampling=Sampling(1.0, logit_bias={0: -100.0})),
        PoolError,
        "slots more in the KV pool.*Open the engine with more kv_memory, or release contexts",
    ),
    "negative length": (
        lambda on: on.context.generate(max_tokens=-1),
        InputError,
        "max_tokens -1.*give 0 tokens or more",
    ),
    "empty stop string": (
        lambda on: on.context.generate(stop=[""]),
        InputError,
        "stop string of .*strings that aren't empty",
    ),
    "token beyond the vocabulary": (
        lambda on: on.context.generate(stop=[100_000]),
        InputError,
        "stop names token 100000; .* has tokens 0 to",
    ),
}


async def _from_nothing(engine: LocalEngine) -> object:
    return await (await engine.start("")).generate()


@pytest.mark.parametrize("case", REQUESTS)
async def test_a_request_that_cannot_be_met_is_refused_and_leaves_no_trace(
    checkpoint: Path, open_local: Open, case: str
) -> None:
    ask, kind, message = REQUESTS[case]
    async with open_local(checkpoint, kv_tokens=256) as engine, open_local(checkpoint, kv_tokens=256) as other:
        context = await engine._append(None, list(range(10, 19)), None)
        forks = [await engine._append(context, list(range(start, start + 3)), None) for start in (30, 40)]
        siblings = await context.splice(forks, at="parallel", mode="exact")
        released = await context.extend(" x")
        released.release()
        before = _held(engine)
        with pytest.raises(kind, match=f"(?s){message}"):
            await ask(Bench(engine, context, siblings, released, await other.start("the cat")))
        assert _held(engine) <= before
        assert (await context.generate(max_tokens=3)).usage.generated == 3


def _held(engine: LocalEngine) -> tuple[int, int]:
    """Contexts and pages in use; the books are checked."""
    gc.collect()
    engine.check_integrity()
    stats = engine.stats()
    assert (stats.running, stats.waiting) == (0, 0)
    return stats.contexts, stats.pages_used - stats.pages_cached


async def test_a_context_of_another_kind_of_engine_is_refused(checkpoint: Path, open_local: Open) -> None:
    async with open_local(checkpoint) as engine:
        foreign = await ScriptedEngine([]).start("the cat")
        with pytest.raises(ContextError, match="start it on this one"):
            await (await engine.start("x")).splice([foreign], at="sequence", mode="exact")

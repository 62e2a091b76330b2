"""The wire: what is asked of a vLLM, by its own names, and what its answers say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ...errors import GrammarError, RequestError, ServerFaultError
from ..base import Choice, Ebnf, Grammar, JsonSchema, Lark, Regex
from ..port import Chance, Completion

GRAMMARS = frozenset({"JsonSchema", "Regex", "Choice", "Lark", "Ebnf"})
STRUCTURED = {"backend": "guidance", "disable_any_whitespace": True}
"""How structured outputs are to be made: xgrammar 0.2 admits raw control characters in strings with a maxLength, which
is no JSON, and by default random models write white space without end."""
_LEAST = 1e-9
_ID = "token_id:"


def sampling_fields(asked: Completion) -> dict[str, Any]:
    """A generation as fields of `SamplingParams`, all of them named: a model's own defaults have no part in it."""
    sampling = asked.sampling
    found: dict[str, Any] = {
        "max_tokens": asked.max_tokens,
        "stop": [stop for stop in asked.stop if isinstance(stop, str)],
        "stop_token_ids": [stop for stop in asked.stop if isinstance(stop, int)],
        "include_stop_str_in_output": True,
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": max(sampling.top_p, _LEAST),  # 0 is refused
        "min_p": sampling.min_p,
        "repetition_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty,
    }
    if sampling.temperature:
        found["seed"] = sampling.seed
    if sampling.logprobs:
        found["logprobs"] = sampling.logprobs
    if sampling.logit_bias:
        found["logit_bias"] = dict(sampling.logit_bias)
    return found


def grammar_fields(grammar: Grammar) -> dict[str, Any]:
    """A grammar as fields of `StructuredOutputsParams`."""
    match grammar:
        case JsonSchema(schema):
            return {"json": dict(schema)}
        case Regex(pattern):
            return {"regex": pattern}
        case Choice(options):
            return {"choice": list(options)}
        case Lark(text) | Ebnf(text):
            return {"grammar": text}
    raise GrammarError(f"unknown grammar {grammar!r}; known: {', '.join(sorted(GRAMMARS))}")


def grammar_fault(error: RequestError, asked: Completion) -> RequestError | GrammarError:
    """A refused request's error: that of its grammar, if the server names it."""
    told = str(error).lower()
    if asked.grammar is not None and any(word in told for word in ("grammar", "regex", "schema", "choice", "structur")):
        return GrammarError(f"{type(asked.grammar).__name__} can't be used, correct it: {error}")
    return error


def adapter_folder(name: str) -> tuple[str, bool]:
    """An adapter's name as a folder, and whether one is there."""
    folder = Path(name).resolve()
    return str(folder), (folder / "adapter_config.json").is_file()


def why_ended(finish: str, stop: int | str | None, asked: Completion, who: str) -> Literal["stop", "eos", "length"]:
    """Why a generation has ended. `stop` is what it met: nothing, or a token that was not asked for, where it is the
    end of sequence. Raises ServerFaultError if the server gave it up."""
    if finish == "stop":
        return "stop" if stop in asked.stop else "eos"
    if finish in ("abort", "error"):
        raise ServerFaultError(f"{who} gave up a generation ('{finish}'); try again")
    return "length"


def read_chances(logprobs: Mapping[str, Any], tokens: Sequence[int], count: int) -> tuple[Chance, ...]:
    """The log-probabilities of a completion's tokens, where tokens are shown as `token_id:N`."""
    rows = zip(tokens, logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True)
    return tuple(
        chance(token, logprob, {int(name.removeprefix(_ID)): value for name, value in best.items()}, count)
        for token, logprob, best in rows
    )


def chance(token: int, logprob: float, likely: Mapping[int, float], count: int) -> Chance:
    """A token's chance, with so many of the likeliest."""
    best = sorted(likely.items(), key=lambda pair: (-pair[1], pair[0]))[:count]
    return Chance(token, logprob, tuple(best))

"""Requests of SGLang's native `/generate`, and what its events say, as JSON values."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from ...errors import AnswerError, CapabilityError
from ..base import Choice, Ebnf, Grammar, JsonSchema, Lark, Regex, Sampling
from ..port import Chance, Completion, End, Part

GRAMMARS: Mapping[str, frozenset[str]] = {
    "xgrammar": frozenset({"JsonSchema", "Regex", "Choice", "Ebnf"}),
    "llguidance": frozenset({"JsonSchema", "Regex", "Choice", "Ebnf"}),
    "outlines": frozenset({"JsonSchema", "Regex", "Choice"}),
}
"""By the server's `--grammar-backend`, the grammars that it holds to."""

_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")
_LEAST = 1e-9


@dataclass(frozen=True, slots=True)
class Facts:
    """What a server says of itself: the longest prompt that it takes, in tokens; whether each event of a stream brings
    only what is new; whether a sampling's seed counts; whether adapters can be used; and which grammars."""

    window: int = 0
    incremental: bool = False
    seeds: bool = False
    adapters: bool = False
    grammars: frozenset[str] = frozenset()

    @classmethod
    def read(cls, info: Mapping[str, Any]) -> Self:
        """From `/server_info`, or what an engine in process says; what it leaves out isn't there."""
        longest = info.get("max_req_input_len")
        return cls(
            window=max(0, longest - 1) if isinstance(longest, int) else int(info.get("context_length") or 0),
            incremental=bool(info.get("incremental_streaming_output")),
            seeds=bool(info.get("enable_deterministic_inference")),
            adapters=bool(info.get("enable_lora") or info.get("lora_paths")),
            grammars=GRAMMARS.get(str(info.get("grammar_backend")), frozenset()),
        )


# ---- requests


def generate_fields(asked: Completion, rid: str, *, own: bool) -> dict[str, Any]:
    """A generation, as a stream. `own`: whether the log-probabilities of its steps are the model's own."""
    sampling = asked.sampling
    fields: dict[str, Any] = {
        "rid": rid,
        "input_ids": list(asked.tokens),
        "stream": True,
        "sampling_params": {
            "max_new_tokens": asked.max_tokens,
            "stop": [text for text in asked.stop if isinstance(text, str)],
            "stop_token_ids": [token for token in asked.stop if not isinstance(token, str)],
            "no_stop_trim": True,
            "skip_special_tokens": False,
            "spaces_between_special_tokens": False,
            **sampling_fields(sampling),
            **grammar_fields(asked.grammar),
        },
    }
    if asked.adapter:
        fields["lora_path"] = asked.adapter
    if sampling.logprobs and own:
        fields |= {"return_logprob": True, "top_logprobs_num": sampling.logprobs}
    return fields


def score_fields(tokens: Sequence[int], start: int, rid: str, *, adapter: str, best: int = 0) -> dict[str, Any]:
    """The log-probabilities of the tokens from `start` on, and of the `best` likeliest in each one's place."""
    fields: dict[str, Any] = {
        "rid": rid,
        "input_ids": list(tokens),
        "stream": True,
        "return_logprob": True,
        "logprob_start_len": start - 1,
        "top_logprobs_num": best,
        "sampling_params": {"max_new_tokens": 0, "temperature": 0.0},
    }
    return fields | ({"lora_path": adapter} if adapter else {})


def sampling_fields(sampling: Sampling) -> dict[str, Any]:
    """Raises CapabilityError for what SGLang would take otherwise."""
    if sampling.repetition_penalty != 1.0:
        raise CapabilityError(
            f"SGLang applies a repetition penalty ({sampling.repetition_penalty}) to what it has generated alone, and "
            "not to the context; use presence_penalty, or engine 'local' or 'vllm'"
        )
    fields: dict[str, Any] = {"temperature": sampling.temperature}
    if sampling.temperature:
        fields |= {
            "top_k": sampling.top_k or -1,
            "top_p": max(sampling.top_p, _LEAST),  # it wants more than 0
            "min_p": sampling.min_p,
            "sampling_seed": sampling.seed & 0x7FFFFFFFFFFFFFFF,
        }
    if sampling.presence_penalty:
        fields["presence_penalty"] = sampling.presence_penalty
    if sampling.logit_bias:
        fields["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    return fields


def grammar_fields(grammar: Grammar | None) -> dict[str, Any]:
    match grammar:
        case None:
            return {}
        case JsonSchema(schema):
            compact = {**schema, "x-guidance": {"whitespace_flexible": False}}  # others pass over the last property
            return {"json_schema": json.dumps(compact)}
        case Regex(pattern):
            return {"regex": pattern}
        case Choice(options):
            return {"regex": "|".join(_SPECIAL.sub(r"\\\g<0>", option) for option in options)}
        case Ebnf(text):
            return {"ebnf": text}
        case Lark():
            raise CapabilityError("SGLang takes no Lark grammar; write it as Ebnf, or use engine 'local'")


def own_logprobs(asked: Completion) -> bool:
    """Whether the log-probabilities that SGLang gives for its steps are the model's own: it takes them after bias,
    penalties, grammar and temperature."""
    sampling = asked.sampling
    changed = asked.grammar is not None or sampling.presence_penalty or sampling.logit_bias
    return not changed and sampling.temperature in (0.0, 1.0)


# ---- answers


class Take:
    """One answer as its events are read. With `incremental` each brings only what is new, otherwise all so far."""

    def __init__(self, asked: Completion, *, incremental: bool) -> None:
        self.tokens: list[int] = []
        self.meta: Mapping[str, Any] = {}
        self._asked = asked
        self._incremental = incremental
        self._text = 0
        self._chances = 0

    @property
    def why(self) -> Mapping[str, Any]:
        """The reason for which it has ended; empty before."""
        return self.meta.get("finish_reason") or {}

    @property
    def eos(self) -> int | None:
        """The end-of-sequence token that has ended it."""
        matched = self.why.get("matched")
        return matched if isinstance(matched, int) and matched not in self._asked.stop else None

    def feed(self, event: Mapping[str, Any]) -> Part:
        """What is new in an event. Raises AnswerError for one that is not of the protocol."""
        try:
            self.meta = event["meta_info"]
            new = self._new(list(event.get("output_ids") or ()), len(self.tokens))
            text = self._new(event.get("text") or "", self._text)
            chances = self._new(_chances(self.meta), self._chances)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise AnswerError(
                f"SGLang gave an event that is not of its protocol ({type(error).__name__}: {error})"
            ) from None
        self._text += len(text)
        self._chances += len(chances)
        if self.eos is not None and new[-1:] == [self.eos]:
            new, chances = new[:-1], chances[: len(new) - 1]
        self.tokens += new
        return Part(text, tuple(new), tuple(chances))

    def end(self) -> End:
        """Its end, and what the server has counted."""
        matched = self.why.get("matched")
        stop = matched if self.eos is None else None
        reason = "length" if self.why.get("type") == "length" else "stop" if stop is not None else "eos"
        return End(
            reason,  # type: ignore[arg-type]
            int(self.meta.get("prompt_tokens") or 0),
            int(self.meta.get("cached_tokens") or 0),
            stop,
        )

    def _new(self, found: Any, known: int) -> Any:
        return found if self._incremental else found[known:]


@dataclass(frozen=True, slots=True)
class Read:
    """The chances of tokens that a server has read, and how many tokens it had to encode for that."""

    chances: tuple[Chance, ...]
    encoded: int

    @classmethod
    def of(cls, event: Mapping[str, Any], start: int, tokens: Sequence[int]) -> Self:
        """From the answer to `score_fields`."""
        meta = event["meta_info"]
        found = meta["input_token_logprobs"][-(len(tokens) - start) :]
        best = (meta.get("input_top_logprobs") or [])[-len(found) :] or [()] * len(found)
        chances = tuple(_chance(one, others) for one, others in zip(found, best, strict=True))
        return cls(chances, int(meta.get("prompt_tokens") or 0) - int(meta.get("cached_tokens") or 0))


def _chances(meta: Mapping[str, Any]) -> list[Chance]:
    found = meta.get("output_token_logprobs") or []
    best = meta.get("output_top_logprobs") or [()] * len(found)
    return [_chance(one, others) for one, others in zip(found, best, strict=True)]


def _chance(one: Sequence[Any], others: Sequence[Sequence[Any]] | None) -> Chance:
    return Chance(int(one[1]), float(one[0]), tuple((int(other[1]), float(other[0])) for other in others or ()))

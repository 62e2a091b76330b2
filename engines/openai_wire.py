"""The wire: requests and answers of OpenAI's protocol, as JSON values (chat completions and completions)."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import CapabilityError
from .base import Choice, Grammar, JsonSchema, Likely, Sampling, Stop, TokenLogprobs
from .served import ServedGrammar
from .turns import write_call

NO_ID = -1
"""The id of a token of which a server gives only the text."""
ENDED = frozenset({"stop", "eos", "end_turn", "tool_calls", "function_call"})
CUT = frozenset({"length", "max_tokens", "model_length"})
"""Reasons for an answer's end, as servers name them: the model's own, and a bound."""
VALUE = "value"
"""The property under which a choice, or JSON that is no object, is asked for: strict servers want an object."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a generation was asked for."""

    max_tokens: int
    stop: tuple[str, ...]
    grammar: ServedGrammar | None
    sampling: Sampling

    @property
    def enveloped(self) -> bool:
        """Whether the answer comes as the property VALUE of an object."""
        return self.grammar is not None and envelope(self.grammar.grammar)[1]


def stop_texts(stop: Sequence[Stop], engine: str) -> tuple[str, ...]:
    """The stop strings. Raises CapabilityError for a token's id, which the protocol can't name."""
    texts = tuple(text for text in stop if isinstance(text, str) and text)
    if any(not isinstance(one, str) for one in stop):
        raise CapabilityError(f"engine '{engine}' can't stop at a token's id; stop at a text, or use engine 'local'")
    return texts


# ---- requests


def sampling_fields(sampling: Sampling, *, chat: bool) -> dict[str, Any]:
    """A sampling as fields of a request; those beyond the protocol, which most open servers know, only where asked."""
    fields: dict[str, Any] = {"temperature": sampling.temperature}
    if sampling.temperature:
        fields["seed"] = sampling.seed & 0x7FFFFFFF  # some servers take no more than 31 bits
    plain = {
        "top_p": (sampling.top_p, 1.0),
        "presence_penalty": (sampling.presence_penalty, 0.0),
        "top_k": (sampling.top_k, 0),
        "min_p": (sampling.min_p, 0.0),
        "repetition_penalty": (sampling.repetition_penalty, 1.0),
    }
    fields |= {name: value for name, (value, default) in plain.items() if value != default}
    if sampling.logit_bias:
        fields["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    if sampling.logprobs:
        fields |= {"logprobs": True, "top_logprobs": sampling.logprobs} if chat else {"logprobs": sampling.logprobs}
    return fields


def grammar_fields(state: ServedGrammar | None, offered: Collection[str], engine: str) -> dict[str, Any]:
    """A grammar as fields of a request. Raises CapabilityError for one that is not offered, or that has begun."""
    if state is None:
        return {}
    if state.text:
        raise CapabilityError(
            f"engine '{engine}' can't go on in the middle of a grammar, after {state.text[-40:]!r}; generate in one "
            "go, or use engine 'local'"
        )
    kind = type(state.grammar).__name__
    if kind not in offered:
        have = ", ".join(sorted(offered)) or "none"
        raise CapabilityError(f"engine '{engine}' has no grammar '{kind}'; it has: {have}")
    schema, _ = envelope(state.grammar)
    try:
        asked = {"name": "answer", "schema": _narrowed(schema), "strict": True}
    except _OpenError:
        asked = {"name": "answer", "schema": schema, "strict": False}
    return {"response_format": {"type": "json_schema", "json_schema": asked}}


def envelope(grammar: Grammar) -> tuple[Mapping[str, Any], bool]:
    """The JSON schema of an object that a grammar is asked for by, and whether it is the grammar's own."""
    if isinstance(grammar, Choice):
        inner: Mapping[str, Any] = {"type": "string", "enum": list(grammar.options)}
    elif isinstance(grammar, JsonSchema):
        inner = grammar.schema
        if inner.get("type") == "object":
            return inner, False
    else:
        return {}, False
    definitions = {name: value for name, value in inner.items() if name in ("$defs", "definitions")}
    value = {name: value for name, value in inner.items() if name not in definitions}
    fields = {"type": "object", "properties": {VALUE: value}, "required": [VALUE], "additionalProperties": False}
    return {**fields, **definitions}, True


class _OpenError(Exception):
    """An object may have properties that the schema does not name."""


def _narrowed(schema: Any) -> Any:
    """A schema as OpenAI's strict mode wants it: each object says all its properties and no others. It is narrower, so
    that what fits it fits the schema too. Raises _OpenError."""
    if isinstance(schema, list):
        return [_narrowed(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    narrow: dict[str, Any] = {}
    for name, value in schema.items():
        if name in ("properties", "$defs", "definitions"):
            narrow[name] = {key: _narrowed(one) for key, one in value.items()}
        elif name != "default":
            narrow[name] = value if name in ("enum", "const", "required", "examples") else _narrowed(value)
    if schema.get("type") != "object":
        return narrow
    if schema.get("additionalProperties") or "properties" not in schema:
        raise _OpenError
    return {**narrow, "required": list(schema["properties"]), "additionalProperties": False}


def tool_fields(tools: Iterable[Any]) -> list[dict[str, Any]]:
    """Tools as fields of a request: plait's tools, or mappings as the protocol has them."""
    return [
        dict(tool)
        if isinstance(tool, Mapping)
        else {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)},
        }
        for tool in tools
    ]


# ---- answers


@dataclass(slots=True)
class Take:
    """One answer of a request as it comes. `pieces` counts the parts in which the server has sent it, a token each with
    most servers, `thoughts` those of them that were reasoning."""

    asked: Asked
    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    finish: str = ""
    stop: str = ""
    pieces: int = 0
    thoughts: int = 0
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    _hidden: str = ""
    _calls: dict[int, list[str]] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        return bool(self.finish or self.stop)

    @property
    def called(self) -> bool:
        """Whether it calls tools; it is then under no grammar."""
        return bool(self._calls)

    def feed(self, choice: Mapping[str, Any]) -> str:
        """Take in a part; gives the text that is new. Raises what comes of a part that is not of the protocol."""
        if self.ended:
            return ""
        delta = choice.get("delta") or choice.get("message") or {}
        said = choice.get("text") if "text" in choice else delta.get("content")
        thought = delta.get("reasoning_content") or delta.get("reasoning") or ""
        self.reasoning += thought
        self.thoughts += bool(thought and not said)
        self.refusal += delta.get("refusal") or ""
        for call in delta.get("tool_calls") or ():
            self._take_call(call)
        self.logprobs += read_logprobs(choice.get("logprobs"))
        self.pieces += bool(said or thought or delta.get("tool_calls"))
        fresh = self._say(said or "")
        self.finish = choice.get("finish_reason") or ""
        return fresh + (self._end() if self.finish and not self.stop else "")

    def _say(self, said: str) -> str:
        """Add text up to the first stop string in it, which is the last that it holds."""
        if self.asked.enveloped:
            self._hidden += said
            return ""
        longest = max(map(len, self.asked.stop), default=0)
        start = max(0, len(self.text) - longest + 1)
        whole = self.text + said
        found = [(at + len(stop), stop) for stop in self.asked.stop if (at := whole.find(stop, start)) >= 0]
        if found:
            end, self.stop = min(found, key=lambda one: (one[0], -len(one[1])))
            whole = whole[:end]
        fresh, self.text = whole[len(self.text) :], whole
        return fresh

    def _take_call(self, call: Mapping[str, Any]) -> None:
        name, arguments = self._calls.setdefault(int(call.get("index") or 0), ["", ""])
        function = call.get("function") or {}
        self._calls[int(call.get("index") or 0)] = [
            name + (function.get("name") or ""),
            arguments + (function.get("arguments") or ""),
        ]

    def _end(self) -> str:
        """What is known only at the end: the calls, and a value out of its envelope."""
        fresh = "".join(write_call(*self._calls[index]) for index in sorted(self._calls))
        if self.asked.enveloped:
            fresh += self._opened()
        self.text += fresh
        return fresh

    def _opened(self) -> str:
        assert self.asked.grammar is not None
        try:
            value = json.loads(self._hidden)[VALUE]
        except (ValueError, KeyError, TypeError):  # cut, or not what was asked for: the grammar's check says so
            return self._hidden
        if isinstance(self.asked.grammar.grammar, Choice):
            return str(value)
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def read_logprobs(said: Mapping[str, Any] | None) -> list[TokenLogprobs]:
    """Log-probabilities, in the shape of chat completions or of completions."""
    if not said:
        return []
    if said.get("content"):
        return [
            TokenLogprobs(
                **_likely(entry["token"], entry["logprob"]),
                best=tuple(Likely(**_likely(one["token"], one["logprob"])) for one in entry.get("top_logprobs") or ()),
            )
            for entry in said["content"]
        ]
    tokens, best = said.get("tokens") or [], said.get("top_logprobs")
    pairs = zip(tokens, said.get("token_logprobs") or [], best or [{}] * len(tokens), strict=True)
    return [
        TokenLogprobs(
            **_likely(token, logprob),
            best=tuple(
                Likely(**_likely(*one)) for one in sorted((tops or {}).items(), key=lambda one: (-one[1], one[0]))
            ),
        )
        for token, logprob, tops in pairs
    ]


def _likely(text: str, logprob: float) -> dict[str, Any]:
    number = text.removeprefix("token_id:")  # as vLLM writes tokens where it is asked for their ids
    known = number != text and number.isdecimal()
    return {"token": int(number) if known else NO_ID, "text": text, "logprob": float(logprob)}


def shares(total: int, weights: Sequence[int]) -> list[int]:
    """A total divided by weights, to whole numbers that add up to it."""
    whole = sum(weights)
    if not whole:
        weights, whole = [1] * len(weights), len(weights)
    ends = [total * sum(weights[: index + 1]) // whole for index in range(len(weights))]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]

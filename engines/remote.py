"""Remote: what all engines behind a server do alike: keys, faults, and what the server has counted (DESIGN.md §5).

Keys come from the environment alone. `Server` keeps them out of names and of `repr`; a fault is a new error with the
key cut out of its message, and holds neither the client's exception nor its request: those carry the key.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Self
from urllib.parse import urlsplit

from ..errors import (
    AccessError,
    AnswerError,
    ContextLengthError,
    EngineError,
    FilteredError,
    InputError,
    RateLimitError,
    RequestError,
    ServerFaultError,
    ServerLostError,
    ServerTimeoutError,
    UnknownModelError,
)
from ..usage import Usage

KEYS: Mapping[str, str] = {
    "api.openai.com": "OPENAI_API_KEY",
    "openrouter.ai": "OPENROUTER_API_KEY",
    "api.together.xyz": "TOGETHER_API_KEY",
    "api.groq.com": "GROQ_API_KEY",
    "api.deepseek.com": "DEEPSEEK_API_KEY",
    "api.mistral.ai": "MISTRAL_API_KEY",
    "api.fireworks.ai": "FIREWORKS_API_KEY",
}
"""By host, the environment variable that holds its key. A key is sent to no other host than its own."""
OTHER_KEY = "PLAIT_API_KEY"
"""The variable that holds the key of a server at any other address; such servers need none where they ask for none."""

_SHOWN = 500
"""Characters of a server's own message that an error shows."""


# ---- servers


@dataclass(frozen=True, slots=True)
class Server:
    """One server of an engine: the engine's name, its base URL, the variable of its key, and the key itself."""

    engine: str
    url: str
    variable: str
    key: str = field(default="", repr=False, compare=False)

    @classmethod
    def at(cls, engine: str, url: str, *, variable: str = "", environment: Mapping[str, str] = os.environ) -> Self:
        """The server at a base URL. `variable` names the environment variable of its key; "": the one of `KEYS`.

        Raises InputError for an address that can't be used, or that holds a key: it would be recorded with the
        engine's name.
        """
        check_url(url)
        variable = variable or KEYS.get(urlsplit(url).hostname or "", OTHER_KEY)
        return cls(engine, url.rstrip("/"), variable, environment.get(variable, "").strip())

    def hide(self, text: str) -> str:
        """A text without the key."""
        for form in (self.key, repr(self.key)[1:-1]):
            text = text.replace(form, f"[secret:{self.variable}]") if form else text
        return text

    def said(self, what: str, message: str = "") -> str:
        """An error's message: who, where, what, and what the server itself says."""
        shown = " ".join(self.hide(message).split())[:_SHOWN]
        where = "" if self.engine.endswith(f"@{self.url}") else f" at {self.url}"
        return f"engine '{self.engine}'{where} {what}" + (f": {shown}" if shown else "")


def check_url(url: str) -> None:
    """Raise InputError, which never shows a key, for a base URL that can't be used."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(f"a server's address can't be read ({error}); write it as http://HOST:PORT/v1") from None
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise InputError(
            f"the address of the server at {host} holds a user, a key or a query, which would be recorded with the "
            "engine's name; put the key into an environment variable and leave only http://HOST:PORT/v1"
        )
    if parts.scheme not in ("http", "https") or not host:
        raise InputError(f"'{url}' is no server's address; write it as http://HOST:PORT/v1")


# ---- faults


def fault_of(error: BaseException, server: Server) -> EngineError:
    """plait's error for what a client (openai, httpx) has raised. Raise it outside of the `except` block, so that it
    does not hold the client's exception as its context."""
    names = {kind.__name__ for kind in type(error).__mro__}
    status = getattr(error, "status_code", None)
    if isinstance(status, int) and status >= 400:
        response = getattr(error, "response", None)
        return status_fault(server, status, getattr(error, "body", None), getattr(response, "headers", {}))
    if "ConnectTimeout" in names | {type(error.__cause__).__name__}:
        return ServerLostError(server.said("can't be reached in time"))
    if names & {"APITimeoutError", "TimeoutException", "TimeoutError"}:
        return ServerTimeoutError(server.said("did not answer in time; raise the engine's timeout if it needs more"))
    if names & {"APIConnectionError", "RequestError", "StreamError", "OSError"}:
        why = error.__cause__ or error
        return ServerLostError(server.said("is lost", f"{type(why).__name__} {why}"))
    if "APIError" in names:  # an error that came as an event of the stream
        return body_fault(server, getattr(error, "body", None), str(error))
    return AnswerError(server.said("gave an answer that can't be read", f"{type(error).__name__}: {error}"))


def status_fault(server: Server, status: int, body: object, headers: Mapping[str, str]) -> EngineError:
    """The error for an HTTP status other than success, with the body as JSON values or text."""
    code, message = _details(body)
    wait = seconds_to_wait(headers)
    told = server.said(f"answered {status}", message)
    if status == 402 or code in ("insufficient_quota", "billing_hard_limit_reached"):
        return AccessError(told + " (its quota is used up)")
    if status == 429:
        return RateLimitError(told, retry_after=wait)
    if status == 408:
        return ServerTimeoutError(told, retry_after=wait)
    if status in (502, 504):
        return ServerLostError(told, retry_after=wait)
    if status in (409, 425) or status >= 500:
        return ServerFaultError(told, retry_after=wait)
    if status in (401, 403):
        unset = "" if server.key else ", which is not set"
        return AccessError(f"{told}; the key is read from the environment variable {server.variable}{unset}")
    if status in (404, 405):
        return UnknownModelError(f"{told}; check the model's name and the address")
    return _refused(told, code, message)


def body_fault(server: Server, body: object, otherwise: str = "") -> EngineError:
    """The error for an error object in an answer that began well; `otherwise` is the message where it has none."""
    code, message = _details(body)
    message = message or otherwise
    inner = body.get("error", body) if isinstance(body, Mapping) else {}
    status = inner.get("code") if isinstance(inner, Mapping) else None
    if isinstance(status, int) and status >= 400:  # as vLLM and OpenRouter write them
        return status_fault(server, status, body, {})
    told = server.said("broke off its answer", message)
    if code in ("rate_limit_exceeded", "rate_limit_error"):
        return RateLimitError(told)
    if code in ("invalid_request_error", "BadRequestError", "context_length_exceeded", "content_filter"):
        return _refused(told, code, message)
    return ServerFaultError(told)


def seconds_to_wait(headers: Mapping[str, str]) -> float:
    """What `retry-after-ms` or `retry-after` (seconds, or a date) asks for; 0 where neither says anything readable."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        if 0 <= seconds < 1e9:
            return seconds
    try:
        return max(0.0, parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - time.time())
    except ValueError:
        return 0.0


def _refused(told: str, code: str, message: str) -> EngineError:
    low = message.lower()
    if code == "context_length_exceeded" or "context length" in low or "context window" in low:
        return ContextLengthError(told)
    if code in ("content_filter", "content_policy_violation"):
        return FilteredError(told)
    if code == "model_not_found":
        return UnknownModelError(f"{told}; check the model's name")
    return RequestError(told)


def _details(body: object) -> tuple[str, str]:
    """The code and the message of an error's body, in the shapes that servers give it."""
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        if isinstance(inner, Mapping):
            code = next((str(inner[name]) for name in ("code", "type") if isinstance(inner.get(name), str)), "")
            return code, str(inner.get("message") or inner.get("detail") or "")
        return "", str(inner)
    return "", str(body or "")


# ---- what a server has counted


@dataclass(frozen=True, slots=True)
class Counts:
    """What a server counted for one request: tokens sent, those of them in its cache, tokens sampled, those of them
    that were hidden reasoning; `cost` where it names one."""

    prompt: int = 0
    cached: int = 0
    generated: int = 0
    reasoning: int = 0
    cost: float = 0.0

    @classmethod
    def read(cls, usage: Mapping[str, Any]) -> Self:
        """From a `usage` object of the OpenAI protocol; what it leaves out, or gives as null, is 0."""
        prompt, generated = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
        cached = prompt.get("cached_tokens") or usage.get("prompt_cache_hit_tokens") or 0
        return cls(
            prompt=int(usage.get("prompt_tokens") or 0),
            cached=int(cached),
            generated=int(usage.get("completion_tokens") or 0),
            reasoning=int(generated.get("reasoning_tokens") or usage.get("reasoning_tokens") or 0),
            cost=float(usage.get("cost") or 0.0),
        )

    def usage(self, held: int, *, seconds: float = 0.0) -> Usage:
        """What a generation has used that sent the whole context again, `held` tokens of which were counted before.

        `prompt` is what was new. All that was sent is `cached`, `prefilled` (new) or `recomputed` (known, but not in
        the server's cache any more). Hidden reasoning is generated and dropped.
        """
        new = max(0, self.prompt - held)
        encoded = max(0, self.prompt - self.cached)
        prefilled = min(new, encoded)
        dropped = self.reasoning + max(0, held - self.prompt)
        return Usage(
            prompt=new,
            generated=self.generated,
            prefilled=prefilled,
            cached=self.cached,
            recomputed=encoded - prefilled,
            pruned=dropped,
            live=new + self.generated - dropped,
            peak_live=self.prompt + self.generated,
            steps=self.generated,
            critical_path=new + self.generated,
            seconds=seconds,
            cost=self.cost,
        )

"""What engines behind a server do alike: keys, faults, counts."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

import pytest

from plait import errors
from plait.engines.remote import Counts, Server, body_fault, fault_of, seconds_to_wait, status_fault
from plait.usage import Usage

KEY = "sk-very-secret-key"
SERVER = Server.at("openai:m@http://host:1/v1", "http://host:1/v1", environment={"PLAIT_API_KEY": KEY})


def test_a_key_goes_to_its_own_host_only() -> None:
    keys = {"OPENAI_API_KEY": "o", "OPENROUTER_API_KEY": "r", "PLAIT_API_KEY": "p", "MINE": "m"}
    assert Server.at("e", "https://api.openai.com/v1", environment=keys).key == "o"
    assert Server.at("e", "https://openrouter.ai/api/v1", environment=keys).key == "r"
    assert Server.at("e", "http://127.0.0.1:8000/v1/", environment=keys).key == "p"
    assert Server.at("e", "https://api.openai.com.evil.example/v1", environment=keys).key == "p"
    assert Server.at("e", "http://127.0.0.1:8000/v1", variable="MINE", environment=keys).key == "m"
    assert Server.at("e", "http://127.0.0.1:8000/v1", environment={}).key == ""


def test_a_servers_repr_has_no_key() -> None:
    assert KEY not in repr(SERVER)
    assert SERVER.key == KEY


@pytest.mark.parametrize(
    "url",
    [
        f"http://user:{KEY}@host/v1",
        f"http://{KEY}@host/v1",
        f"http://host/v1?key={KEY}",
        f"http://host/v1#{KEY}",
        f"http://{KEY}@host:port/v1",
        f"//{KEY}@host/v1",
    ],
)
def test_an_address_that_holds_a_key_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(errors.InputError) as caught:
        Server.at("e", url)
    assert KEY not in str(caught.value)
    assert caught.value.__context__ is None or caught.value.__suppress_context__


@pytest.mark.parametrize("url", ["host:8000", "ftp://host/v1", "http:///v1", ""])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(errors.InputError, match="http://HOST:PORT/v1"):
        Server.at("e", url)


@pytest.mark.parametrize(
    ("status", "body", "kind", "again"),
    [
        (429, {"error": {"message": "slow down"}}, errors.RateLimitError, True),
        (429, {"error": {"message": "pay", "code": "insufficient_quota"}}, errors.AccessError, False),
        (402, {"error": {"message": "no credits", "code": 402}}, errors.AccessError, False),
        (408, "", errors.ServerTimeoutError, True),
        (409, "", errors.ServerFaultError, True),
        (500, {"error": "boom"}, errors.ServerFaultError, True),
        (503, "<html>busy</html>", errors.ServerFaultError, True),
        (502, "", errors.ServerLostError, True),
        (504, "", errors.ServerLostError, True),
        (401, {"message": "bad key"}, errors.AccessError, False),
        (403, None, errors.AccessError, False),
        (404, {"error": {"message": "no such model", "code": "model_not_found"}}, errors.UnknownModelError, False),
        (400, {"error": {"message": "n is not supported", "param": "n"}}, errors.RequestError, False),
        (400, {"error": {"message": "too long", "code": "context_length_exceeded"}}, errors.ContextLengthError, False),
        (400, {"message": "This model's maximum context length is 8 tokens"}, errors.ContextLengthError, False),
        (400, {"error": {"message": "no", "code": "content_filter"}}, errors.FilteredError, False),
        (422, {"detail": "what?"}, errors.RequestError, False),
    ],
)
def test_each_status_has_its_error(status: int, body: object, kind: type[errors.EngineError], again: bool) -> None:
    error = status_fault(SERVER, status, body, {})
    assert type(error) is kind
    assert isinstance(error, errors.TransientEngineError) is again
    assert str(status) in str(error)
    assert "http://host:1/v1" in str(error)


def test_an_error_within_an_answer_has_the_error_of_its_code() -> None:
    assert type(body_fault(SERVER, {"error": {"message": "busy", "code": 503}})) is errors.ServerFaultError
    assert type(body_fault(SERVER, {"message": "slow", "type": "rate_limit_error"})) is errors.RateLimitError
    assert type(body_fault(SERVER, {"message": "no", "type": "invalid_request_error"})) is errors.RequestError
    assert "odd" in str(body_fault(SERVER, None, "odd"))


def test_what_a_server_says_of_the_key_is_hidden() -> None:
    for before in range(480, 520):
        error = status_fault(SERVER, 401, {"error": {"message": "." * before + KEY}}, {})
        assert KEY[:5] not in str(error)
    assert "[secret:PLAIT_API_KEY]" in SERVER.said("says", KEY)


def test_a_fault_shows_only_the_beginning_of_a_page() -> None:
    assert len(str(status_fault(SERVER, 502, "<html>" + "x" * 100_000, {}))) < 1_000


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "7"}, 7.0),
        ({"retry-after": "soon"}, 0.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "nan"}, 0.0),
        ({"retry-after": "inf"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({}, 0.0),
    ],
)
def test_how_long_to_wait_is_read(headers: dict[str, str], seconds: float) -> None:
    assert seconds_to_wait(headers) == seconds
    assert getattr(status_fault(SERVER, 429, "", headers), "retry_after") == seconds  # noqa: B009


def test_a_date_to_wait_for_is_read() -> None:
    assert 3_000 < seconds_to_wait({"retry-after": formatdate(time.time() + 3_600, usegmt=True)}) <= 3_600


def test_faults_of_clients_are_told_apart() -> None:
    class APIConnectionError(Exception): ...

    class APITimeoutError(APIConnectionError): ...

    assert type(fault_of(APITimeoutError(), SERVER)) is errors.ServerTimeoutError
    assert type(fault_of(APIConnectionError(), SERVER)) is errors.ServerLostError
    assert type(fault_of(ConnectionResetError("reset"), SERVER)) is errors.ServerLostError
    assert type(fault_of(ValueError("no JSON"), SERVER)) is errors.AnswerError


@pytest.mark.parametrize(
    ("said", "held", "expected"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 3}, 0, Usage(prompt=10, prefilled=10, live=13)),
        (
            {"prompt_tokens": 10, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 8}},
            8,
            Usage(prompt=2, prefilled=2, cached=8, live=5),
        ),
        ({"prompt_tokens": 10, "completion_tokens": 3}, 8, Usage(prompt=2, prefilled=2, recomputed=8, live=5)),
        (
            {"prompt_tokens": 10, "completion_tokens": 3, "prompt_tokens_details": None, "prompt_cache_hit_tokens": 9},
            8,
            Usage(prompt=2, prefilled=1, cached=9, live=5),
        ),
        (
            {"prompt_tokens": 4, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 6}},
            0,
            Usage(prompt=4, prefilled=4, pruned=6, live=7),
        ),
        ({"prompt_tokens": 5, "completion_tokens": 1}, 8, Usage(recomputed=5, pruned=3, live=-2)),
    ],
)
def test_what_was_sent_is_cached_new_or_recomputed(said: dict[str, Any], held: int, expected: Usage) -> None:
    counts = Counts.read(said)
    usage = counts.usage(held)
    for name in ("prompt", "prefilled", "cached", "recomputed", "pruned", "live"):
        assert getattr(usage, name) == getattr(expected, name), name
    assert usage.cached + usage.prefilled + usage.recomputed == counts.prompt
    assert usage.live + usage.pruned == usage.prompt + usage.generated

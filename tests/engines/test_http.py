"""JSON values and streams of them over HTTP, from a server that fails on demand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import pytest
from stub_server import Broken, Status, StubServer

from plait import errors
from plait.engines.http import Http
from plait.engines.remote import Server

pytestmark = pytest.mark.anyio
KEY = "sk-very-secret-key"
ASKED = {"model": "stub", "prompt": "hello there", "stream": True}


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with StubServer() as server:
        yield server


@pytest.fixture
async def http(stub: StubServer) -> AsyncIterator[Http]:
    opened = Http(Server.at("e", stub.url, environment={"PLAIT_API_KEY": KEY}), timeout=60)
    yield opened
    await opened.aclose()


async def said(http: Http) -> str:
    text = ""
    async with aclosing(http.events("/completions", ASKED)) as events:
        async for event in events:
            text += "".join(choice["text"] for choice in event["choices"])
    return text


async def test_events_come_up_to_the_end(http: Http, stub: StubServer) -> None:
    assert await said(http) == "you said hello there"
    assert stub.headers[0]["authorization"] == f"Bearer {KEY}"


async def test_an_answer_is_read_as_json(http: Http) -> None:
    assert (await http.ask("GET", "/models"))["data"][0]["id"] == "stub"
    with pytest.raises(errors.AnswerError, match="'choices'"):
        http.field({"data": []}, "choices", list)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Status(429, headers={"retry-after": "7"}), errors.RateLimitError),
        (Status(500), errors.ServerFaultError),
        (Status(401, {"error": {"message": f"bad key {KEY}"}}), errors.AccessError),
        (Status(404), errors.UnknownModelError),
        (Broken("dropped"), errors.ServerLostError),
        (Broken("dropped", 1), errors.ServerLostError),
        (Broken("ended", 1), errors.ServerLostError),
        (Broken("malformed", 1), errors.AnswerError),
        (Broken("error", 1, {"error": {"message": "no", "code": 500}}), errors.ServerFaultError),
    ],
)
async def test_each_fault_is_named_and_shows_no_key(
    http: Http, stub: StubServer, reply: Status | Broken, kind: type[errors.EngineError]
) -> None:
    stub.next = [reply]
    with pytest.raises(kind) as caught:
        await said(http)
    assert stub.url.removesuffix("/v1") in str(caught.value)
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None
    assert KEY not in repr(caught.value.__context__)


async def test_a_stream_that_is_left_closes_the_connection(http: Http, stub: StubServer) -> None:
    stub.next = [Broken("stalled", 2)]
    async with aclosing(http.events("/completions", ASKED)) as events:
        async for _ in events:
            break
    assert stub.wait_left()


async def test_a_server_that_is_gone_is_named(http: Http, stub: StubServer) -> None:
    stub.stop()
    with pytest.raises(errors.ServerLostError, match="is lost"):
        await http.ask("GET", "/models")

"""What servers do wrong, and what becomes of it: the table of docs/openai.md, row by row."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.to_thread
import pytest
from stub_server import Broken, Status, StubServer

from plait.engines import Message, Sampling
from plait.engines.openai import OpenAIEngine
from plait.errors import (
    AccessError,
    AnswerError,
    ContextLengthError,
    EngineClosedError,
    EngineError,
    RateLimitError,
    RequestError,
    ServerFaultError,
    ServerLostError,
    ServerTimeoutError,
    TransientEngineError,
    UnknownModelError,
)

pytestmark = pytest.mark.anyio
HI = [Message("user", "hello")]
KEY = "sk-never-to-be-seen-4711"
LATER = {"retry-after": "7"}


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubServer]:
    monkeypatch.setenv("PLAIT_API_KEY", KEY)
    with StubServer() as server:
        yield server


async def fail(engine: OpenAIEngine, prompt: Any = HI) -> EngineError:
    """The error of a generation; all that it holds is free of the key and of the client's own error."""
    async with engine:
        context = await engine.start(prompt)
        with pytest.raises(EngineError) as caught:
            await context.generate()
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None
    assert KEY not in "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))
    assert engine.name in str(error)
    return error


@pytest.mark.parametrize(
    ("reply", "kind", "wait"),
    [
        (Status(429, headers=LATER), RateLimitError, 7.0),
        (Status(429, headers={"retry-after-ms": "1500"}), RateLimitError, 1.5),
        (Status(429), RateLimitError, 0.0),
        (Status(429, {"error": {"message": "pay", "code": "insufficient_quota"}}), AccessError, None),
        (Status(500), ServerFaultError, 0.0),
        (Status(503, "<html>busy</html>", LATER), ServerFaultError, 7.0),
        (Status(502, ""), ServerLostError, 0.0),
        (Status(401, {"error": {"message": f"bad key {KEY}"}}), AccessError, None),
        (Status(400, {"error": {"message": "too long", "code": "context_length_exceeded"}}), ContextLengthError, None),
        (Status(422, {"detail": [{"loc": ["body", "top_k"]}]}), RequestError, None),
        (Broken("dropped"), ServerLostError, 0.0),
        (Broken("dropped", after=3), ServerLostError, 0.0),
        (Broken("ended", after=3), ServerLostError, 0.0),
        (Broken("ended"), AnswerError, 0.0),
        (Broken("malformed"), AnswerError, 0.0),
        (Broken("malformed", after=3), AnswerError, 0.0),
        (Broken("odd", after=3), AnswerError, 0.0),
        (Broken("error", after=3, error={"message": "boom", "code": 500}), ServerFaultError, 0.0),
        (Broken("error", after=3, error={"message": "slow down", "code": "rate_limit_exceeded"}), RateLimitError, 0.0),
        (Broken("error", after=3, error={"message": f"no {KEY}"}), ServerFaultError, 0.0),
        (Broken("stalled"), ServerTimeoutError, 0.0),
        (Broken("stalled", after=3), ServerTimeoutError, 0.0),
    ],
    ids=str,
)
async def test_each_fault_has_its_error(
    stub: StubServer, reply: Any, kind: type[EngineError], wait: float | None
) -> None:
    stub.next = [reply]
    patience = 0.2 if reply in (Broken("stalled"), Broken("stalled", after=3)) else 60.0
    error = await fail(OpenAIEngine("stub", url=stub.url, timeout=patience))
    assert type(error) is kind
    assert isinstance(error, TransientEngineError) is (wait is not None)
    assert getattr(error, "retry_after", None) == wait
    assert len(stub.requests) == 1, "the engine itself tries nothing again"


async def test_a_wrong_model_is_named(stub: StubServer) -> None:
    error = await fail(OpenAIEngine("wrong", url=stub.url))
    assert type(error) is UnknownModelError
    assert "'wrong' does not exist" in str(error)


async def test_an_address_where_nobody_is_can_be_tried_again() -> None:
    with StubServer() as stub:
        url = stub.url
    error = await fail(OpenAIEngine("stub", url=url))
    assert type(error) is ServerLostError


async def test_an_engine_serves_on_after_each_fault(stub: StubServer) -> None:
    faults = [Status(500), Broken("dropped"), Broken("dropped", 2), Broken("malformed", 2), Broken("ended", 2)]
    async with OpenAIEngine("stub", url=stub.url) as engine:
        context = await engine.start(HI)
        for fault in faults:
            stub.next = [fault]
            with pytest.raises(TransientEngineError):
                await context.generate()
            assert (await context.generate()).text == "you said hello"


# ---- leaving, cancelling, closing


@pytest.mark.parametrize("after", [0, 3])
async def test_a_cancelled_generation_closes_its_connection(stub: StubServer, after: int) -> None:
    stub.next = [Broken("stalled", after=after)]
    async with OpenAIEngine("stub", url=stub.url) as engine:
        context = await engine.start(HI)
        async with anyio.create_task_group() as group:
            group.start_soon(context.generate)
            assert await anyio.to_thread.run_sync(stub.wait_requests, 1)
            group.cancel_scope.cancel()
        assert await anyio.to_thread.run_sync(stub.wait_left)
        assert (await context.generate()).text == "you said hello"


async def test_a_stream_that_is_left_closes_its_connection(stub: StubServer) -> None:
    stub.next = [Broken("stalled", after=3)]
    async with OpenAIEngine("stub", url=stub.url) as engine:
        context = await engine.start(HI)
        async with context.stream() as stream:
            async for _ in stream:
                break
        assert await anyio.to_thread.run_sync(stub.wait_left)


async def test_a_stop_string_closes_the_connection(stub: StubServer) -> None:
    stub.next = [Broken("stalled", after=3)]
    async with OpenAIEngine("stub", url=stub.url) as engine:
        said = await (await engine.start(HI)).generate(stop=["c"])
        assert said.text == "a b c"
        assert await anyio.to_thread.run_sync(stub.wait_left)


async def test_a_failing_sample_closes_the_others_connections(stub: StubServer) -> None:
    stub.next = [Broken("stalled"), Broken("stalled"), Status(500)]
    async with OpenAIEngine("stub", url=stub.url) as engine:
        engine.takes_n = False
        with pytest.raises(ServerFaultError):
            await (await engine.start(HI)).samples(3, sampling=Sampling(temperature=1.0))
        assert await anyio.to_thread.run_sync(stub.wait_left, 2)


async def test_a_closed_engine_ends_what_is_under_way(stub: StubServer) -> None:
    stub.next = [Broken("stalled", after=3)]
    engine = OpenAIEngine("stub", url=stub.url)
    context = await engine.start(HI)
    failures: list[BaseException] = []

    async def generate() -> None:
        try:
            await context.generate()
        except EngineError as error:
            failures.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(generate)
        assert await anyio.to_thread.run_sync(stub.wait_requests, 1)
        await engine.aclose()
    assert [type(error) for error in failures] == [EngineClosedError]


# ---- several servers


async def test_a_lost_replica_is_a_named_error_and_the_next_one_is_asked(stub: StubServer) -> None:
    with StubServer() as other:
        async with OpenAIEngine("stub", url=[stub.url, other.url]) as engine:
            contexts = [await engine.start([Message("user", f"hello {n}")]) for n in range(20)]
            home = {context: engine.replicas.choose(context.affinity).url for context in contexts}
            assert set(home.values()) == {stub.url, other.url}
            for context in contexts:
                first = (await context.generate()).context
                await (await first.extend(HI)).generate()
            assert len(other.requests) == 2 * list(home.values()).count(other.url)
            other.stop()
            orphan = next(context for context in contexts if home[context] == other.url)
            with pytest.raises(ServerLostError, match=other.url):
                await orphan.generate()
            before = len(stub.requests)
            assert (await orphan.generate()).text.startswith("you said hello")
            assert len(stub.requests) == before + 1


# ---- keys


async def test_the_key_is_sent_and_not_shown(stub: StubServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("openai", "httpx", "httpx2", "httpcore", "httpcore2"):
        caplog.set_level(logging.DEBUG, logger=name)
    stub.next = [Status(401, {"error": {"message": f"bad {KEY}"}}), Broken("dropped"), Broken("malformed", 1)]
    async with OpenAIEngine("stub", url=stub.url) as engine:
        context = await engine.start(HI)
        for _ in range(3):
            with pytest.raises(EngineError):
                await context.generate()
        said = await context.generate()
        held = [engine, context, said, said.context, engine.replicas.servers, vars(context), engine.capabilities]
        assert KEY not in repr(held)
    assert [headers["authorization"] for headers in stub.headers] == [f"Bearer {KEY}"] * 4
    assert caplog.records
    assert KEY not in caplog.text
    assert all(KEY not in repr(vars(record)) for record in caplog.records)


async def test_the_key_of_openai_goes_nowhere_else(stub: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PLAIT_API_KEY")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    async with OpenAIEngine("stub", url=stub.url) as engine:
        await (await engine.start(HI)).generate()
    assert "authorization" not in stub.headers[0]
    assert KEY not in repr(stub.headers)
    assert "org-1" not in repr(stub.headers)


async def test_an_address_from_the_environment_brings_openais_key(
    stub: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", stub.url)
    async with OpenAIEngine("stub") as engine:
        assert engine.name == "openai:stub"
        await (await engine.start(HI)).generate()
    assert stub.headers[0]["authorization"] == f"Bearer {KEY}"


async def test_a_key_that_can_not_be_sent_is_not_shown(stub: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAIT_API_KEY", f"{KEY}\n{KEY}")
    error = await fail(OpenAIEngine("stub", url=stub.url))
    assert KEY not in str(error)

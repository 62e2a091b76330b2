"""Runs on an engine behind a server: faults, resumption, cancellation, keys, money, and one server for one run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import anyio
import anyio.to_thread
import pytest
import stub_server
from stub_server import Answer, Broken, Status, StubServer
from vllm_stub import VllmStub

import plait
from plait.engines import Engine, open_engine
from plait.engines.openai import OpenAIEngine
from plait.engines.roles import Roles
from plait.errors import GraphError, InputError, NodeError, RateLimitError, ServerLostError, TransientEngineError
from plait.orchestrator import Budget, Builder, Graph, Price, Scope
from plait.tools import Retry

pytestmark = pytest.mark.anyio
KEY = "sk-never-to-be-seen-4711"


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubServer]:
    monkeypatch.setenv("PLAIT_API_KEY", KEY)
    with StubServer() as server:
        yield server


def chain(retry: Retry = plait.tools.retry.NEVER) -> Graph[str]:
    """Three thoughts, each of which says what the one before has said."""

    @plait.graph(name="chain")
    def build(g: Builder, word: str) -> str:
        first = g.think("first {w}", w=word, name="first", retry=retry)
        second = g.think("second {f}", f=first, name="second", retry=retry)
        return g.think("third {s}", s=second, name="third", retry=retry)

    return build


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


async def run_to_end(graph: Graph[Any], engine: Engine, **options: Any) -> Any:
    async with graph.stream(engine=engine, **options) as run:
        _ = [event async for event in run]
    return run


SAID = "you said third you said second you said first x"


# ---- what is known before a request is sent


async def test_a_graph_that_asks_too_much_is_refused_before_a_request(stub: StubServer) -> None:
    async def drive(scope: Any) -> str:
        return ""

    driven = plait.graph(lambda g: g.drive(drive, needs=["prune:exact"], name="pruner"), name="g")
    with pytest.raises(GraphError, match=r"'pruner'.*needs 'prune:exact', which engine 'openai:stub@http.* can't do"):
        await driven.run(engine=f"openai:stub@{stub.url}")
    assert stub.requests == []


async def test_typed_thoughts_run_on_it(stub: StubServer) -> None:
    @plait.graph
    def build(g: Builder, question: str) -> list[Any]:
        return [
            g.think("{q}", q=question, returns=Literal["yes", "no"]),
            g.think("{q}", q=question, returns=int),
            g.think("{q}", q=question, returns=dict[str, int]),
        ]

    def rule(body: dict[str, Any]) -> str:
        schema = body["response_format"]["json_schema"]["schema"]
        value = schema.get("properties", {}).get("value", {})
        return '{"value": "no"}' if "enum" in value else '{"value": 7}' if value else '{"a": 1}'

    stub.rule = rule
    assert await build.run("so?", engine=f"openai:stub@{stub.url}") == ["no", 7, {"a": 1}]


# ---- faults


async def test_a_fault_is_tried_again_where_a_policy_names_it(stub: StubServer) -> None:
    stub.next = [Status(429, headers={"retry-after": "0.01"}), Status(500), Broken("dropped", 2)]
    patient = Retry(on=(TransientEngineError,), attempts=4, wait=0.001)
    assert await chain(patient).run("x", engine=f"openai:stub@{stub.url}") == SAID
    assert len(stub.requests) == 6


async def test_a_fault_without_a_policy_names_the_node(stub: StubServer) -> None:
    stub.next = [stub_server.Answer("ok"), Status(429, headers={"retry-after": "9"})]
    with pytest.raises(NodeError, match="node 'second' failed: engine 'openai:stub@") as caught:
        await chain().run("x", engine=f"openai:stub@{stub.url}")
    assert isinstance(caught.value.__cause__, RateLimitError)
    assert caught.value.__cause__.retry_after == 9


def serve_apart() -> tuple[subprocess.Popen[str], str]:
    """A server in a process of its own, which stalls in the third thought."""
    program = (
        "import stub_server\n"
        "rule = lambda body: stub_server.Broken('stalled', 3) if 'third' in str(body) else stub_server.echo(body)\n"
        "with stub_server.StubServer(rule) as server:\n"
        "    print(server.url, flush=True)\n"
        "    server.wait_requests(3)\n"
        "    print('stalls', flush=True)\n"
        "    server.wait_requests(4)\n"
    )
    folder = str(Path(stub_server.__file__).parent)
    process = subprocess.Popen([sys.executable, "-c", program], cwd=folder, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


async def test_a_run_whose_server_is_killed_goes_on_with_its_replacement(stub: StubServer, tmp_path: Path) -> None:
    process, url = await anyio.to_thread.run_sync(serve_apart)
    with plait.Journal(tmp_path / "j.db") as journal:
        async with open_engine(f"openai:stub@{url}") as engine, chain().stream(
            "x", engine=engine, journal=journal
        ) as run:  # fmt: skip
            assert process.stdout is not None
            assert (await anyio.to_thread.run_sync(process.stdout.readline)).strip() == "stalls"
            process.kill()
            with pytest.raises(NodeError, match="node 'third' failed") as caught:
                _ = [event async for event in run]
        await anyio.to_thread.run_sync(process.communicate)
        assert isinstance(caught.value.__cause__, ServerLostError)
        assert url in str(caught.value)
        assert journal.run(run.id).state == "failed"
        again = await chain().run(engine=f"openai:stub@{stub.url}", journal=journal.resume(run.id))
    assert again == SAID
    assert [request["messages"][-1]["content"] for request in stub.requests] == [
        "third you said second you said first x"
    ]


async def test_a_run_goes_on_with_another_replica_by_itself(stub: StubServer) -> None:
    with StubServer() as other:
        async with OpenAIEngine("stub", url=[stub.url, other.url]) as engine:
            patient = Retry(on=(ServerLostError,), attempts=2, wait=0.001)
            async with chain(patient).stream("x", engine=engine) as run:
                home = engine.replicas.choose(run.id)
                lost, left = (stub, other) if home.url == stub.url else (other, stub)
                lost.next = [Answer("you said first x"), Broken("dropped", 3)]
                lost.rule = lambda body: Broken("dropped")
                _ = [event async for event in run]
            assert run.value == SAID
            assert (len(lost.requests), len(left.requests)) == (2, 2)


@pytest.mark.parametrize("after", [0, 3])
async def test_a_cancelled_run_closes_its_connections(stub: StubServer, after: int) -> None:
    stub.rule = lambda body: Broken("stalled", after=after)

    @plait.graph
    def build(g: Builder) -> list[str]:
        return [g.think(f"say {n}", name=f"t{n}") for n in range(4)]

    async with open_engine(f"openai:stub@{stub.url}") as engine:
        async with build.stream(engine=engine):
            assert await anyio.to_thread.run_sync(stub.wait_requests, 4)
        assert await anyio.to_thread.run_sync(stub.wait_left, 4)


async def test_a_loser_of_a_join_closes_its_connection(stub: StubServer) -> None:
    stub.next = [Broken("stalled", after=2)]
    graph = plait.graph(lambda g: g.think("x", samples=3, join=plait.k_of(2), temperature=1.0), name="g")
    async with open_engine(f"openai:stub@{stub.url}") as engine:
        assert await graph.run(engine=engine) == ["you said x"] * 2
        assert await anyio.to_thread.run_sync(stub.wait_left)


# ---- one server for one run


async def test_a_run_stays_on_one_server(stub: StubServer) -> None:
    @plait.graph
    def build(g: Builder, word: str) -> list[str]:
        firsts = [g.think("say {w}", w=word, name=f"t{n}") for n in range(3)]
        return [g.think("go on", after=first) for first in firsts]

    with StubServer() as other:
        async with OpenAIEngine("stub", url=[stub.url, other.url]) as engine:
            for number in range(6):
                before = len(stub.requests), len(other.requests)
                async with build.stream(f"word{number}", engine=engine) as run:
                    _ = [event async for event in run]
                new = len(stub.requests) - before[0], len(other.requests) - before[1]
                assert new == ((6, 0) if engine.replicas.choose(run.id).url == stub.url else (0, 6))


# ---- keys


async def test_the_key_is_in_no_event_record_or_error(
    stub: StubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_VARIABLE", KEY)
    monkeypatch.delenv("PLAIT_API_KEY")
    events: list[Any] = []
    stub.next = [Answer(f"the key is {KEY}"), Answer("so"), Status(400, {"error": {"message": f"not with {KEY}"}})]
    with plait.Journal(tmp_path / "j.db") as journal:
        async with OpenAIEngine("stub", url=stub.url, key="A_VARIABLE") as engine:
            with pytest.raises(NodeError) as caught:
                await chain().run("x", engine=engine, journal=journal, listeners=[events.append])
            run = journal.runs()[0]
            shown = repr(events) + repr(run) + repr(journal.records(run.run)) + repr(caught.value) + repr(engine)
            await chain().run(engine=engine, journal=journal.resume(run.run))
    stored = bytes_of(tmp_path)
    assert stub.headers[0]["authorization"] == f"Bearer {KEY}"
    assert KEY not in shown
    assert KEY.encode() not in stored
    assert "[secret:A_VARIABLE]" in shown
    assert stub.requests[-1]["messages"][-1]["content"] == "third so"


async def test_an_address_with_a_key_begins_no_run(tmp_path: Path) -> None:
    with plait.Journal(tmp_path / "j.db") as journal:
        with pytest.raises(InputError) as caught:
            await chain().run("x", engine=f"openai:stub@http://user:{KEY}@127.0.0.1:1/v1", journal=journal)
        assert journal.runs() == []
    assert KEY not in repr(caught.value)
    assert KEY.encode() not in bytes_of(tmp_path)


# ---- money

PRICE = Price(prompt=1_000_000, generated=100_000_000, cached=10_000)


def followed() -> Graph[str]:
    @plait.graph(name="followed")
    def build(g: Builder) -> str:
        return g.think("c d", after=g.think("a b", name="one"), name="two")

    return build


async def test_money_counts_all_that_is_sent_and_what_the_cache_had(stub: StubServer) -> None:
    """First 2 tokens sent and 4 said; then 8 sent, of which the cache had 2, and 4 said."""
    async with OpenAIEngine("stub", url=stub.url) as engine:
        run = await run_to_end(followed(), engine, budget=Budget(prices={"openai:stub": PRICE}))
    assert run.usage.cost == pytest.approx(2 + 400 + 6 + 2 * 0.01 + 400)
    assert (run.usage.prompt, run.usage.cached, run.usage.recomputed) == (4, 2, 4)


async def test_a_budget_of_money_cuts_a_generation(stub: StubServer) -> None:
    prices = {f"openai:stub@{stub.url}": PRICE}
    with pytest.raises(NodeError, match="a budget has cut a generation at 3 of 512 tokens"):
        await followed().run(engine=f"openai:stub@{stub.url}", budget=Budget(cost=350, prices=prices))
    assert stub.requests[0]["max_tokens"] == 3


async def test_what_a_server_says_that_it_costs_goes_before_the_price(stub: StubServer) -> None:
    stub.cost = 0.25
    for prices in ({"openai:stub": PRICE}, {}):
        async with OpenAIEngine("stub", url=stub.url) as engine:
            run = await run_to_end(followed(), engine, budget=Budget(cost=1e9, prices=prices))
        assert run.usage.cost == 0.5


async def test_each_engine_of_a_run_has_its_price(stub: StubServer, tmp_path: Path) -> None:
    """Two tokens sent and four said at each: 2 + 400 there, 0.5 here, and the same after a resumption."""

    stub.caches = False

    async def ask(scope: Scope, role: str) -> str:
        return (await scope.generate(await scope.start("a b", adapter=role))).text

    @plait.graph
    def build(g: Builder) -> list[str]:
        return [g.drive(ask, role=role, name=role) for role in ("far", "near")]

    def roles() -> Roles:
        far, near = OpenAIEngine("stub", url=stub.url), OpenAIEngine("small", url=stub.url)
        return Roles({"far": far, "near": near})

    prices = {"openai:stub": PRICE, "openai:small": Price(prompt=50_000, generated=100_000)}
    with plait.Journal(tmp_path / "j.db") as journal:
        async with roles() as engine:
            run = await run_to_end(build, engine, budget=Budget(prices=prices), journal=journal)
            assert run.usage.cost == pytest.approx(402.5)
            again = await run_to_end(build, engine, budget=Budget(prices=prices), journal=journal.resume(run.id))
            assert again.usage.cost == pytest.approx(402.5)
            with pytest.raises(InputError, match="not for the run's engine 'openai:small@http"):
                await build.run(engine=engine, budget=Budget(prices={"openai:stub": PRICE}))
    assert len(stub.requests) == 2


# ---- for routers


async def test_each_request_of_a_run_names_it_so_that_a_router_can_keep_it_on_one_server(stub: StubServer) -> None:
    async with open_engine(f"openai:stub@{stub.url}") as engine:
        run = await run_to_end(plait.graph(lambda g: g.subgraph(chain(), word="x"), name="outer"), engine)
        await (await engine.start("x")).generate()
    assert [headers.get("x-session-id") for headers in stub.headers] == [run.id] * 3 + [None]


async def test_vllm_servers_are_told_the_run_too() -> None:
    with VllmStub() as server:
        async with open_engine(f"vllm:{server.url}") as engine:
            run = await run_to_end(plait.graph(lambda g: g.think("Why?", max_tokens=3), name="why"), engine)
            await (await engine.start("x")).generate(max_tokens=1)
    assert server.sessions == [run.id, ""]

"""Retries: named errors only, a wait that grows at random, and as long as the other side asks for."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import plait
from plait.engines.cassette import CassetteEngine
from plait.engines.scripted import Reply, ScriptedEngine
from plait.errors import InputError, ToolArgumentError, ToolError, TransientEngineError
from plait.tools import Retry
from plait.tools.retry import retry_after

pytestmark = pytest.mark.anyio


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that policies wait; nobody really does."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("plait.tools.retry.anyio.sleep", sleep)
    return waited


async def failing(policy: Retry, error: Exception) -> None:
    async def attempt() -> None:
        raise error

    with pytest.raises(type(error)):
        await policy.call(attempt)


async def test_the_wait_is_drawn_below_a_bound_that_doubles(waits: list[float]) -> None:
    policy = Retry(on=(ConnectionError,), attempts=8, wait=1.0, longest_wait=10.0)
    for _ in range(30):
        await failing(policy, ConnectionError("down"))
    for attempt in range(7):
        drawn = waits[attempt::7]
        assert all(0 <= wait <= min(10.0, 2.0**attempt) for wait in drawn)
        assert len(set(drawn)) > 20, "nothing is random"
    assert max(waits[3::7]) > 2.0


async def test_what_an_error_asks_for_is_waited_beside_the_drawn_wait_but_never_longer_than_the_longest(
    waits: list[float],
) -> None:
    policy = Retry(on=(ToolError, TransientEngineError), attempts=4, wait=1.0, longest_wait=30.0)
    await failing(policy, TransientEngineError("busy", retry_after=20.0))
    assert all(20.0 <= wait <= min(30.0, 20.0 + 2.0**attempt) for attempt, wait in enumerate(waits))
    waits.clear()
    await failing(policy, ToolError("busy", retry_after=3600.0))
    assert waits == [30.0] * 3


async def test_only_named_classes_are_waited_for(waits: list[float]) -> None:
    policy = Retry(on=(TransientEngineError,), attempts=4)
    await failing(policy, ToolError("busy", retry_after=20.0))
    assert waits == []


async def test_a_class_of_ones_own_may_ask_too_and_a_driver_sees_what_a_tool_was_told(waits: list[float]) -> None:
    class Busy(Exception):  # noqa: N818
        retry_after = 2.0

    @plait.tool(idempotent=True, retry=Retry(on=(Busy,), attempts=2, wait=0.0))
    async def look() -> int:
        raise Busy("come later")

    with pytest.raises(ToolError, match="tool 'look' failed: Busy: come later") as raised:
        await look()
    assert waits == [2.0]
    assert raised.value.retry_after == 2.0


@given(st.one_of(st.floats(), st.integers(), st.text(), st.none(), st.booleans(), st.lists(st.integers())))
def test_nonsense_is_no_wait(seconds: object) -> None:
    error = ToolError("busy")
    error.retry_after = seconds  # type: ignore[assignment]
    sensible = isinstance(seconds, int | float) and not isinstance(seconds, bool) and seconds > 0
    assert retry_after(error) == (seconds if sensible else 0.0)  # type: ignore[arg-type]
    assert retry_after(None) == retry_after(ValueError("x")) == retry_after(ToolArgumentError("x")) == 0.0


async def test_a_node_waits_as_long_as_its_engine_asks(waits: list[float]) -> None:
    @plait.graph
    def build(g: plait.Builder) -> str:
        return g.think("Go.", retry=Retry(on=(TransientEngineError,), attempts=3, wait=0.0, longest_wait=9.0))

    engine = ScriptedEngine([Reply("", error=TransientEngineError("busy", retry_after=4.0)), "done"])
    assert await build.run(engine=engine) == "done"
    assert [wait for wait in waits if wait] == [4.0]  # beside the engine's own, for no latency


async def test_a_cassette_keeps_what_an_error_asked_for(tmp_path: Path) -> None:
    failing = ScriptedEngine([Reply("", error=TransientEngineError("busy", retry_after=4.0))])
    for make in (lambda path: CassetteEngine.record(failing, path), CassetteEngine.replay):
        async with make(tmp_path / "tape.jsonl") as engine:
            with pytest.raises(TransientEngineError, match="busy") as raised:
                await (await engine.start("q")).generate()
            assert raised.value.retry_after == 4.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Retry(on=("x",)), "which is no exception class"),  # type: ignore[arg-type]
        (lambda: Retry(attempts=0), "at least once"),
        (lambda: Retry(wait=-1), "can't be negative"),
    ],
)
def test_a_policy_that_cannot_be_followed_is_refused(make: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()  # type: ignore[operator]

"""Speeds: measured by a clock, kept in a file, and turned into seconds by plans."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

import plait
from plait.engines.local import LocalEngine
from plait.engines.scripted import ScriptedEngine
from plait.engines.speed import Speed, measure, read_speeds, speeds_file, write_speed
from plait.errors import DataError, EngineError, InputError
from plait.orchestrator import Builder, compile_graph
from plait.usage import Usage

SPEED = Speed(prefill=1000.0, decode=10.0, together=40.0, threads=8, measured="2026-01-01 12:00")
STORY = " ".join(str(number) for number in range(200))


def ticking(step: float = 1.0) -> Callable[[], float]:
    """A clock that goes on by a step whenever it is read."""
    numbers = count()
    return lambda: next(numbers) * step


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


# ---- measuring


@pytest.mark.anyio
async def test_an_engine_is_measured_by_what_it_counts_and_the_clock() -> None:
    engine = ScriptedEngine(lambda prompt, index: STORY)
    found = await measure(engine, threads=4, tokens=20, clock=ticking(0.5), seed=0)
    encoded = len(engine.prompts[1].split())
    assert encoded == 256
    assert (found.decode, found.together, found.threads) == (20 / 0.5, 4 * 20 / 0.5, 4)
    assert found.prefill == pytest.approx(256 / (0.5 - 0.5 / 20), abs=0.01)


@pytest.mark.anyio
async def test_a_model_that_ends_early_is_asked_again() -> None:
    engine = ScriptedEngine(lambda prompt, index: "one two three")
    found = await measure(engine, threads=2, tokens=8, clock=ticking(), seed=0)
    assert found.decode == 8 / 4  # two tokens after the first of each of four, a tick each
    assert found.together == 2 * 3


@pytest.mark.anyio
async def test_the_local_engine_can_be_measured() -> None:
    async with LocalEngine.open(kv_tokens=4096) as engine:
        found = await measure(engine, threads=2, tokens=4)
    assert min(found.prefill, found.decode, found.together) > 0


@pytest.mark.anyio
async def test_prompts_are_new_each_time_so_that_no_cache_knows_them() -> None:
    engine = ScriptedEngine(lambda prompt, index: STORY)
    for _ in range(2):
        await measure(engine, threads=1, tokens=2, clock=ticking())
    assert len({prompt for prompt in engine.prompts if len(prompt) > 500}) == 2


@pytest.mark.anyio
async def test_what_writes_nothing_cannot_be_measured() -> None:
    with pytest.raises(EngineError, match="ends before it has written enough"):
        await measure(ScriptedEngine(lambda prompt, index: ""), clock=ticking())
    with pytest.raises(InputError, match="0 threads of 64 tokens can't be measured"):
        await measure(ScriptedEngine([]), threads=0)


# ---- seconds


def test_a_run_takes_its_longest_chain_or_all_of_its_work() -> None:
    chain = Usage(prompt=100, prefilled=100, generated=50, steps=50, critical_path=150)
    assert SPEED.chain(chain) == SPEED.seconds(chain) == 5.0 + 0.1
    wide = Usage(prompt=1000, prefilled=1000, generated=4000, steps=50, critical_path=60)
    assert SPEED.work(wide) == SPEED.seconds(wide) == 1.0 + 100.0


def test_what_is_cached_is_not_waited_for() -> None:
    cached = Usage(prompt=5000, cached=5000, generated=10, steps=10, critical_path=5010)
    assert SPEED.seconds(cached) == 1.0


def test_a_plan_foretells_seconds_at_a_known_speed() -> None:
    def write(g: Builder) -> list[str]:
        plan = g.think("a" * 400, max_tokens=30)
        return [g.think("b" * 40, after=plan, max_tokens=20) for _ in range(12)]

    graph = plait.graph(write, name="wide")
    plan = compile_graph(graph, "local", speed=SPEED)
    usage = plan.forecast().usage
    assert usage.seconds == SPEED.work(usage) > SPEED.chain(usage) > 0
    assert plan.as_dict()["forecast"]["seconds"] == round(usage.seconds, 3)
    assert f"seconds foreseen: at least {usage.seconds:.3g} without tools (the longest chain 5." in plan.describe()
    without = compile_graph(graph, "local")
    assert "seconds" not in without.as_dict()["forecast"]
    assert "seconds foreseen" not in without.describe()


# ---- the file


def test_speeds_are_kept_by_the_names_of_engines(tmp_path: Path) -> None:
    file = tmp_path / "new" / "speeds.json"
    assert read_speeds(file) == {}
    slower = Speed(1.0, 1.0, 1.0, 1, "2026-01-02 12:00")
    for name, speed in [("local", slower), ("vllm:http://h:1", slower), ("local", SPEED)]:
        write_speed(file, name, speed)
    assert read_speeds(file) == {"local": SPEED, "vllm:http://h:1": slower}
    assert [path.name for path in file.parent.iterdir()] == ["speeds.json"]


@pytest.mark.parametrize("text", ["", "[]", '{"local": 3}', '{"local": {"prefill": 1}}'])
def test_a_file_of_something_else_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "speeds.json"
    file.write_text(text)
    with pytest.raises(DataError, match=r"speeds\.json can't be read: .*remove it, and measure again"):
        read_speeds(file)


def test_the_file_is_the_environments_or_ones_own(tmp_path: Path) -> None:
    assert speeds_file({"PLAIT_SPEEDS": "/x/y.json", "XDG_STATE_HOME": "/s"}) == Path("/x/y.json")
    assert speeds_file({"XDG_STATE_HOME": "/s"}) == Path("/s/plait/speeds.json")
    assert speeds_file({}).parts[-4:] == (".local", "state", "plait", "speeds.json")

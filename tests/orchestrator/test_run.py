"""Runs: no barriers, nothing left behind, errors that name the node."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from pydantic import BaseModel

import plait
from plait.engines import Sampling
from plait.engines.scripted import Reply, ScriptedEngine
from plait.errors import (
    FormatError,
    InputError,
    NodeError,
    NodeTimeoutError,
    RunError,
    ToolError,
    TransientEngineError,
    UnknownNameError,
)
from plait.orchestrator import (
    Builder,
    Event,
    Limits,
    NodeCancelled,
    NodeFailed,
    NodeFinished,
    NodeStarted,
    RunFailed,
    RunFinished,
    RunStarted,
    Scope,
)
from plait.tools import Retry

pytestmark = pytest.mark.anyio
NEVER_ENDS = 3600.0


class Verdict(BaseModel):
    larger: str
    difference: int


class Flight:
    """A tool that counts how many of its calls are in flight."""

    def __init__(self, cap: int = 8, seconds: float = 0.001) -> None:
        self.now = self.peak = self.started = 0

        @plait.tool(name="fly", cap=cap)
        async def fly(number: int) -> int:
            self.started += 1
            self.now += 1
            self.peak = max(self.peak, self.now)
            try:
                await anyio.sleep(seconds)
            finally:
                self.now -= 1
            if number < 0:
                raise ValueError("negative")
            return number * 2

        self.tool = fly


def total(numbers: list[int]) -> int:
    return sum(numbers)


# ---- values


async def test_values_flow_through_all_kinds_of_nodes() -> None:
    flight = Flight()

    async def slowly(text: str) -> str:
        await anyio.lowlevel.checkpoint()
        return text + "!"

    @plait.graph
    def build(g: Builder, numbers: list[int], name: str) -> Verdict:
        doubled = g.map(flight.tool, numbers)
        one = g.call(flight.tool, number=21)
        summed = g.function(total, numbers=doubled)
        greeting = g.function(slowly, text=name)
        return g.think(
            "{greeting} {doubled} {one} {summed}",
            greeting=greeting,
            doubled=doubled,
            one=one,
            summed=summed,
            returns=Verdict,
        )

    engine = ScriptedEngine(['{"larger":"a","difference":3}'])
    assert await build.run([1, 2, 3], "Ada", engine=engine) == Verdict(larger="a", difference=3)
    assert engine.prompts == ["<|user|>Ada! [2,4,6] 42 12\n<|assistant|>"]
    assert engine.held == 0
    assert not engine.closed


async def test_after_continues_the_context_which_is_then_released() -> None:
    held: list[int] = []

    @plait.graph
    def build(g: Builder, question: str) -> str:
        plan = g.think("Plan: {q}", q=question, system="Be brief.")
        left = g.think("Left?", after=plan)
        right = g.think("Right?", after=plan)
        both = g.function(lambda left, right: (held.append(engine.held), f"{left}+{right}")[1], left=left, right=right)
        return g.function(lambda plan, both: f"{plan}: {both}", plan=plan, both=both)

    engine = ScriptedEngine({"Plan": "P", "Left": "L", "Right": "R"})
    assert await build.run("x", engine=engine) == "P: L+R"
    shared = "<|system|>Be brief.\n<|user|>Plan: x\n<|assistant|>P"
    assert sorted(engine.prompts[1:]) == [f"{shared}<|user|>{side}?\n<|assistant|>" for side in ("Left", "Right")]
    assert held == [0]
    assert engine.held == 0


async def test_samples_are_a_list_with_seeds_of_their_own() -> None:
    @plait.graph
    def build(g: Builder, question: str) -> list[int]:
        return g.think("{q}", q=question, samples=3, returns=int, sampling=Sampling(temperature=1.0), name="try")

    engine = ScriptedEngine(lambda prompt, index: str(index))
    assert sorted(await build.run("x", engine=engine, seed=1)) == [0, 1, 2]
    await build.run("x", engine=engine, seed=1)
    await build.run("x", engine=engine, seed=2)
    seeds = [{asked.sampling.seed for asked in engine.asked[i : i + 3]} for i in (0, 3, 6)]
    assert len(seeds[0]) == 3
    assert seeds[0] == seeds[1]
    assert not seeds[0] & seeds[2]


async def test_an_empty_map_is_an_empty_list() -> None:
    @plait.graph
    def build(g: Builder, numbers: list[int]) -> list[int]:
        return g.map(Flight().tool, numbers)

    assert await build.run([]) == []


async def test_a_map_over_a_thousand_keeps_order_and_cap() -> None:
    flight = Flight(cap=16, seconds=0)

    @plait.graph
    def build(g: Builder, numbers: list[int]) -> list[int]:
        return g.map(flight.tool, numbers)

    assert await build.run(list(range(1000))) == [2 * number for number in range(1000)]
    assert flight.peak == 16


async def test_a_map_takes_functions_and_a_cap_of_its_own() -> None:
    now = peak = 0

    async def work(number: int, plus: int) -> int:
        nonlocal now, peak
        now += 1
        peak = max(peak, now)
        await anyio.sleep(0.001)
        now -= 1
        return number + plus

    @plait.graph
    def build(g: Builder, numbers: list[int]) -> list[int]:
        return g.map(work, numbers, plus=10, cap=3)

    assert await build.run([1, 2, 3, 4, 5]) == [11, 12, 13, 14, 15]
    assert peak == 3


# ---- no barrier


async def test_a_fast_branch_does_not_wait_for_a_slow_sibling() -> None:
    order: list[str] = []
    slow_may_end = anyio.Event()

    async def slow(x: int) -> int:
        await slow_may_end.wait()
        order.append("slow")
        return x

    async def fast(x: int) -> int:
        await anyio.lowlevel.checkpoint()
        return x

    async def end(x: int) -> int:
        order.append("fast end")
        slow_may_end.set()
        return x

    @plait.graph
    def build(g: Builder, x: int) -> int:
        a = g.function(slow, x=x)
        b = g.function(end, x=g.function(fast, x=g.function(fast, x=x)))
        return g.function(lambda a, b: a + b, a=a, b=b)

    with anyio.fail_after(5):
        assert await build.run(1) == 2
    assert order == ["fast end", "slow"]


# ---- failures


async def test_an_error_names_the_node_and_keeps_its_cause() -> None:
    def broken(x: int) -> int:
        raise ValueError("no such thing")

    @plait.graph
    def build(g: Builder, x: int) -> int:
        return g.function(broken, x=x, name="step")

    with pytest.raises(NodeError, match="node 'step' failed: no such thing") as caught:
        await build.run(1)
    assert caught.value.path == "step"
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("items", [[1, 2, -1, 4], [*range(300), -1, *range(700)]])
async def test_a_failing_item_is_named_and_cancels_the_rest(items: list[int]) -> None:
    flight = Flight(cap=8, seconds=0.01)

    @plait.graph
    def build(g: Builder, numbers: list[int]) -> list[int]:
        return g.map(flight.tool, numbers, name="all")

    with pytest.raises(NodeError, match="tool 'fly' failed: ValueError: negative") as caught:
        await build.run(items)
    assert caught.value.path == f"all/{items.index(-1) + 1}-fly"
    assert isinstance(caught.value.__cause__, ToolError)
    assert flight.now == 0
    assert flight.started <= items.index(-1) + 2 * 8


async def test_a_failure_cancels_everything_within_a_turn() -> None:
    cancelled: list[str] = []
    begun = anyio.Event()

    async def hang(x: int) -> int:
        try:
            begun.set()
            await anyio.sleep(NEVER_ENDS)
        except BaseException:
            cancelled.append("hang")
            raise
        return x

    async def fail(x: int) -> int:
        await begun.wait()
        raise RuntimeError("stop")

    @plait.graph
    def build(g: Builder, x: int) -> int:
        a, b = g.function(hang, x=x), g.function(fail, x=x)
        c = g.think("{x}", x=x, returns=int)
        return g.function(lambda a, b, c: a + b + c, a=a, b=b, c=c)

    engine = ScriptedEngine([Reply("1", latency=NEVER_ENDS)])
    events: list[Event] = []
    with anyio.fail_after(5), pytest.raises(NodeError, match="node 'fail' failed: stop"):
        await build.run(1, engine=engine, listeners=[events.append])
    assert cancelled == ["hang"]
    assert (engine.active, engine.held) == (0, 0)
    ends = {event.path: type(event) for event in events if isinstance(event, NodeFailed | NodeCancelled)}
    assert ends == {"fail": NodeFailed, "hang": NodeCancelled, "think": NodeCancelled}
    assert isinstance(events[-1], RunFailed)
    assert events[-1].error == "NodeError"


async def test_an_error_object_raised_twice_names_the_node_of_each_time() -> None:
    error = TransientEngineError("busy")
    first = plait.graph(lambda g: g.think("Go.", name="first"))
    second = plait.graph(lambda g: g.think("Go.", name="second"))
    for graph, name in ((first, "first"), (second, "second")):
        with pytest.raises(NodeError, match=f"node '{name}' failed: busy"):
            await graph.run(engine=ScriptedEngine([Reply("", error=error)]))


async def test_a_plain_function_that_gives_a_coroutine_is_refused() -> None:
    async def work() -> int:
        return 3

    assert await plait.graph(lambda g: g.function(work)).run() == 3
    with pytest.raises(NodeError, match="pass the async function itself"):
        await plait.graph(lambda g: g.function(lambda: work(), name="f")).run()


async def test_a_chain_of_functions_that_never_wait_can_be_cancelled() -> None:
    ran = 0

    async def step(x: int) -> int:
        nonlocal ran
        ran += 1
        return x

    def write(g: Builder, x: int) -> int:
        for _ in range(1000):
            x = g.function(step, x=x)
        return x

    with anyio.CancelScope() as scope:
        scope.cancel()
        await plait.graph(write).run(1)
    assert ran <= 64


def test_ctrl_c_ends_a_run_at_once() -> None:
    code = """
import anyio, plait
from plait.engines.scripted import Reply, ScriptedEngine
engine = ScriptedEngine([Reply("long", latency=3600)])
graph = plait.graph(lambda g: g.think("Go."))
try:
    graph.run_sync(engine=engine, listeners=[lambda event: print(type(event).__name__, flush=True)])
except KeyboardInterrupt:
    print("interrupted", engine.active, engine.held)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while "NodeStarted" not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        try:
            rest, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert rest.splitlines() == ["NodeCancelled", "RunFailed", "interrupted 0 0"]
    assert process.returncode == 0


async def test_cancelling_the_caller_leaves_nothing_running() -> None:
    flight = Flight(seconds=NEVER_ENDS)

    async def drive(scope: Scope, numbers: list[int]) -> str:
        with scope.grow("task", "both"):
            await scope.settle([(flight.tool, {"number": number}) for number in numbers])
        return "done"

    @plait.graph
    def build(g: Builder, numbers: list[int]) -> str:
        a = g.drive(drive, numbers=numbers)
        return g.think("{a} {b}", a=a, b=g.think("Think."))

    engine = ScriptedEngine([Reply("long text", latency=NEVER_ENDS)])
    events: list[Event] = []
    tasks = len(anyio.get_running_tasks())

    async def cancel() -> None:
        while (flight.started, engine.active) != (3, 1):  # noqa: ASYNC110 - the engine rings no bell
            await anyio.sleep(0.001)
        scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(cancel)
        with anyio.fail_after(60) as scope:
            await build.run([1, 2, 3], engine=engine, listeners=[events.append])
    assert scope.cancelled_caught
    assert len(anyio.get_running_tasks()) == tasks
    assert (flight.started, flight.now, engine.active, engine.held) == (3, 0, 0, 0)
    started = {event.path for event in events if isinstance(event, NodeStarted)}
    ended = {event.path for event in events if isinstance(event, NodeFinished | NodeFailed | NodeCancelled)}
    assert started == ended
    assert isinstance(events[-1], RunFailed)


async def test_a_timeout_is_a_named_error() -> None:
    graph = plait.graph(lambda g: g.function(anyio.sleep, delay=NEVER_ENDS, timeout=0.01, name="nap"))
    with pytest.raises(NodeError, match=r"node 'nap' failed: it took longer than its timeout of 0\.01 s") as caught:
        await graph.run()
    assert isinstance(caught.value.__cause__, NodeTimeoutError)


async def test_a_tool_that_hangs_times_out() -> None:
    @plait.tool(timeout=0.01)
    async def hang() -> int:
        """Never answers."""
        await anyio.sleep(NEVER_ENDS)
        return 1

    graph = plait.graph(lambda g: g.call(hang))
    with pytest.raises(NodeError, match="node 'hang' failed: tool 'hang' took longer than its timeout"):
        await graph.run()


async def test_retries_are_for_named_errors_only() -> None:
    replies = [Reply("", error=TransientEngineError("busy")), "not json", "7"]

    @plait.graph
    def build(g: Builder, x: int) -> int:
        retry = Retry(on=(TransientEngineError, FormatError), attempts=3, wait=0.0)
        return g.think("{x}", x=x, returns=int, retry=retry)

    engine = ScriptedEngine(replies)
    assert await build.run(1, engine=engine) == 7
    assert engine.calls == 3
    assert len({asked.sampling.seed for asked in engine.asked}) == 3

    @plait.graph
    def strict(g: Builder, x: int) -> int:
        return g.think("{x}", x=x, returns=int, retry=Retry(on=(FormatError,), wait=0.0))

    with pytest.raises(NodeError, match="node 'think' failed: busy"):
        await strict.run(1, engine=ScriptedEngine(replies))


async def test_output_that_does_not_fit_is_a_format_error_that_says_why() -> None:
    graph = plait.graph(lambda g: g.think("Go.", returns=Verdict, max_tokens=5))
    with pytest.raises(NodeError, match=r"is no Verdict: .*it was cut at max_tokens=5, raise it"):
        await graph.run(engine=ScriptedEngine(['{"larger":"a","difference":3}']))


# ---- limits


@pytest.mark.parametrize(
    ("limits", "peak"),
    [(Limits(), 4), (Limits(tools={"fly": 2}), 2), (Limits(run=3), 3), (Limits(tools={"fly": 0}), 30)],
)
async def test_calls_in_flight_never_exceed_the_limits(limits: Limits, peak: int) -> None:
    flight = Flight(cap=4)

    @plait.graph
    def build(g: Builder, numbers: list[int]) -> list[list[int]]:
        return [g.map(flight.tool, numbers), g.map(flight.tool, numbers), g.map(flight.tool, numbers)]

    await build.run(list(range(10)), limits=limits)
    assert flight.peak == peak


async def test_generations_in_flight_never_exceed_the_limit() -> None:
    graph = plait.graph(lambda g: g.think("Go.", samples=9))
    for limits, peak in [(Limits(engine=2), 2), (Limits(run=3), 3), (Limits(), 9)]:
        engine = ScriptedEngine(lambda prompt, index: Reply("x", latency=0.001))
        await graph.run(engine=engine, limits=limits)
        assert engine.peak_active == peak


async def test_runs_that_share_an_engine_take_turns_under_its_limit() -> None:
    order: list[str] = []

    def reply(prompt: str, index: int) -> Reply:
        order.append("large" if "large" in prompt else "small")
        return Reply("x", latency=0.001)

    engine, limits = ScriptedEngine(reply), Limits(engine=2)
    large = plait.graph(lambda g: g.think("large", samples=200))
    small = plait.graph(lambda g: g.think("small", samples=6))

    async def start(graph: plait.Graph[Any]) -> None:
        await graph.run(engine=engine, limits=limits)

    async with anyio.create_task_group() as group:
        group.start_soon(start, large)
        await anyio.sleep(0.005)
        group.start_soon(start, small)
    assert engine.peak_active == 2
    assert len(order) == 206
    first = order.index("small")
    served = order[first : first + 12]
    assert served.count("small") in (5, 6), served  # every other place, whatever the large one still has to do


async def test_a_run_with_a_higher_limit_is_not_held_up_by_one_with_a_lower() -> None:
    engine = ScriptedEngine(lambda prompt, index: Reply("x", latency=0.2 if "slow" in prompt else 0.001))
    slow = plait.graph(lambda g: g.think("slow", samples=3))
    quick = plait.graph(lambda g: g.think("quick", samples=3))
    ended: list[str] = []

    async def start(name: str, graph: plait.Graph[Any], limit: int) -> None:
        await graph.run(engine=engine, limits=Limits(engine=limit))
        ended.append(name)

    async with anyio.create_task_group() as group:
        group.start_soon(start, "slow", slow, 1)
        await anyio.sleep(0.01)
        group.start_soon(start, "quick", quick, 2)
    assert ended == ["quick", "slow"]


async def test_a_run_that_is_cancelled_while_it_waits_leaves_no_place_taken() -> None:
    engine, limits = ScriptedEngine(lambda prompt, index: Reply("x", latency=0.01)), Limits(engine=1)
    many = plait.graph(lambda g: g.think("Go.", samples=20))
    with anyio.move_on_after(0.03):
        await many.run(engine=engine, limits=limits)
    with anyio.fail_after(10):
        assert await many.run(engine=engine, limits=limits) == ["x"] * 20
    assert engine.peak_active == 1


def test_a_negative_limit_is_refused() -> None:
    with pytest.raises(InputError, match="limit engine=-1 is negative"):
        Limits(engine=-1)


# ---- inputs and engines


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((), "graph 'build' lacks input 'names'; it takes names: list\\[str\\], limit: int"),
        (("Peru",), "input 'names' of graph 'build' takes list\\[str\\]; got 'Peru': Input should be a valid list"),
        ((["a", 3],), "input 'names\\[1\\]' of graph 'build'"),
        ((["a"], 1, 2), "was given 3 inputs; it takes names"),
    ],
)
async def test_inputs_are_checked(inputs: tuple[Any, ...], message: str) -> None:
    @plait.graph
    def build(g: Builder, names: list[str], limit: int = 3) -> str:
        return g.function(lambda names, limit: f"{names}{limit}", names=names, limit=limit)

    assert await build.run(["a"]) == "['a']3"
    with pytest.raises(InputError, match=message):
        await build.run(*inputs)


async def test_an_engine_by_name_is_opened_only_where_one_is_needed(tmp_path: Any) -> None:
    script = tmp_path / "script.json"
    script.write_text('["hello"]')
    thinking = plait.graph(lambda g: g.think("Go."))
    assert await thinking.run(engine=f"scripted:{script}") == "hello"
    with pytest.raises(UnknownNameError, match="unknown engine 'nope'"):
        await thinking.run(engine="nope")
    assert await plait.graph(lambda g: g.function(lambda: 3)).run(engine="nope") == 3


def test_run_sync_is_for_code_without_a_loop() -> None:
    graph = plait.graph(lambda g: g.function(lambda: 3))
    assert graph.run_sync() == 3

    async def main() -> None:
        graph.run_sync()

    with pytest.raises(InputError, match="inside a running event loop"):
        anyio.run(main)


# ---- streams


async def test_a_stream_gives_ordered_events_then_the_value() -> None:
    @plait.graph
    def build(g: Builder, x: int) -> str:
        return g.think("{x}", x=g.function(lambda x: x + 1, x=x, name="plus"), name="say")

    async with build.stream(1, engine=ScriptedEngine(["one two"])) as run:
        with pytest.raises(RunError, match="was not run to its end"):
            _ = run.value
        events = [event async for event in run]
    kinds = "RunStarted NodeStarted NodeFinished NodeStarted NodeText NodeText NodeFinished RunFinished"
    assert [type(event).__name__ for event in events] == kinds.split()
    assert [event.sequence for event in events] == list(range(8))
    assert sorted(event.at for event in events) == [event.at for event in events]
    assert isinstance(events[0], RunStarted)
    assert (events[0].run, events[0].graph, events[0].engine) == (run.id, "build", "scripted")
    assert isinstance(events[-1], RunFinished)
    assert run.value == events[-1].summary == "one two"
    run.check_integrity()
    assert run.usage.generated == 2


async def test_a_stream_raises_the_error_after_the_last_event() -> None:
    graph = plait.graph(lambda g: g.think("Go."))
    events: list[Event] = []

    async def read() -> None:
        async with graph.stream(engine=ScriptedEngine([])) as run:
            async for event in run:
                events.append(event)

    with pytest.raises(NodeError, match="node 'think' failed: the script has no more than 0 replies"):
        await read()
    assert isinstance(events[-1], RunFailed)


async def test_leaving_a_stream_cancels_the_run() -> None:
    graph = plait.graph(lambda g: g.think("Go."))
    engine = ScriptedEngine([Reply("x", latency=NEVER_ENDS)])
    with anyio.fail_after(5):
        async with graph.stream(engine=engine) as run:
            async for event in run:
                if isinstance(event, NodeStarted):
                    break
    assert (engine.active, engine.held) == (0, 0)
    with pytest.raises(RunError, match="not run to its end"):
        _ = run.value


async def test_an_error_in_the_block_comes_out_as_it_is() -> None:
    graph = plait.graph(lambda g: g.think("Go."))
    engine = ScriptedEngine([Reply("x", latency=NEVER_ENDS)])

    async def read() -> None:
        async with graph.stream(engine=engine):
            await anyio.sleep(0.01)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await read()
    assert engine.active == 0


async def test_a_listener_that_fails_does_not_fail_the_run(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[Event] = []

    def broken(event: Event) -> None:
        calls.append(event)
        raise OSError("disk full")

    graph = plait.graph(lambda g: g.function(lambda: 3))
    assert await graph.run(listeners=[broken]) == 3
    assert len(calls) == 1
    assert "a listener failed on RunStarted" in caplog.text

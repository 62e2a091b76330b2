"""Checks of ends and errors: cancelling, released contexts, the window, what was used, closing."""

from __future__ import annotations

import anyio

from ...errors import ContextError, ContextLengthError, EngineClosedError, EngineError
from ...usage import Usage
from ..base import Message
from .check import Check, ConformanceError, Trial, require
from .listing import listed

CHECKS: list[Check] = []


@listed(CHECKS, "usage")
async def usage(trial: Trial) -> None:
    """live and pruned tokens are those given and generated; all given were encoded or cached; one thread's steps"""
    context = await trial.start()
    first = await trial.written(context, max_tokens=6)
    _balanced(context.usage + first.usage, first.context.length)


@listed(CHECKS, "usage over turns", optional=True)
async def usage_over_turns(trial: Trial) -> None:
    """the same of a conversation of two turns"""
    begun = await trial.engine.start([Message("user", "Say one word.")])
    said = await trial.written(begun, max_tokens=4)
    longer = await said.context.extend([Message("user", "Another word.")])
    again = await trial.written(longer, max_tokens=4)
    _balanced(begun.usage + said.usage + longer.usage + again.usage, again.context.length)


def _balanced(used: Usage, length: int) -> None:
    seen = f"{used} for a context of {length} tokens"
    require(used.live == length, f"live is not what it holds: {seen}")
    require(used.live + used.pruned == used.prompt + used.generated, f"live + pruned is not prompt + generated: {seen}")
    require(
        used.prefilled + used.cached + used.recomputed >= used.prompt, f"not all that was given was encoded: {seen}"
    )
    require(used.steps == used.generated > 0, f"one thread's steps are not its tokens: {seen}")
    require(used.critical_path >= used.steps and used.peak_live >= length, f"too short a path, or peak: {seen}")
    require(used.seconds >= 0, f"negative seconds: {seen}")


@listed(CHECKS, "cancel a stream")
async def cancel_stream(trial: Trial) -> None:
    """leaving a stream early ends it; the context can be used as before"""
    context = await trial.start()
    text = context.text
    async with context.stream(max_tokens=200) as stream:
        async for _ in stream:
            break
    try:
        result: object = stream.result
    except EngineError:
        result = None
    require(result is None, f"a stream that was left has the result {result!r}")
    require(context.text == text, f"the context has become {context.text!r}")
    await trial.written(context, max_tokens=3)


@listed(CHECKS, "cancel a generation")
async def cancel_generation(trial: Trial) -> None:
    """a cancelled generation ends at once; the context can be used as before"""
    context = await trial.start()
    ended = False
    with anyio.CancelScope() as scope:
        scope.cancel()
        await context.generate(max_tokens=200)
        ended = True
    require(not ended, "a generation in a cancelled scope went on to its end")
    await trial.written(context, max_tokens=3)


@listed(CHECKS, "released")
async def released(trial: Trial) -> None:
    """a released context is a ContextError; a fork made before goes on"""
    context = await trial.start()
    fork = await trial.written(context, max_tokens=3)
    context.release()
    try:
        await context.generate(max_tokens=1)
    except ContextError:
        require(fork.context.text.endswith(fork.text), f"the fork has become {fork.context.text!r}")
        return
    raise ConformanceError("a released context was used")


@listed(CHECKS, "window", needs=["window"], silent=True)
async def window(trial: Trial) -> None:
    """a prompt longer than the window is a ContextLengthError"""
    size = trial.engine.capabilities.window
    try:
        context = await trial.engine.start("one, " * (size + 8))
        await context.generate(max_tokens=1)
    except ContextLengthError:
        return
    raise ConformanceError(f"{context.length} tokens were taken, the window is {size}")


@listed(CHECKS, "close")
async def close(trial: Trial) -> None:
    """a closed engine is an EngineClosedError; closing twice does no harm"""
    await trial.engine.aclose()
    await trial.engine.aclose()
    try:
        await trial.engine.start("Hello")
    except EngineClosedError:
        return
    raise ConformanceError("it was closed, and starts contexts all the same")

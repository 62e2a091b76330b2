"""Checks of contexts: how they begin, grow and fork, and that they never change."""

from __future__ import annotations

import anyio

from ..base import Context, Generation, Message
from .check import Check, Trial, require
from .listing import listed

CHECKS: list[Check] = []
_MANY = "seven apples and seven pears, "


@listed(CHECKS, "start")
async def start(trial: Trial) -> None:
    """a context holds its prompt, and knows its engine"""
    prompt = "Say something about rain."
    context = await trial.engine.start(prompt)
    require(prompt in context.text, f"started with {prompt!r}, it holds {context.text!r}")
    require(context.length > 0, f"it holds {prompt!r} and has length {context.length}")
    require(context.engine is trial.engine, f"its engine is {context.engine!r}")


@listed(CHECKS, "messages", optional=True)
async def messages(trial: Trial) -> None:
    """a conversation goes on over turns"""
    context = await trial.engine.start([Message("system", "Be brief."), Message("user", "Say one word.")])
    first = await trial.written(context, max_tokens=8)
    longer = await first.context.extend([Message("user", "Another word.")])
    require("Another word." in longer.text, f"extended by a message, it holds {longer.text!r}")
    require(longer.text.startswith(first.context.text), f"{longer.text!r} does not begin with {first.context.text!r}")
    second = await trial.written(longer, max_tokens=8)
    require(second.context.text == longer.text + second.text, f"{second.context.text!r} does not end in what was said")


@listed(CHECKS, "extend", optional=True)
async def extend(trial: Trial) -> None:
    """text is appended to a new context; the old one stays as it was"""
    context = await trial.start()
    text, length = context.text, context.length
    longer = await context.extend(" And then it rained.")
    require(longer.text == text + " And then it rained.", f"extended {text!r}, it holds {longer.text!r}")
    require(longer.length > length, f"the length went from {length} to {longer.length}")
    await trial.written(longer, max_tokens=4)
    require((context.text, context.length) == (text, length), f"the context extended has become {context.text!r}")


@listed(CHECKS, "fork")
async def fork(trial: Trial) -> None:
    """a context used twice at once gives both the same, and stays as it was"""
    context = await trial.start()
    text = context.text
    made: list[Generation] = []

    async def generate() -> None:
        made.append(await trial.written(context))

    async with anyio.create_task_group() as group:
        group.start_soon(generate)
        group.start_soon(generate)
    trial.alike("two forks of one context say", *made)
    require(context.text == text, f"the context that was forked has become {context.text!r}")


@listed(CHECKS, "shared prefix", needs=["shared_prefix"], silent=True)
async def shared_prefix(trial: Trial) -> None:
    """the second fork of a long context does not encode it again"""
    window = trial.engine.capabilities.window or 4096
    context = await trial.engine.start(_MANY * max(1, min(1000, window // 2) // _tokens(_MANY)))
    await _used(trial, context)
    again = await _used(trial, context)
    require(again <= context.length // 2, f"the second fork of {context.length} tokens has encoded {again} of them")


async def _used(trial: Trial, context: Context) -> int:
    usage = (await trial.written(context, max_tokens=2)).usage
    return usage.prefilled + usage.recomputed


def _tokens(text: str) -> int:
    """More than any usual tokenizer makes of an English text."""
    return len(text) // 2

"""Checks of what few engines have: teams, embeddings, adapters."""

from __future__ import annotations

import math
from functools import partial
from typing import get_args

from ...errors import CapabilityError, EngineError
from ..base import Layout, Member, Teamwork
from .check import Check, ConformanceError, Trial, require
from .listing import listed

CHECKS: list[Check] = []
_SLOT = 64


async def _team(trial: Trial, layout: Layout) -> None:
    context = await trial.start()
    names = ("Ann", "Bob")
    members = [Member(context=context, name=name, max_tokens=6) for name in names]
    said: dict[int, str] = dict.fromkeys(range(len(names)), "")
    work = Teamwork(layout=layout, slot=_SLOT if layout == "tokenwise" else 0)
    async with trial.engine.stream_team(members, work) as stream:
        async for chunk in stream:
            said[chunk.member] += chunk.text
        results = stream.results
    require([one.text for one in results] == list(said.values()), f"{said} was streamed, {results} are the results")
    for one in results:
        require(one.usage.generated <= 6, f"a member asked for at most 6 tokens has {one.usage.generated}")
        whole = one.text.rstrip("\ufffd")  # a character at the end of which a token is missing
        require(whole in one.context.text, f"{one.text!r} is not in the member's {one.context.text!r}")


CHECKS += [
    Check(
        f"team {layout}",
        "members' results are what they streamed, and stand in their contexts",
        partial(_team, layout=layout),
        (f"team:{layout}",),
    )
    for layout in get_args(Layout)
]


@listed(CHECKS, "embed", needs=["embed"])
async def embed(trial: Trial) -> None:
    """numbers, as many for either pooling"""
    context = await trial.start()
    mean, last = await context.embed(), await context.embed(pooling="last")
    require(len(mean) == len(last) > 0, f"'mean' has {len(mean)} numbers, 'last' {len(last)}")
    require(all(map(math.isfinite, [*mean, *last])), "some are no numbers")


@listed(CHECKS, "adapter", needs=["adapters"])
async def adapter(trial: Trial) -> None:
    """one that does not exist is an EngineError"""
    name = "no-such-adapter-of-plait"
    try:
        await (await trial.engine.start("Hello", adapter=name)).generate(max_tokens=1)
    except CapabilityError:
        raise
    except EngineError as error:
        require(name in str(error), f"the error does not name the adapter: {error}")
        return
    raise ConformanceError(f"it goes on with the adapter {name!r}")

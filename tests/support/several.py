"""A graph for three engines at once: drafts of one, judgements of a second, and what a third makes of both."""

from __future__ import annotations

from functools import partial

import plait
from plait.engines import Message, Sampling
from plait.orchestrator import Builder, Scope

DRAFTS = 6


async def _draft(scope: Scope, number: int) -> str:
    context = await scope.start(f"Draft {number}: one two three", adapter="writer")
    return (await scope.generate(context, max_tokens=6, sampling=Sampling(temperature=0.8))).text


async def _judged(scope: Scope, draft: str) -> str:
    context = await scope.start([Message("user", f"Judge this: {draft!r}")], adapter="judge")
    return (await scope.generate(context, max_tokens=8)).text


async def _fused(scope: Scope, pair: tuple[str, str]) -> str:
    context = await scope.start(f"Fuse {pair}", adapter="fuser")
    return (await scope.generate(context)).text


async def _layers(scope: Scope) -> list[str]:
    drafts = await scope.gather([(f"draft {number}", partial(_draft, number=number)) for number in range(DRAFTS)])
    judged = await scope.gather([(f"judge {at}", partial(_judged, draft=draft)) for at, draft in enumerate(drafts)])
    pairs = list(zip(drafts, judged, strict=True))
    return await scope.gather([(f"fuse {at}", partial(_fused, pair=pair)) for at, pair in enumerate(pairs)])


@plait.graph
def layers(g: Builder) -> list[str]:
    """Layers of three models, as in Archon (arXiv:2409.15254)."""
    return g.drive(_layers)

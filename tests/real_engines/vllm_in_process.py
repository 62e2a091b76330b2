"""The program of the in-process test: vLLM's `AsyncLLM` behind the protocol, in an environment that has vLLM.

It prints the conformance suite's table, then what it said as JSON.
"""

from __future__ import annotations

import json
import sys

import anyio

from plait.engines.conformance import check_engine
from plait.engines.vllm import VllmEngine


async def main(model: str) -> None:
    engine = VllmEngine.in_process(model, options={"dtype": "float32", "enforce_eager": True})
    async with engine:
        context = await engine.start("What is 2 + 3?")
        tokens = (await context.generate(max_tokens=24)).tokens
        async with context.stream(max_tokens=1500) as stream:
            async for _ in stream:
                break
        await until_idle(engine)
        report = await check_engine(engine, seconds=600)
    print(report.describe())
    print(json.dumps({"ok": report.ok, "tokens": tokens}))


async def until_idle(engine: VllmEngine) -> None:
    """Wait until nothing is generated any more."""
    while True:
        if not (await engine.counters()).running:
            return
        await anyio.sleep(0.05)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])

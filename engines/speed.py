"""Speeds: how fast an engine encodes and writes, as measured, and what a run would take at that (idealised runtime).

The measure of Narayanan et al. (arXiv:2305.02440): time from tokens at an engine's own rates, free of queues, of other
users and of what the day's load makes of them.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from ..errors import DataError, EngineError, InputError
from ..usage import Usage
from .base import Context, Engine, Sampling

VARIABLE = "PLAIT_SPEEDS"
"""The environment variable that names the file of speeds."""
_PROMPT = 512
"""Words of the prompt that is encoded, unless the window is too small."""
_TRIES = 16
_WARM = Sampling(temperature=1.0)


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens a second: `prefill` of one new prompt, `decode` of one thread, `together` of `threads` side by side."""

    prefill: float
    decode: float
    together: float
    threads: int
    measured: str

    def chain(self, usage: Usage) -> float:
        """Seconds of the longest chain of thoughts, were there nothing beside it."""
        given = min(usage.critical_path - usage.steps, usage.prefilled + usage.recomputed)
        return usage.steps / self.decode + given / self.prefill

    def work(self, usage: Usage) -> float:
        """Seconds of all tokens, were the engine always full."""
        return (usage.prefilled + usage.recomputed) / self.prefill + usage.generated / max(self.together, self.decode)

    def seconds(self, usage: Usage) -> float:
        """What a run takes at least: its longest chain or all of its work, whichever is longer. Tools are not in it."""
        return max(self.chain(usage), self.work(usage))


async def measure(
    engine: Engine,
    *,
    threads: int = 8,
    tokens: int = 64,
    clock: Callable[[], float] = time.monotonic,
    seed: int | None = None,
) -> Speed:
    """Measure an engine: a new prompt, then threads of `tokens` tokens each, alone and `threads` side by side.

    Prompts are of random words, so that no prefix cache knows them. Raises InputError, and EngineError where the model
    ends before it has written enough.
    """
    if threads < 1 or tokens < 2:
        raise InputError(f"{threads} threads of {tokens} tokens can't be measured: give 1 thread and 2 tokens at least")
    words = random.Random(seed)
    await (await engine.start(_prompt(words, 8))).generate(max_tokens=2, sampling=_WARM)
    window = engine.capabilities.window or 4 * _PROMPT
    began = clock()
    context = await engine.start(_prompt(words, min(_PROMPT, window // 8)))
    first = await context.generate(max_tokens=1, sampling=_WARM)
    took = clock() - began
    encoded = (context.usage + first.usage).prefilled
    decode = await _decode(context, tokens, clock)
    together = await _together(context, threads, tokens, clock)
    prefill = encoded / max(took - 1 / decode, took / 2)
    now = datetime.now().isoformat(sep=" ", timespec="minutes")
    return Speed(round(prefill, 2), round(decode, 2), round(together, 2), threads, now)


async def _decode(context: Context, tokens: int, clock: Callable[[], float]) -> float:
    """Tokens a second after the first of each generation, which waits for the prompt."""
    written, seconds = 0, 0.0
    for number in range(_TRIES):
        sampling = Sampling(temperature=1.0, seed=number)
        async with context.stream(max_tokens=tokens - written + 1, sampling=sampling) as stream:
            began, met = clock(), 0
            async for chunk in stream:
                began, met = (clock() if not met else began), met + chunk.tokens
            ended = clock()
        if met > 1:
            written, seconds = written + met - 1, seconds + ended - began
        if written >= tokens:
            break
    return _rate(written, seconds)


async def _together(context: Context, threads: int, tokens: int, clock: Callable[[], float]) -> float:
    began = clock()
    outs = await context.samples(threads, max_tokens=tokens, sampling=Sampling(temperature=1.0, seed=1))
    return _rate(sum(out.usage.generated for out in outs), clock() - began)


def _rate(tokens: int, seconds: float) -> float:
    if not tokens or seconds <= 0:
        raise EngineError("the model ends before it has written enough to measure; take one that writes on")
    return tokens / seconds


def _prompt(words: random.Random, count: int) -> str:
    said = (f"{words.choice('bcdfgklmnprst')}{words.choice('aeiou')}{words.randrange(1000)}" for _ in range(count))
    return " ".join(said)


# ---- the file


def speeds_file(environment: Mapping[str, str] = os.environ) -> Path:
    """The file in $PLAIT_SPEEDS, or the one in the user's own state folder."""
    state = environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(environment.get(VARIABLE) or Path(state) / "plait" / "speeds.json")


def read_speeds(file: Path) -> dict[str, Speed]:
    """Speeds by the names of engines; none if there is no file. Raises DataError for one that holds something else."""
    if not file.exists():
        return {}
    try:
        return {name: Speed(**speed) for name, speed in json.loads(file.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"speeds in {file} can't be read: {error}; remove it, and measure again") from error


def write_speed(file: Path, engine: str, speed: Speed) -> None:
    """Put an engine's speed into the file, in place of an earlier one. Raises DataError."""
    speeds = {**read_speeds(file), engine: speed}
    text = json.dumps({name: asdict(one) for name, one in sorted(speeds.items())}, indent=1)
    fresh = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(text + "\n", encoding="utf-8")
        fresh.replace(file)
    except OSError as error:
        raise DataError(f"speeds can't be written to {file}: {error}") from error

"""Checks of generations: their text, where they stop, chance, log-probabilities and scores."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import get_args

from ...errors import EngineError
from ..base import Context, Finish, Generation, Sampling
from .check import Check, ConformanceError, Trial, require
from .listing import listed

CHECKS: list[Check] = []
_TRIES = 3
"""A server rounds differently each time, so that chance may fall on either side of a border now and then."""


@listed(CHECKS, "generate")
async def generate(trial: Trial) -> None:
    """at most max_tokens, and the new context's text is the old one's and what was said"""
    context = await trial.start()
    said = await trial.written(context, max_tokens=5)
    require(said.finish in get_args(Finish), f"it finished by {said.finish!r}")
    require(0 < said.usage.generated <= 5, f"asked for at most 5 tokens, it has counted {said.usage.generated}")
    _appended(context, said)
    more = await trial.written(said.context, max_tokens=3) if said.finish == "length" else said
    require(more.context.text.startswith(said.context.text), "going on has changed what was said before")


@listed(CHECKS, "stream", needs=["streaming"], silent=True)
async def stream(trial: Trial) -> None:
    """chunks joined are the text, which is what it says without a stream"""
    context = await trial.start()
    chunks = []
    async with context.stream(max_tokens=16, sampling=trial.greedy) as opened:
        try:
            early: object = opened.result
        except EngineError:
            early = None
        require(early is None, f"a stream that has just begun has the result {early!r}")
        async for chunk in opened:
            chunks.append(chunk.text)
        said = opened.result
    require("".join(chunks) == said.text, f"the chunks {chunks} are not the text {said.text!r}")
    _appended(context, said)
    trial.alike("with and without a stream it says", said, await trial.written(context))


@listed(CHECKS, "stop text")
async def stop_text(trial: Trial) -> None:
    """a stop string ends the text, which holds it"""
    context = await trial.start()
    for _ in range(_TRIES):
        text = (await trial.written(context, max_tokens=24)).text
        stop = _inner(text)
        said = await context.generate(max_tokens=24, stop=[stop], sampling=trial.greedy)
        if stop in said.text or said.finish == "stop":
            require(said.stop == stop, f"it met {stop!r} and names {said.stop!r}")
            require(said.finish == "stop", f"it met {stop!r} and finished by {said.finish!r}")
            require(said.text.find(stop) + len(stop) == len(said.text), f"stopped at {stop!r}, it says {said.text!r}")
            _appended(context, said)
            return
    raise ConformanceError(f"asked to stop at {stop!r}, it said {said.text!r}; without it, {text!r}")


@listed(CHECKS, "stop token", optional=True)
async def stop_token(trial: Trial) -> None:
    """a stop token ends the text, which holds it (engines without token ids refuse)"""
    context = await trial.start()
    for _ in range(_TRIES):
        free = await trial.written(context, max_tokens=12)
        token = free.tokens[len(free.tokens) // 2] if free.tokens else 0
        said = await context.generate(max_tokens=12, stop=[token], sampling=trial.greedy)
        if said.finish == "stop":
            require(said.stop == token, f"it met token {token} and names {said.stop!r}")
            require(said.tokens.index(token) == len(said.tokens) - 1, f"stopped at {token}, it has {said.tokens}")
            _appended(context, said)
            return
    raise ConformanceError(f"asked to stop at token {token}, it has {said.tokens}; without it, {free.tokens}")


@listed(CHECKS, "seed", needs=["seeds"], silent=True)
async def seed(trial: Trial) -> None:
    """the same seed draws the same text"""
    context = await trial.start()

    async def draw(sampling: Sampling) -> str:
        return (await context.generate(max_tokens=12, sampling=sampling)).text

    await _repeats("the same seed draws", draw)


@listed(CHECKS, "samples")
async def samples(trial: Trial) -> None:
    """as many samples as asked for, each a fork of the context; the same seed draws them again"""
    context = await trial.start()
    made = await context.samples(3, max_tokens=6, sampling=Sampling(temperature=1.0, seed=1))
    require(len(made) == 3, f"asked for 3 samples, it gave {len(made)}")
    for sample in made:
        _appended(context, sample)
    if not trial.offers("seeds"):
        return

    async def draw(sampling: Sampling) -> str:
        return repr([sample.text for sample in await context.samples(2, max_tokens=6, sampling=sampling)])

    await _repeats("the same seed draws the samples", draw)


@listed(CHECKS, "logprobs", needs=["logprobs"])
async def logprobs(trial: Trial) -> None:
    """a log-probability for each token, with the best ones in order; the greedy one is the best"""
    context = await trial.start()
    said = await context.generate(max_tokens=6, sampling=Sampling(logprobs=3))
    ended = said.finish == "eos"
    require(
        said.usage.generated - ended <= len(said.logprobs) <= said.usage.generated,
        f"{said.usage.generated} tokens have {len(said.logprobs)} log-probabilities",
    )
    for place in said.logprobs:
        best = [likely.logprob for likely in place.best]
        require(len(best) == 3, f"asked for the 3 best, {place.text!r} has {len(best)}")
        require(best == sorted(best, reverse=True), f"the best are not in order: {best}")
        require(all(-math.inf < value <= 1e-4 for value in (*best, place.logprob)), f"no log-probabilities: {best}")
        require(
            abs(place.logprob - best[0]) <= trial.tolerance,
            f"{place.text!r} was chosen with {place.logprob:.4f}, and {place.best[0].text!r} has {best[0]:.4f}",
        )


@listed(CHECKS, "score", needs=["score"])
async def score(trial: Trial) -> None:
    """a continuation's score is its summed log-probability, and its context stays as it was"""
    context = await trial.start()
    length = context.length
    one, more = await context.score([" one", " one two three four"])
    require(
        all(math.isfinite(value) and value <= 1e-4 for value in (one, more)), f"no log-probabilities: {one}, {more}"
    )
    require(more < one, f"' one' scores {one:.4f}, and longer, as ' one two three four', {more:.4f}")
    require(context.length == length, f"the length went from {length} to {context.length}")
    if not trial.offers("logprobs"):
        return
    (first, *_) = (await context.generate(max_tokens=1, sampling=Sampling(logprobs=5))).logprobs
    words = [likely for likely in first.best if likely.text.isascii() and likely.text.strip().isalnum()]
    scores = await context.score([word.text for word in words])
    agree = [abs(value - word.logprob) <= trial.tolerance for word, value in zip(words, scores, strict=True)]
    seen = [(word.text, round(word.logprob, 4), round(value, 4)) for word, value in zip(words, scores, strict=True)]
    # One alone may be a token that its text is not read as: a byte, in place of the letter.
    require(any(agree) or len(words) < 2, f"no word's score is its log-probability as the next token: {seen}")


async def _repeats(what: str, draw: Callable[[Sampling], Awaitable[str]]) -> None:
    """Most seeds draw the same twice."""
    pairs = []
    for number in range(_TRIES):
        sampling = Sampling(temperature=1.0, seed=100 + number)
        pairs.append((await draw(sampling), await draw(sampling)))
    differ = [pair for pair in pairs if pair[0] != pair[1]]
    if 2 * len(differ) > len(pairs):
        raise ConformanceError(f"{what} {differ[0][0]!r} and {differ[0][1]!r}")


def _appended(context: Context, said: Generation) -> None:
    wanted = context.text + said.text
    require(said.context.text == wanted, f"{said.text!r} was said, and the context holds {said.context.text!r}")


def _inner(text: str) -> str:
    """Two characters from the middle of a text, none of them a broken one."""
    middle = [index for index in range(len(text) // 3, len(text) - 1) if "\ufffd" not in text[index : index + 2]]
    return text[middle[0] : middle[0] + 2] if middle else text[-1:]

"""Checks of edits: prune and splice give the text they should, and `exact` equals a fresh context."""

from __future__ import annotations

from ...errors import ContextError
from ..base import Context, Mode
from .check import Check, ConformanceError, Trial, require
from .listing import listed

CHECKS: list[Check] = []
_A, _B, _C, _D = "A cat sat on a mat.", " Nobody ever saw it there.", " Then the dog came in.", " So the cat"


@listed(CHECKS, "prune exact", needs=["prune:exact"])
async def prune_exact(trial: Trial) -> None:
    """what comes next is as likely as after a context that never held what was cut"""
    cut = await _pruned(trial, "exact")
    fresh = await (await trial.engine.start(_A)).extend(_C)
    require(cut.length == fresh.length, f"{cut.length} tokens are left, {fresh.length} in a fresh context")
    await trial.same_next("after an exact prune and after a fresh context", cut, fresh)


@listed(CHECKS, "prune shift", needs=["prune:shift"])
async def prune_shift(trial: Trial) -> None:
    """tokens go, and none is encoded again"""
    cut = await _pruned(trial, "shift")
    require(cut.usage.recomputed == 0, f"it has encoded {cut.usage.recomputed} tokens again")
    await trial.written(cut, max_tokens=4)


@listed(CHECKS, "prune beyond the end", needs=["prune:exact", "prune:shift"])
async def prune_beyond(trial: Trial) -> None:
    """a range that does not fit is a ContextError, and the context stays as it was"""
    context = await trial.engine.start(_A)
    try:
        await context.prune(1, context.length + 1, mode=_mode(trial, "prune"))
    except ContextError:
        require(context.text.endswith(_A), f"the context has become {context.text!r}")
        return
    raise ConformanceError(f"tokens 1 to {context.length + 1} of {context.length} were pruned")


@listed(CHECKS, "splice exact", needs=["splice:exact"])
async def splice_exact(trial: Trial) -> None:
    """what others hold comes in, in order; what comes next is as likely as after a context that always held it"""
    joined = await _spliced(trial, "exact")
    base = await trial.engine.start(_A)
    fresh = await (await base.extend(_B)).extend(_C)
    require(joined.length == fresh.length, f"it has {joined.length} tokens, a fresh context {fresh.length}")
    await trial.same_next("after an exact splice and after a fresh context", joined, fresh)


@listed(CHECKS, "splice shift", needs=["splice:shift"])
async def splice_shift(trial: Trial) -> None:
    """what others hold comes in, and none is encoded again"""
    joined = await _spliced(trial, "shift")
    require(joined.usage.recomputed == 0, f"it has encoded {joined.usage.recomputed} tokens again")
    await trial.written(await joined.extend(_D), max_tokens=4)


@listed(CHECKS, "splice side by side", needs=["splice:exact"], optional=True)
async def splice_parallel(trial: Trial) -> None:
    """siblings do not see each other, so that their order does not matter (servers of plain prompts refuse)"""
    base = await trial.engine.start(_A)
    left, right = await base.extend(_B), await base.extend(_C)
    one = await base.splice([left, right], at="parallel", mode="exact")
    other = await base.splice([right, left], at="parallel", mode="exact")
    require(one.length == left.length + right.length - base.length, f"siblings together have {one.length} tokens")
    await trial.same_next("siblings in one order and in the other", await one.extend(_D), await other.extend(_D))


@listed(CHECKS, "splice a stranger", needs=["splice:exact", "splice:shift"])
async def splice_stranger(trial: Trial) -> None:
    """a context of another engine is a ContextError"""
    from ..scripted import ScriptedEngine

    context = await trial.engine.start(_A)
    stranger = await ScriptedEngine([]).start(_A)
    try:
        await context.splice([stranger], at="sequence", mode=_mode(trial, "splice"))
    except ContextError:
        return
    raise ConformanceError("a context of another engine was taken in")


async def _pruned(trial: Trial, mode: Mode) -> Context:
    """`_A` and `_C`, pruned of the `_B` between them."""
    base = await trial.engine.start(_A)
    middle = await base.extend(_B)
    whole = await middle.extend(_C)
    text, length, gone = whole.text, whole.length, middle.length - base.length
    cut = await whole.prune(base.length, middle.length, mode=mode)
    require(cut.text == base.text + _C, f"pruned of {_B!r}, {text!r} became {cut.text!r}")
    require(cut.usage.pruned == gone, f"{gone} tokens were cut, and {cut.usage.pruned} counted")
    require(cut.usage.live == cut.length - length, f"{length} tokens became {cut.length}, and {cut.usage.live} counted")
    require((whole.text, whole.length) == (text, length), f"the context pruned has become {whole.text!r}")
    return cut


async def _spliced(trial: Trial, mode: Mode) -> Context:
    """`_A`, `_B` and `_C`, of which the last two come from forks."""
    base = await trial.engine.start(_A)
    left, right = await base.extend(_B), await base.extend(_C)
    joined = await base.splice([left, right], at="sequence", mode=mode)
    require(joined.text == base.text + _B + _C, f"{_B!r} and {_C!r} after {base.text!r} are {joined.text!r}")
    length = left.length + right.length - base.length
    require(joined.length == length, f"joined they have {joined.length} tokens, apart {length}")
    require((left.text, right.text) == (base.text + _B, base.text + _C), "the contexts spliced have changed")
    return joined


def _mode(trial: Trial, operation: str) -> Mode:
    return "exact" if trial.offers(f"{operation}:exact") else "shift"

"""How far does `shift` depart from `exact`? By the share of a context that is pruned, and layer by layer.

The embedded model reads solved tasks of its own, written as its recipes write them. When three quarters of a trace are
encoded, a stretch somewhere in them is pruned; the last quarter is then read on twice, after the keys and values that
`shift` leaves in place and after those that `exact` encodes again. That there is a prune changes more than how it is
done: the column "pruned at all" has what `exact` departs from reading on without a prune. Last come cuts that a recipe
makes: tim's first list of subtasks, when the second has ended.
"""

from __future__ import annotations

import json
import random
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median, quantiles

import torch
from tokenizers import Tokenizer
from torch import Tensor

from plait.benchmarks.table import Cell, Table
from plait.engines.local import LocalEngine
from plait.engines.local.decoder import Decoder
from plait.kernels import KeyRun, QueryBlock
from plait.kernels.rope import rotate
from plait.recipes.training import formats, mixture

SHARES = (0.1, 0.25, 0.5)
SKILLS = {
    "tree": "tim",
    "hybrid": "hybrid_search",
    "serial_search": "hybrid_search, one look-up a turn",
    "calls": "dta",
    "countdown_serial": "countdown, serial",
}
FINISHED = "tim, a finished list of subtasks"
TRACES = 40
COLUMNS = (
    "pruned",
    "traces of",
    "tokens",
    "mean KL",
    "median KL",
    "95% of KL below",
    "same top token %",
    "pruned at all: KL",
)
SLOTS = 4096


@dataclass(frozen=True, slots=True)
class Cut:
    """Tokens [start, stop) are pruned when the first `held` are encoded."""

    start: int
    stop: int
    held: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass
class Departure:
    """What was seen of some traces: per token read after the prune, and for each layer the squares of what departs and
    of what it departs from, keys and values together."""

    divergence: list[float] = field(default_factory=list)
    same_top: list[bool] = field(default_factory=list)
    pruned_at_all: list[float] = field(default_factory=list)
    layers: dict[int, tuple[float, float]] = field(default_factory=dict)


def main(*, traces: int = TRACES, as_json: bool = False) -> None:
    """Print both tables, or the same as data."""
    tables = measure(traces)
    if as_json:
        print(json.dumps({"tables": [table.as_dict() for table in tables]}))
    else:
        print("\n\n".join(table.text() for table in tables))


def measure(traces: int) -> tuple[Table, Table]:
    """With so many traces of each kind, the same ones at every share."""
    decoder = Decoder.load(LocalEngine.EMBEDDED, dtype="float32")
    tokenizer = Tokenizer.from_file(str(LocalEngine.EMBEDDED / "tokenizer.json"))
    rows, by_layer = list[tuple[Cell, ...]](), dict[float, Departure]()
    for share in SHARES:
        by_layer[share] = Departure()
        for skill, name in SKILLS.items():
            found = Departure()
            for trace in drawn(tokenizer, skill, traces):
                depart(decoder, trace, anywhere(trace, share), found, by_layer[share])
            rows.append((f"{share:.0%}", name, *_summary(found)))
        rows.append((f"{share:.0%}", "all", *_summary(by_layer[share])))
    rows.append(_recipe_row(decoder, tokenizer, traces))
    question = f"KL divergence of next-token distributions, exact to shift, nats a token; {traces} traces of each kind"
    layers = [(layer, *(_relative(by_layer[share], layer) for share in SHARES)) for layer in by_layer[SHARES[0]].layers]
    heads = ("layer", *(f"{share:.0%} pruned" for share in SHARES))
    depth = "relative departure of the keys and values that shift leaves in place, layer by layer (RMS, of exact's)"
    return Table("shift", question, COLUMNS, tuple(rows)), Table("depth", depth, heads, tuple(layers))


def drawn(tokenizer: Tokenizer, skill: str, count: int) -> Iterator[list[int]]:
    """Solved tasks as token ids, always the same."""
    rng = random.Random(skill)
    for _ in range(count):
        yield mixture.encode(tokenizer, mixture.draw(skill, rng)).tokens[: SLOTS // 3]


def anywhere(trace: Sequence[int], share: float) -> Cut:
    """A share of the first three quarters of a trace, by chance but always the same."""
    held = len(trace) - len(trace) // 4
    length = max(round(share * held), 1)
    start = random.Random(len(trace)).randrange(1, held - length)
    return Cut(start, start + length, held)


def finished(tokenizer: Tokenizer, count: int) -> Iterator[tuple[list[int], Cut]]:
    """Traces of tim, and the first list of subtasks of each as a cut, made when the second one ends (buffer 1)."""
    rng = random.Random("finished")
    while count:
        document = mixture.draw("tree", rng)
        text = "".join(piece.text for piece in document)
        opened = [found.end() for found in re.finditer(re.escape(formats.SUBTASKS), text)]
        closed = [found.start() for found in re.finditer(re.escape(formats.NODE_CONCLUSION), text)]
        if len(opened) < 2 or len(closed) < 2 or closed[0] > opened[1]:
            continue  # one list only, or one inside another
        begins, base = list[int](), 0
        for piece in document:
            begins += [base + start for start, _ in tokenizer.encode(piece.text).offsets]
            base += len(piece.text)
        start, stop, held = (bisect_left(begins, at) for at in (opened[0], closed[0], closed[1]))
        yield mixture.encode(tokenizer, document).tokens, Cut(start, stop, held)
        count -= 1


def depart(decoder: Decoder, trace: Sequence[int], cut: Cut, *found: Departure) -> None:
    """Prune one trace both ways and add what is seen to each of `found`."""
    start, stop, held, count = cut.start, cut.stop, cut.held, len(trace)
    pool = _Pool(decoder)
    whole = pool.read(trace, slot=0, position=0, seen=())
    exact = pool.read([*trace[:start], *trace[stop:]], slot=count, position=0, seen=())
    kept = (KeyRun(0, start, 0, 0), KeyRun(stop, held - stop, stop, start))
    shift = pool.read(trace[held:], slot=2 * count, position=held - len(cut), seen=kept)
    after = exact[held - len(cut) :]
    places = slice(stop, held), slice(count + start, count + held - len(cut))
    for one in found:
        one.divergence += _divergence(after, shift)
        one.pruned_at_all += _divergence(whole[held:], after)
        one.same_top += (after.argmax(-1) == shift.argmax(-1)).tolist()
        for layer, (apart, size) in pool.apart(*places, len(cut)):
            before = one.layers.get(layer, (0.0, 0.0))
            one.layers[layer] = (before[0] + apart, before[1] + size)


class _Pool:
    """Keys and values of one trace."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.keys, self.values = decoder.new_pool(SLOTS)

    def read(self, tokens: Sequence[int], *, slot: int, position: int, seen: Sequence[KeyRun]) -> Tensor:
        """Logits after each of the tokens, written to slots from `slot` on, which see `seen` and each other."""
        count = len(tokens)
        own = KeyRun(slot, count, position, position, first=0)
        block = QueryBlock(position, position, tuple(range(slot, slot + count)), (*seen, own))
        return self.decoder.forward(torch.tensor(tokens), self.decoder.plan([block], SLOTS), self.keys, self.values)

    def apart(self, shifted: slice, exact: slice, cut: int) -> Iterator[tuple[int, tuple[float, float]]]:
        """For each layer, squares of the difference and of exact's own. `shifted` keys were rotated by `cut` more."""
        turns = self.decoder.config.rope.turns([-cut], torch.float32, torch.device("cpu"))
        for layer, (keys, values) in enumerate(zip(self.keys, self.values, strict=True)):
            moved = rotate(keys[:, shifted].transpose(0, 1).contiguous(), turns).transpose(0, 1)
            apart = (moved - keys[:, exact]).square().sum() + (values[:, shifted] - values[:, exact]).square().sum()
            yield layer, (float(apart), float(keys[:, exact].square().sum() + values[:, exact].square().sum()))


def _recipe_row(decoder: Decoder, tokenizer: Tokenizer, traces: int) -> tuple[Cell, ...]:
    """The cuts that a recipe makes."""
    found, shares = Departure(), []
    for trace, cut in finished(tokenizer, traces):
        depart(decoder, trace, cut, found)
        shares.append(len(cut) / cut.held)
    return f"{fmean(shares):.0%}", FINISHED, *_summary(found)


def _divergence(true: Tensor, other: Tensor) -> list[float]:
    """KL(true ‖ other) of each row, in nats."""
    p, q = true.double().log_softmax(-1), other.double().log_softmax(-1)
    divergence: list[float] = (p.exp() * (p - q)).sum(-1).tolist()
    return divergence


def _summary(found: Departure) -> tuple[Cell, ...]:
    high = quantiles(found.divergence, n=20)[-1]
    same = 100 * fmean(found.same_top)
    middle = median(found.divergence)
    return len(found.divergence), fmean(found.divergence), middle, high, same, fmean(found.pruned_at_all)


def _relative(found: Departure, layer: int) -> float:
    apart, size = found.layers[layer]
    return float((apart / size) ** 0.5)

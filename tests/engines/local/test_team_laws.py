"""Teams against a dense model in float64 that is written here: each token sees what the record of its pass says."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import anyio
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from plait.engines import Generation, Member, Teamwork
from plait.engines.base import Layout
from plait.engines.local import LocalEngine
from plait.engines.local.decoder import Decoder
from plait.engines.local.team import Moved, Passed
from plait.engines.local.teaming import LocalTeam, Teaming

Open = Callable[..., LocalEngine]
WORDS = ["the", "cat", "sat", "on", "mat", "and", "said", "hello", "world", "to", "people", ";", "user"]
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32}


# ---- the dense model


class Dense:
    """A whole decoder over one table of tokens, with any mask and, for each query, any positions of keys."""

    def __init__(self, directory: Path) -> None:
        self.config = json.loads((directory / "config.json").read_text())
        self.weights = {name: tensor.double() for name, tensor in load_file(directory / "model.safetensors").items()}
        self.frequencies, self.warmth = self._rope()

    def logits(self, ids: Sequence[int], seen: Sequence[dict[int, int]], at: Sequence[int]) -> torch.Tensor:
        """[tokens, vocab]. Token i stands at `at[i]` and sees tokens j at positions `seen[i][j]`, itself among them."""
        count, window = len(ids), self.config["sliding_window"]
        mask = torch.full((count, count), -math.inf, dtype=torch.float64)
        shift = torch.zeros(count, count, dtype=torch.float64)
        for i, keys in enumerate(seen):
            for j, position in keys.items():
                shift[i, j] = position - at[i]
                mask[i, j] = 0.0 if not window or at[i] - position < window else -math.inf
        angles = shift[..., None] * self.frequencies
        cos, sin = angles.cos().repeat(1, 1, 2), angles.sin().repeat(1, 1, 2)
        x = self.weights["model.embed_tokens.weight"][torch.tensor(ids)]
        for layer in range(self.config["num_hidden_layers"]):
            x = x + self._attended(x, f"model.layers.{layer}", mask, cos, sin)
            y = self._norm(x, f"model.layers.{layer}.post_attention_layernorm")
            gate, up = (self._linear(y, f"model.layers.{layer}.mlp.{name}_proj") for name in ("gate", "up"))
            x = x + self._linear(torch.nn.functional.silu(gate) * up, f"model.layers.{layer}.mlp.down_proj")
        return self._norm(x, "model.norm") @ self.weights["lm_head.weight"].T

    def _attended(
        self, x: torch.Tensor, at: str, mask: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> torch.Tensor:
        config = self.config
        heads, kv_heads, size = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
        y = self._norm(x, f"{at}.input_layernorm")
        q, k, v = (self._linear(y, f"{at}.self_attn.{name}_proj").view(len(x), -1, size) for name in "qkv")
        if f"{at}.self_attn.q_norm.weight" in self.weights:
            q, k = self._norm(q, f"{at}.self_attn.q_norm"), self._norm(k, f"{at}.self_attn.k_norm")
        k, v = (part.repeat_interleave(heads // kv_heads, 1) for part in (k, v))
        half = torch.cat((-k[..., size // 2 :], k[..., : size // 2]), -1)
        turned = k[None] * cos[:, :, None] + half[None] * sin[:, :, None]  # [query, key, head, size]
        scores = torch.einsum("ihd,ijhd->hij", q, turned) * self.warmth**2 / math.sqrt(size) + mask
        out = torch.einsum("hij,jhd->ihd", scores.softmax(-1), v)
        return self._linear(out.flatten(1), f"{at}.self_attn.o_proj")

    def _linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ self.weights[f"{name}.weight"].T + self.weights.get(f"{name}.bias", 0.0)

    def _norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        scaled = x / (x.square().mean(-1, keepdim=True) + self.config["rms_norm_eps"]).sqrt()
        return scaled * self.weights[f"{name}.weight"]

    def _rope(self) -> tuple[torch.Tensor, float]:
        """Frequencies, and YaRN's factor on queries and keys (arXiv:2309.00071, §3.4)."""
        size, rope = self.config["head_dim"], self.config.get("rope_parameters") or {}
        theta = rope.get("rope_theta", self.config.get("rope_theta", 10000.0))
        plain = theta ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
        if rope.get("rope_type", "default") == "default":
            return plain, 1.0
        window, factor = rope["original_max_position_embeddings"], rope["factor"]
        low, high = (size * math.log(window / (turns * 2 * math.pi)) / (2 * math.log(theta)) for turns in (32, 1))
        low, high = max(math.floor(low), 0), min(math.ceil(high), size - 1)
        ramp = ((torch.arange(size // 2, dtype=torch.float64) - low) / ((high - low) or 0.001)).clamp(0, 1)
        return plain / factor * ramp + plain * (1 - ramp), 0.1 * math.log(factor) + 1


# ---- what a team's record says


@dataclass
class Told:
    """A team's run as one table of tokens: what each saw, where, and where it stood."""

    ids: list[int] = field(default_factory=list)
    seen: list[dict[int, int]] = field(default_factory=list)
    at: list[int] = field(default_factory=list)

    def write(self, token: int, position: int, before: dict[int, int]) -> int:
        """A token that sees `before` and itself; its row."""
        row = len(self.ids)
        self.ids.append(token)
        self.at.append(position)
        self.seen.append({**before, row: position})
        return row

    def chain(self, tokens: Sequence[int], before: dict[int, int], position: int) -> list[int]:
        """Tokens one after the other, the first at `position`; their rows."""
        rows, seen = [], dict(before)
        for token in tokens:
            rows.append(self.write(token, position, seen))
            seen[rows[-1]] = position
            position += 1
        return rows


def tell(work: Teaming, bases: Sequence[Sequence[int]], own: Sequence[Sequence[int]]) -> tuple[Told, list[list[int]]]:
    """The table, and for each pass its rows in the members' order."""
    told, asked = Told(), work.asked
    base_rows = [told.chain(tokens, {}, 0) for tokens in bases]
    prefix = base_rows[0][: work.common]
    heading = told.chain(work.heading.tokens, {row: i for i, row in enumerate(prefix)}, len(prefix))
    a, b, _ = work.header_lengths
    past, others, mine = heading[:a], heading[a : a + b], heading[a + b :]
    history: list[int] = []
    steps: list[list[int]] = [[] for _ in bases]
    written = [0] * len(bases)
    passes = []
    for event in work.events:
        if isinstance(event, Moved):
            history += steps[event.member]
            steps[event.member] = []
            continue
        first, news = len(told.ids), []
        for count in event.counts:
            news.append(list(range(first, first + count)))
            first += count
        for m, count in enumerate(event.counts):
            shown = [step + (new if asked.same_step else []) for step, new in zip(steps, news, strict=True)]
            live = [row for other, step in enumerate(shown) if other != m for row in step]
            view = {row: position for position, row in enumerate(base_rows[m])}
            if asked.layout == "tokenwise":
                start = max(map(len, bases))
                for other, step in enumerate(shown):
                    if other != m:
                        view |= {row: start + other * asked.slot + k for k, row in enumerate(step)}
                where = start + m * asked.slot
            else:
                order = {
                    "contiguous": others + live + mine,
                    "interleaved": past + history + mine,
                    "combined": past + history + others + live + mine,
                }[asked.layout]
                view |= {row: len(bases[m]) + k for k, row in enumerate(order)}
                where = len(view)
            view |= {row: where + k for k, row in enumerate(steps[m])}
            tokens = own[m][written[m] : written[m] + count]
            assert told.chain(tokens, view, where + len(steps[m])) == news[m]
            written[m] += count
        steps = [step + new for step, new in zip(steps, news, strict=True)]
        passes.append([row for new in news for row in new])
    return told, passes


# ---- what an engine did


class Recorder:
    """A decoder that notes the logits of all rows, and the slots that were written."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.logits: list[torch.Tensor] = []
        self.slots: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)

    def plan(self, blocks: Sequence[Any], slots: int, adapters: Sequence[Any]) -> Any:
        self.slots += [slot for block in blocks for slot in block.slots]
        return self._decoder.plan(blocks, slots, adapters)

    def forward(self, ids: Any, plan: Any, keys: Any, values: Any, rows: torch.Tensor) -> torch.Tensor:
        self.logits.append(self._decoder.forward(ids, plan, keys, values, None))
        return self.logits[-1][rows]


def recorded(engine: LocalEngine) -> Recorder:
    recorder = Recorder(engine._loop.decoder)
    engine._loop.decoder = recorder  # type: ignore[assignment]
    return recorder


def preempt(engine: LocalEngine) -> None:
    """Have all that runs give way before the next step."""
    scheduler = engine._loop.scheduler
    engine._loop.tell(lambda: [scheduler._preempt(unit) for unit in list(scheduler.running)] and None)


async def run(
    engine: LocalEngine, members: Sequence[Member], asked: Teamwork, *, stumbles: frozenset[int] = frozenset()
) -> tuple[Teaming, list[Generation]]:
    """A team's work and results; it gives way where it has said so many chunks as `stumbles` name."""
    stream = engine.stream_team(members, asked)
    assert isinstance(stream, LocalTeam)
    said, count = [""] * len(members), 0
    async with stream:
        async for chunk in stream:
            said[chunk.member] += chunk.text
            count += 1
            if count in stumbles:
                preempt(engine)
    assert said == [result.text for result in stream.results]
    assert stream.work is not None
    return stream.work, stream.results


def prompt(words: int, seed: int) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


@pytest.fixture(scope="module")
def checkpoints(tiny_checkpoint: Callable[..., Path], checkpoint: Path) -> dict[str, Path]:
    sizes = {"num_hidden_layers": 2, "vocab_size": 352, "eos_token_id": 0, "max_position_embeddings": 2048}
    made = {
        "grouped, qk-norm": tiny_checkpoint("qwen3", **sizes),
        "yarn": tiny_checkpoint("llama", rope_parameters=YARN, **sizes),
        "yarn, qk-norm": tiny_checkpoint("qwen3", rope_parameters=YARN, **sizes),
        "sliding window": tiny_checkpoint("mistral", sliding_window=12, **sizes),
        "one head each, biases": tiny_checkpoint("qwen2", num_key_value_heads=6, **sizes),
    }
    for path in made.values():
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (path / name).write_bytes((checkpoint / name).read_bytes())
    return made


async def check(
    engine: LocalEngine, dense: Dense, members: Sequence[Member], asked: Teamwork, stumbles: frozenset[int]
) -> None:
    """The team's logits at every token are the dense model's, and what was sampled came of them."""
    recorder = recorded(engine)
    work, results = await run(engine, members, asked, stumbles=stumbles)
    bases = [member.context.tokens for member in members]  # type: ignore[attr-defined]
    own = [result.tokens for result in results]
    told, passes = tell(work, bases, own)
    expected = dense.logits(told.ids, told.seen, told.at)
    made = recorder.logits[len(recorder.logits) - len(passes) :]  # if it gave way, it did all of them again
    for rows, logits in zip(passes, made, strict=True):
        torch.testing.assert_close(logits, expected[rows], rtol=0, atol=1e-8)
    counts = [event.counts for event in work.events if isinstance(event, Passed)]
    size = engine.tokenizer.size
    for m, part in enumerate(work.parts):
        ends = [sum(count[: m + 1]) - 1 for count in counts if count[m]]
        taking = [logits for logits, count in zip(made, counts, strict=True) if count[m]]
        best = [int(logits[end, :size].argmax()) for logits, end in zip(taking, ends, strict=True)]
        sampled = part.generation.sampled[0 if part.opening else 1 :]
        assert sampled == best[: len(sampled)]
    engine.check_integrity()


LAYOUTS: tuple[Layout, ...] = get_args(Layout)
STEPS = {"step_end": "a", "step_header": "**{name} [{step}]:** "}
HEADERS = {"past_header": "past;", "others_header": "others\n", "own_header": "own: "}


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_layout_equals_the_dense_model(
    checkpoints: dict[str, Path], open_local: Open, data: st.DataObject
) -> None:
    any_team(checkpoints, open_local, data)


@pytest.mark.long
@settings(max_examples=800, deadline=None)
@given(data=st.data())
def test_every_layout_equals_the_dense_model_in_many_more_cases(
    checkpoints: dict[str, Path], open_local: Open, data: st.DataObject
) -> None:
    any_team(checkpoints, open_local, data)


def any_team(checkpoints: dict[str, Path], open_local: Open, data: st.DataObject) -> None:
    path = checkpoints[data.draw(st.sampled_from(sorted(checkpoints)))]
    layout = data.draw(st.sampled_from(LAYOUTS))
    count = data.draw(st.integers(1, 6))
    steps = STEPS if data.draw(st.booleans()) else {}
    headers = HEADERS if layout != "tokenwise" and data.draw(st.booleans()) else {}
    checks = {"check": "twice? ", "check_every": 5} if steps and data.draw(st.booleans()) else {}
    asked = Teamwork(layout=layout, same_step=data.draw(st.booleans()), slot=300, **steps, **headers, **checks)
    sizes = [data.draw(st.integers(1, 12)) for _ in range(count)]
    shared = data.draw(st.booleans())
    limits = [data.draw(st.integers(0, 8)) for _ in range(count)]
    joins = [data.draw(st.sampled_from([0, 0, 1, 4, 12])) for _ in range(count)]
    stumbles = frozenset(data.draw(st.lists(st.integers(1, 20), max_size=2)))
    page_size = data.draw(st.sampled_from([1, 4, 16]))

    async def go() -> None:
        async with open_local(path, page_size=page_size, step_tokens=data.draw(st.sampled_from([7, 512]))) as engine:
            root = await engine.start(prompt(3, 0))
            contexts = [root if shared else await root.extend(" " + prompt(size, size)) for size in sizes]
            members = [
                Member(context=context, name=f"M{i}", max_tokens=limit, joins=join)
                for i, (context, limit, join) in enumerate(zip(contexts, limits, joins, strict=True))
            ]
            await check(engine, Dense(path), members, asked, stumbles)

    anyio.run(go)

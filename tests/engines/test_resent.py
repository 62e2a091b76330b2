"""Contexts of token ids over a server that is sent everything again, on a port made for these tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait import errors
from plait.engines.base import Capabilities, Choice, JsonSchema, Member, Message, Regex, Sampling, Teamwork
from plait.engines.port import Answer, Chance, Completion, End, Part
from plait.engines.resent import ResentEngine
from plait.engines.scripted import ScriptedEngine
from plait.usage import Usage

pytestmark = pytest.mark.anyio

BOS, EOS = 0, 1
PIECES = ["<s>", "</s>", "ab", "cd", "STOP", "xS", "TOPy", "é", *map(chr, range(32, 127)), "\n", "\u2402", "\u2403"]
IDS = {piece: token for token, piece in enumerate(PIECES)}
CAN = Capabilities(
    shared_prefix=True,
    score=True,
    logprobs=True,
    grammars=frozenset({"Choice", "JsonSchema"}),
    prune=frozenset({"exact"}),
    splice=frozenset({"exact"}),
)


def tokens_of(text: str) -> list[int]:
    """The longest piece first."""
    found = []
    while text:
        piece = max((piece for piece in PIECES if text.startswith(piece)), key=len)
        found.append(IDS[piece])
        text = text[len(piece) :]
    return found


class FakePort:
    """Says `says` token by token (or `burst` at once), and finds in its cache what it has encoded in blocks of 4."""

    def __init__(self, says: Sequence[int] = (), *, window: int = 100, burst: int = 1) -> None:
        self.says, self.window, self.burst = list(says), window, burst
        self.asked: list[Completion] = []
        self.cache: set[tuple[int, ...]] = set()
        self.running = 0
        self.failure: Exception | None = None
        self.hangs = self.deaf = False

    async def connect(self) -> int:
        if self.failure is not None:
            raise self.failure
        return self.window

    async def encode(self, text: str, *, first: bool) -> list[int]:
        return [BOS] * first + tokens_of(text)

    async def decode(self, tokens: Sequence[int]) -> str:
        return "".join(PIECES[token] for token in tokens)

    async def render(self, messages: Sequence[Message]) -> list[int]:
        return [BOS, *tokens_of("".join(f"[{m.role}]{m.content};" for m in messages) + "[assistant]")]

    async def complete(self, asked: Completion) -> Answer:
        self.asked.append(asked)
        self.running += 1
        try:
            if self.failure is not None:
                raise self.failure
            cached = self._encode(asked.tokens)
            said: list[int] = []
            reason: Literal["stop", "eos", "length"] = "length"
            stop = None
            for token in self.says[: asked.max_tokens]:
                await anyio.lowlevel.checkpoint()
                if token == EOS:
                    reason = "eos"
                    break
                said.append(token)
                if token in asked.stop and not self.deaf:
                    reason, stop = "stop", token
                    break
                text = "".join(PIECES[token] for token in said)
                if any(isinstance(stop, str) and stop in text for stop in asked.stop) and not self.deaf:
                    reason = "stop"
                    break
            for start in range(0, len(said), self.burst):
                part = tuple(said[start : start + self.burst])
                chances = [Chance(token, -0.5, ((token, -0.5), (EOS, -1.0))) for token in part]
                yield Part(await self.decode(part), part, tuple(chances) if asked.sampling.logprobs else ())
            if self.hangs:
                await anyio.sleep_forever()
            self._encode((*asked.tokens, *said[:-1]))
            yield End(reason, len(asked.tokens), cached, stop)
        finally:
            self.running -= 1

    async def score(self, tokens: Sequence[int], start: int, *, adapter: str) -> float:
        return -float(sum(tokens[start:])) / start

    async def adapter(self, name: str) -> str:
        return "as-" + name

    async def aclose(self) -> None:
        pass

    def _encode(self, tokens: tuple[int, ...]) -> int:
        blocks = [tokens[:end] for end in range(4, len(tokens), 4)]
        cached = max((len(block) for block in blocks if block in self.cache), default=0)
        self.cache.update(blocks)
        return cached


@pytest.fixture
def make() -> Callable[..., tuple[ResentEngine, FakePort]]:
    def make(says: str | Sequence[int] = "", **options: int) -> tuple[ResentEngine, FakePort]:
        port = FakePort(tokens_of(says) if isinstance(says, str) else says, **options)
        return ResentEngine("fake:server", port, CAN), port

    return make


Make = Callable[..., tuple[ResentEngine, FakePort]]


async def test_nothing_is_sent_before_something_is_generated(make: Make) -> None:
    engine, port = make("cde")
    context = await (await engine.start("ab")).extend("x y")
    assert (context.text, context.tokens) == ("abx y", (BOS, *tokens_of("ab"), *tokens_of("x y")))
    assert context.usage == Usage(prompt=3, live=3, peak_live=5, critical_path=3)
    assert port.asked == []
    out = await context.generate(max_tokens=2)
    assert port.asked[0].tokens == context.tokens
    assert (out.text, out.finish, out.tokens) == ("cde", "length", tuple(tokens_of("cde")))
    assert out.context.text == context.text + out.text
    assert out.context.tokens == context.tokens + out.tokens


async def test_what_is_sent_is_cached_new_or_recomputed(make: Make) -> None:
    engine, port = make("cdefghijkl")
    context = await engine.start("0123456")  # 8 tokens with bos
    first = await context.generate(max_tokens=3)
    assert (first.usage.prefilled, first.usage.cached, first.usage.recomputed) == (8, 0, 0)
    fork = await context.generate(max_tokens=3)
    assert (fork.usage.prefilled, fork.usage.cached, fork.usage.recomputed) == (0, 4, 4)
    then = await first.context.generate(max_tokens=3)  # its last token was never encoded
    assert (then.usage.prefilled, then.usage.cached, then.usage.recomputed) == (1, 8, 2)
    port.cache.clear()
    again = await first.context.generate(max_tokens=3)
    assert (again.usage.prefilled, again.usage.recomputed) == (0, 11)


class BlankPort(FakePort):
    """Its tokenizer puts a blank in front of each text, and takes one off, as sentencepiece's do."""

    async def encode(self, text: str, *, first: bool) -> list[int]:
        return [BOS] * first + (tokens_of(" " + text) if text else [])

    async def decode(self, tokens: Sequence[int]) -> str:
        return (await super().decode(tokens)).removeprefix(" ")


async def test_no_blank_comes_between_texts() -> None:
    port = BlankPort(tokens_of("xyz"))
    engine = ResentEngine("fake:server", port, CAN)
    context = await (await engine.start("01")).extend("23")
    assert context.tokens == (BOS, *tokens_of(" 0123"))
    assert context.text == await engine.text_of(context.tokens) == "0123"
    out = await context.generate()
    assert out.context.text == await engine.text_of(out.context.tokens) == "0123xyz"
    await context.score(["45"])
    assert (await context.recall("67"))[0].tokens == (BOS, *tokens_of(" 012367"))


async def test_samples_share_what_the_first_encodes(make: Make) -> None:
    engine, port = make("cdef")
    context = await engine.start("0123456")
    outs = await context.samples(3, max_tokens=2, sampling=Sampling(temperature=1.0, seed=5))
    assert len({asked.sampling.seed for asked in port.asked}) == 3
    assert sum(out.usage.prefilled for out in outs) == 8
    assert all(out.usage.prefilled + out.usage.cached + out.usage.recomputed == 8 for out in outs)


@pytest.mark.parametrize("burst", [1, 2, 5])
@pytest.mark.parametrize(
    ("says", "stops", "text", "stop"),
    [
        ("q" + "STOP" + "zz", ["STOP"], "qSTOP", "STOP"),
        (["q", "xS", "TOPy", "z"], ["STOP"], "qxSTOP", "STOP"),
        (["q", "xS", "TOPy", "z"], ["TOPy", "STOP", "OP"], "qxSTOP", "STOP"),
        (["a", "ab", "b"], ["bb", "b"], "aab", "b"),
        (["STOP", "q"], ["S"], "S", "S"),
    ],
)
async def test_a_text_ends_with_the_stop_string_that_ends_first(
    make: Make, says: Sequence[str], stops: list[str], text: str, stop: str, burst: int
) -> None:
    engine, _ = make([IDS[piece] for piece in says] if isinstance(says, list) else tokens_of(str(says)), burst=burst)
    context = await engine.start("ab")
    chunks = []
    async with context.stream(stop=stops) as stream:
        async for chunk in stream:
            chunks.append(chunk.text)
    out = stream.result
    assert (out.text, out.stop, out.finish) == (text, stop, "stop")
    assert "".join(chunks) == text
    assert await engine.text_of(out.tokens) == text
    assert out.context.tokens == context.tokens + out.tokens
    assert out.usage.live + out.usage.pruned == out.usage.prompt + out.usage.generated
    assert out.usage.live == len(out.tokens)


async def test_a_server_that_misses_a_stop_string_is_left(make: Make) -> None:
    engine, port = make("abSTOPcd")
    port.deaf = True
    out = await (await engine.start("x")).generate(stop=["STOP"])
    assert (out.text, out.stop) == ("abSTOP", "STOP")
    assert port.running == 0


async def test_each_end_has_its_reason(make: Make) -> None:
    engine, _ = make([*tokens_of("abcd"), EOS], window=8)
    context = await engine.start("ab")
    assert (await context.generate(max_tokens=9)).finish == "eos"
    assert (await context.generate(max_tokens=1)).finish == "length"
    assert (await context.generate(max_tokens=0)).finish == "length"
    met = await context.generate(stop=[IDS["cd"]])
    assert (met.finish, met.stop, met.text) == ("stop", IDS["cd"], "abcd")
    longer = await engine.start("012345")
    assert (await longer.generate()).finish == "window"
    full = await longer.extend("6")
    none = await full.generate()
    assert (none.finish, none.text, none.usage.generated) == ("window", "", 0)
    with pytest.raises(errors.ContextLengthError, match="window of 8"):
        await full.extend("7")


async def test_messages_are_rendered_and_followed(make: Make) -> None:
    engine, port = make("ab")
    context = await engine.start([Message("user", "hi")])
    assert context.text == "[user]hi;[assistant]"
    out = await context.generate(max_tokens=1)
    longer = await out.context.extend([Message("tool", "4")])
    assert longer.text == "[user]hi;[assistant]ab;[tool]4;[assistant]"
    assert port.asked[0].tokens[0] == BOS
    assert longer.tokens.count(BOS) == 1
    opened = await (await engine.start("raw ")).extend([Message("user", "hi")])
    assert opened.text == "raw [user]hi;[assistant]"
    assert opened.tokens.count(BOS) == 1


async def test_prune_cuts_tokens_and_their_text(make: Make) -> None:
    engine, port = make("cdefgh")
    out = await (await engine.start("01STOP23")).generate(max_tokens=4)
    whole = out.context
    pruned = await whole.prune(2, 4, mode="exact")
    assert pruned.text == "023cdefg"
    assert pruned.tokens == whole.tokens[:2] + whole.tokens[4:]
    assert (pruned.usage.pruned, pruned.usage.live, pruned.usage.recomputed) == (2, -2, 0)
    after = await pruned.generate(max_tokens=2)
    assert port.asked[-1].tokens == pruned.tokens
    assert (after.usage.prefilled, after.usage.recomputed) == (1, pruned.length - 1)
    with pytest.raises(errors.ContextError, match="0 <= start"):
        await whole.prune(3, 99, mode="exact")
    with pytest.raises(errors.CapabilityError, match="exact"):
        await whole.prune(0, 1, mode="shift")


async def test_splice_appends_what_the_others_hold_beyond_the_fork(make: Make) -> None:
    engine, _ = make("ab")
    parent = await engine.start("root")
    left, right = await parent.extend(" left"), (await parent.generate(max_tokens=1)).context
    joined = await parent.splice([left, right], at="sequence", mode="exact")
    assert joined.text == "root leftab"
    assert joined.usage.prompt == joined.usage.live == len(tokens_of(" left")) + 1
    cut = await left.prune(3, 5, mode="exact")
    assert (cut.text, (await cut.splice([left], at="sequence", mode="exact")).text) == ("ro left", "ro leftot left")
    with pytest.raises(errors.CapabilityError, match="sequence"):
        await parent.splice([left, right], at="parallel", mode="exact")
    other, _ = make()
    with pytest.raises(errors.ContextError, match="another engine"):
        await parent.splice([await other.start("x")], at="sequence", mode="exact")


async def test_a_grammar_ends_and_is_checked(make: Make) -> None:
    engine, port = make("yes</s>")
    context = await engine.start("q")
    out = await context.generate(grammar=Choice(("yes", "no")))
    assert (out.finish, out.text) == ("grammar", "yes")
    assert out.grammar is not None
    assert out.grammar.complete
    assert (await context.generate(grammar=Choice(("yes", "no")), max_tokens=3)).finish == "grammar"
    with pytest.raises(errors.CapabilityError, match="go on within a grammar"):
        await context.generate(grammar=out.grammar)
    with pytest.raises(errors.CapabilityError, match="Regex"):
        await context.generate(grammar=Regex("y"))
    port.says = [*tokens_of('{"a":"x\ny"}'), EOS]
    with pytest.raises(errors.GrammarError, match="control character"):
        await context.generate(grammar=JsonSchema({"type": "object", "properties": {"a": {"type": "string"}}}))


async def test_log_probabilities_have_the_texts_of_their_tokens(make: Make) -> None:
    engine, _ = make("abcd")
    out = await (await engine.start("q")).generate(max_tokens=2, sampling=Sampling(logprobs=2))
    assert [(entry.text, entry.logprob) for entry in out.logprobs] == [("ab", -0.5), ("cd", -0.5)]
    assert [likely.text for likely in out.logprobs[0].best] == ["ab", "</s>"]


async def test_continuations_are_scored_after_the_context(make: Make) -> None:
    engine, _ = make()
    context = await engine.start("abcd")
    assert await context.score(["ab", "", "cd"]) == [-IDS["ab"] / 3, 0.0, -IDS["cd"] / 3]


async def test_what_was_said_before_is_taken_over(make: Make) -> None:
    engine, port = make("ab")
    context = await engine.start("q")
    out = await context.generate(max_tokens=1, grammar=Choice(("ab",)))
    again, state = await context.recall(out.text, out.tokens, grammar=Choice(("ab",)))
    assert (again.text, again.tokens) == (out.context.text, out.context.tokens)
    assert state is not None
    assert state.complete
    assert len(port.asked) == 1


async def test_a_stream_that_is_left_ends_on_the_server(make: Make) -> None:
    engine, port = make("abcdef")
    context = await engine.start("q")
    async with context.stream() as stream:
        async for _ in stream:
            break
    assert port.running == 0
    with pytest.raises(errors.EngineError, match="not ended"):
        _ = stream.result
    port.hangs = True
    with anyio.move_on_after(0.05) as scope:
        await context.generate()
    assert scope.cancelled_caught
    assert port.running == 0


async def test_a_fault_is_raised_as_it_is_and_the_context_stays_usable(make: Make) -> None:
    engine, port = make("ab")
    context = await engine.start("0123")
    port.failure = errors.ServerLostError("gone")
    with pytest.raises(errors.ServerLostError, match="gone"):
        await context.generate()
    port.failure = None
    out = await context.generate(max_tokens=1)
    assert (out.usage.prefilled, out.usage.recomputed) == (context.length, 0)


async def test_an_engine_connects_when_it_can(make: Make) -> None:
    engine, port = make()
    port.failure = errors.ServerLostError("not yet")
    with pytest.raises(errors.ServerLostError):
        await engine.start("x")
    port.failure = None
    assert engine.capabilities.window == 0
    await engine.start("x")
    assert engine.capabilities.window == 100


async def test_what_can_not_be_used_is_refused_by_name(make: Make) -> None:
    engine, _ = make("ab")
    context = await engine.start("x")
    with pytest.raises(errors.CapabilityError, match="team"):
        await engine.team([Member(context=context)], Teamwork(layout="combined"))
    with pytest.raises(errors.CapabilityError, match="embed"):
        await context.embed()
    with pytest.raises(errors.InputError, match="max_tokens"):
        await context.generate(max_tokens=-1)
    with pytest.raises(errors.ContextError, match="adapters"):
        await context.splice([await engine.start("x", adapter="one")], at="sequence", mode="exact")
    async with ScriptedEngine(["y"]) as scripted:
        foreign = await scripted.start("x")
        with pytest.raises(errors.ContextError, match="another engine"):
            await context.splice([foreign], at="sequence", mode="exact")
    context.release()
    with pytest.raises(errors.ContextError, match="released"):
        await context.generate()
    await engine.aclose()
    with pytest.raises(errors.EngineClosedError):
        await engine.start("x")


async def test_an_adapter_goes_with_its_context(make: Make) -> None:
    engine, port = make("ab")
    context = await (await engine.start("x", adapter="one")).extend("y")
    await context.generate(max_tokens=1)
    assert port.asked[0].adapter == "as-one"


WORDS = st.lists(st.sampled_from(["ab", "cd", "STOP", "xS", "TOPy", "é", "a", " ", "0"]), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(WORDS, WORDS, WORDS, st.integers(0, 30), st.integers(0, 30))
def test_text_and_tokens_stay_together_through_any_edits(
    asked: list[str], said: list[str], more: list[str], start: int, stop: int
) -> None:
    async def check() -> None:
        port = FakePort([IDS[word] for word in said])
        engine = ResentEngine("fake:server", port, CAN)
        context = await engine.start("".join(asked))
        used = context.usage
        out = await context.generate(stop=["P", "b"])
        longer = await out.context.extend("".join(more))
        first, last = sorted((start % (longer.length + 1), stop % (longer.length + 1)))
        pruned = await longer.prune(first, last, mode="exact")
        used += out.usage + longer.usage + pruned.usage
        for made in (context, out.context, longer, pruned):
            assert made.text == await engine.text_of(made.tokens)
        assert used.live + used.pruned == used.prompt + used.generated
        assert used.live == pruned.length

    anyio.run(check)

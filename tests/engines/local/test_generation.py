"""Generations: stop strings, grammars, scores and edits, on the real loop."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest

from plait.engines import Choice, Ebnf, JsonSchema, Lark, Message, Regex, Sampling
from plait.engines.base import seeds
from plait.engines.local import LocalEngine
from plait.errors import CapabilityError, ContextError, GrammarError, InputError

pytestmark = pytest.mark.anyio
Open = Callable[..., LocalEngine]
SCHEMA = JsonSchema(
    {
        "type": "object",
        "properties": {"thought": {"type": "string", "maxLength": 5}, "result": {"type": "string", "maxLength": 5}},
        "required": ["thought", "result"],
        "additionalProperties": False,
    }
)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def engine(checkpoint: Path, open_local: Open) -> AsyncIterator[LocalEngine]:
    async with open_local(checkpoint) as opened:
        yield opened
        opened.check_integrity()


# ---- stop strings


async def test_text_ends_with_the_stop_string_wherever_tokens_end(engine: LocalEngine) -> None:
    context = await engine.start("the cat")
    grammar = Regex('[a-z",:]{24}')
    whole = (await context.generate(max_tokens=40, grammar=grammar)).text
    stops = [whole[start : start + length] for start in range(len(whole)) for length in (1, 2, 5)]

    async def check(stop: str) -> None:
        out = await context.generate(max_tokens=40, stop=[stop, "never"], grammar=grammar)
        assert out.text == whole[: whole.index(stop) + len(stop)]
        assert (out.finish, out.stop) == ("stop", stop)
        assert out.context.text == context.text + out.text
        usage = out.usage
        assert usage.live + usage.pruned == usage.prompt + usage.generated
        assert out.context.length == context.length + usage.live
        rest = await out.context.generate(max_tokens=40, grammar=out.grammar)
        assert len(out.text + rest.text) == 24, "the grammar's state stands exactly after the stop string"

    async with anyio.create_task_group() as group:
        for stop in stops:
            group.start_soon(check, stop)


async def test_stop_strings_may_span_tokens_and_need_no_grammar(engine: LocalEngine) -> None:
    context = await engine.start("said the cat")
    whole = (await context.generate(max_tokens=20)).text
    for start in range(0, len(whole) - 3, 2):
        stop = whole[start : start + 3]
        if stop.endswith("\ufffd"):
            continue  # stands for bytes that are no character, which only the byte after them tells
        out = await context.generate(max_tokens=20, stop=[stop])
        assert out.text == whole[: whole.index(stop) + 3]
        assert out.context.text == context.text + out.text


async def test_of_stop_strings_that_end_together_the_longer_is_met(engine: LocalEngine) -> None:
    context = await engine.start("x")
    out = await context.generate(max_tokens=20, stop=["b", "ab", "c"], grammar=Choice(("xabcc",)))
    assert (out.text, out.stop) == ("xab", "ab")


async def test_a_stop_string_already_in_the_prompt_does_not_stop(engine: LocalEngine) -> None:
    context = await engine.start("stop")
    out = await context.generate(grammar=Choice(("op then stop",)), stop=["stop"])
    assert out.text == "op then stop"


async def test_a_cut_token_is_counted(engine: LocalEngine) -> None:
    context = await engine.start("x")
    grammar = Regex("[a-z ]{30}")
    whole = await context.generate(max_tokens=40, grammar=grammar)
    pieces = [engine.tokenizer.text([token]) for token in whole.tokens]
    longest = max(range(len(pieces)), key=lambda place: len(pieces[place]))
    end = len("".join(pieces[:longest])) + 1
    out = await context.generate(max_tokens=40, grammar=grammar, stop=[whole.text[:end]])
    usage = out.usage
    assert (out.text, len(pieces[longest]) > 1) == (whole.text[:end], True)
    assert (usage.generated, usage.pruned, usage.prompt) == (longest + 1, 1, 1)
    assert usage.live + usage.pruned == usage.prompt + usage.generated


async def test_a_stop_token_ends_the_text_and_is_in_it(engine: LocalEngine) -> None:
    context = await engine.start("the cat")
    whole = await context.generate(max_tokens=12)
    for token in set(whole.tokens):
        out = await context.generate(max_tokens=12, stop=["never", token])
        assert out.tokens == whole.tokens[: whole.tokens.index(token) + 1]
        assert (out.finish, out.stop, out.context.text) == ("stop", token, context.text + out.text)
    with pytest.raises(InputError, match="stop names token 9999"):
        await context.generate(stop=[9999])


async def test_the_end_of_sequence_is_no_text_as_a_stop_token_either(engine: LocalEngine) -> None:
    eos = min(engine.tokenizer.eos)
    context = await engine.start("the cat")
    out = await context.generate(stop=[eos], sampling=Sampling(logit_bias={eos: 1000.0}))
    assert (out.text, out.finish, out.stop, out.tokens) == ("", "eos", None, ())


# ---- penalties, log-probabilities, samples


async def test_penalties_and_biases_change_what_is_chosen(engine: LocalEngine) -> None:
    context = await engine.start("the cat the cat the cat")
    plain = await context.generate(max_tokens=10)
    banned = await context.generate(max_tokens=10, sampling=Sampling(logit_bias={plain.tokens[0]: -1000.0}))
    assert plain.tokens[0] not in banned.tokens
    once = await context.generate(max_tokens=60, sampling=Sampling(presence_penalty=1000.0))
    assert len(set(once.tokens)) == 60, "a token that was sampled never comes again"
    new = await context.generate(max_tokens=60, sampling=Sampling(repetition_penalty=1e6))
    assert not set(new.tokens) & set(context.tokens), "what the context holds is penalised too"
    with pytest.raises(InputError, match="logit_bias names token 352"):
        await context.generate(sampling=Sampling(logit_bias={352: 1.0}))


async def test_log_probabilities_are_those_that_score_sums(engine: LocalEngine) -> None:
    context = await engine.start("the cat sat")
    grammar = Regex("[a-z ]{20}")
    sampling = Sampling(1.2, seed=5, repetition_penalty=1.2, logprobs=3)
    out = await context.generate(max_tokens=20, grammar=grammar, sampling=sampling)
    assert tuple(found.token for found in out.logprobs) == out.tokens
    assert "".join(found.text for found in out.logprobs) == out.text
    behind = context
    for found in out.logprobs:
        assert len(found.best) == 3
        assert found.best[0].logprob >= max(found.logprob, found.best[1].logprob)
        if engine.tokenizer.encode_more(found.text) == [found.token]:
            assert await behind.score([found.text]) == pytest.approx([found.logprob], abs=1e-9)
        behind = await engine._append(behind, [found.token], None)
    assert (await context.generate(max_tokens=2)).logprobs == ()
    with pytest.raises(InputError, match="logprobs=5000 is more than the vocabulary"):
        await context.generate(sampling=Sampling(logprobs=5000))


async def test_samples_share_the_prefix_and_are_the_same_alone(engine: LocalEngine) -> None:
    context = await engine.start("the cat sat on the mat and said hello to people")
    encoded = engine.stats().encoded
    sampling = Sampling(1.0, seed=11)
    found = await context.samples(5, max_tokens=6, sampling=sampling)
    assert engine.stats().encoded - encoded <= 1 + 5 * 5, "the prefix's last token once, then what each samples"
    assert len({out.text for out in found}) > 1
    for out, seeded in zip(found, seeds(sampling, 5), strict=True):
        assert (await context.generate(max_tokens=6, sampling=seeded)).tokens == out.tokens
        assert out.context.text == context.text + out.text
    with pytest.raises(InputError, match="0 samples"):
        await context.samples(0)


# ---- streams


async def test_a_stream_gives_what_generate_gives(engine: LocalEngine) -> None:
    context = await engine.start("hello")
    for options in ({}, {"sampling": Sampling(1.3, seed=4)}, {"stop": ["a"]}, {"grammar": SCHEMA}):
        whole = await context.generate(max_tokens=30, **options)
        async with context.stream(max_tokens=30, **options) as stream:
            chunks = [chunk async for chunk in stream]
            assert "".join(chunk.text for chunk in chunks) == whole.text
            assert sum(chunk.tokens for chunk in chunks) == whole.usage.generated
            assert stream.result.text == whole.text
            assert stream.result.tokens == whole.tokens
            assert stream.result.context.text == whole.context.text


async def test_zero_tokens_may_be_asked_for(engine: LocalEngine) -> None:
    context = await engine.start("hello")
    out = await context.generate(max_tokens=0)
    assert (out.text, out.finish, out.context.text) == ("", "length", "hello")


async def test_bad_requests_are_refused(engine: LocalEngine) -> None:
    context = await engine.start("hello")
    with pytest.raises(InputError, match="max_tokens -1"):
        await context.generate(max_tokens=-1)
    with pytest.raises(InputError, match="stop string"):
        await context.generate(stop=[""])
    with pytest.raises(ContextError, match="empty context"):
        await (await engine.start("")).generate()


# ---- grammars


@pytest.mark.parametrize(
    ("grammar", "fits"),
    [
        (SCHEMA, lambda text: list(json.loads(text)) == ["thought", "result"] and '": ' not in text),
        (Regex("(cat|mat)[0-9]{2}"), lambda text: text[:3] in ("cat", "mat") and text[3:].isdigit()),
        (Choice(("yes", 'no "x"\n', "é🎉")), lambda text: text in ("yes", 'no "x"\n', "é🎉")),
        (Lark('start: "a" ("," "b"){3}'), lambda text: text == "a,b,b,b"),
        (Ebnf('root ::= "a" (", " [bc]){3}'), lambda text: re.fullmatch("a(, [bc]){3}", text)),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_output_fits_its_grammar(engine: LocalEngine, grammar: JsonSchema, fits: Callable[[str], bool]) -> None:
    context = await engine.start("the cat")
    for seed in range(3):
        out = await context.generate(max_tokens=80, grammar=grammar, sampling=Sampling(1.0, seed=seed))
        assert fits(out.text), out.text
        assert out.finish == "grammar"
        assert out.grammar is not None
        assert out.grammar.complete


async def test_sentencepiece_models_follow_grammars_too(llama_checkpoint: Path, open_local: Open) -> None:
    async with open_local(llama_checkpoint) as engine:
        context = await engine.start("the cat")
        out = await context.generate(max_tokens=80, grammar=SCHEMA, sampling=Sampling(1.0))
        assert list(json.loads(out.text)) == ["thought", "result"]
        assert out.context.text == "the cat" + out.text
        forced = await out.context.extend(" and more")
        assert forced.text == out.context.text + " and more"


async def test_a_model_without_end_of_sequence_follows_grammars(
    tiny_checkpoint: Callable[..., Path], checkpoint: Path, open_local: Open
) -> None:
    path = tiny_checkpoint("qwen3", num_hidden_layers=1, vocab_size=352, eos_token_id=None)
    (path / "tokenizer.json").write_bytes((checkpoint / "tokenizer.json").read_bytes())
    async with open_local(path) as engine:
        out = await (await engine.start("a")).generate(grammar=SCHEMA)
        assert (out.finish, len(json.loads(out.text))) == ("grammar", 2)


async def test_inserted_text_moves_the_grammar_on(engine: LocalEngine) -> None:
    """A tool's result in mid-JSON, as TIM has it."""
    context = await engine.start("x")
    first = await context.generate(grammar=SCHEMA, stop=['"result":"'])
    assert first.finish == "stop"
    assert first.grammar is not None
    assert not first.grammar.complete
    forced = first.grammar.force("42")
    extended = await first.context.extend("42")
    for _ in range(2):  # a state may be used twice
        last = await extended.generate(grammar=forced)
        found = json.loads(first.text + "42" + last.text)
        assert found["result"].startswith("42")
    assert not first.grammar.complete, "states are values"
    with pytest.raises(GrammarError, match=r"does not allow 'longer than five' here: it stops after 'longe"):
        first.grammar.force("longer than five")


KINDS = (
    JsonSchema(
        {
            "type": "object",
            "properties": {"a": {"type": "string", "maxLength": 3}, "b": {"type": "string", "maxLength": 3}},
            "required": ["a", "b"],
            "additionalProperties": False,
        }
    ),
    Regex(r'\{"a":"[a-z]{0,3}","b":"[a-z]{0,3}"\}'),
    Choice(tuple(f'{{"a":"{a}","b":"{b}"}}' for a in ("", "xy", "the") for b in ("", "yz", "cat"))),
    Lark('start: "{\\"a\\":\\"" /[a-z]{0,3}/ "\\",\\"b\\":\\"" /[a-z]{0,3}/ "\\"}"'),
    Ebnf("""root ::= '{"a":"' word '","b":"' word '"}'\nword ::= [a-z]{0,3}"""),
)


@pytest.mark.parametrize("grammar", KINDS, ids=lambda grammar: type(grammar).__name__)
async def test_forks_cuts_and_insertions_keep_their_place_in_every_grammar(
    engine: LocalEngine, grammar: JsonSchema
) -> None:
    context = await engine.start("x")
    for stop in ('"a":"', '",', '"b'):  # the last ends within a token of some tokenisations: it is taken back
        first = await context.generate(grammar=grammar, stop=[stop], sampling=Sampling(1.0, seed=1))
        assert (first.finish, first.text.endswith(stop)) == ("stop", True)
        assert first.grammar is not None
        assert not first.grammar.complete
        forks = await first.context.samples(4, grammar=first.grammar, sampling=Sampling(1.5))
        for fork in forks:
            assert set(json.loads(first.text + fork.text)) == {"a", "b"}
            assert fork.finish == "grammar"
        again = await first.context.samples(4, grammar=first.grammar, sampling=Sampling(1.5))
        assert [fork.text for fork in again] == [fork.text for fork in forks], "a fork leaves the state as it was"
    first = await context.generate(grammar=grammar, stop=['"a":"'])
    assert first.grammar is not None
    forced, extended = first.grammar.force('the","b'), await first.context.extend('the","b')
    for fork in await extended.samples(3, grammar=forced, sampling=Sampling(1.5)):
        assert json.loads(first.text + 'the","b' + fork.text)["a"] == "the"
    with pytest.raises(GrammarError, match="does not allow"):
        first.grammar.force("4711")
    assert (await first.context.generate(grammar=first.grammar)).finish == "grammar", "a refused text moves nothing"


@pytest.mark.parametrize(
    "grammar",
    [
        Regex("("),
        JsonSchema({"type": "nope"}),
        Choice(()),
        Lark("start: nowhere"),
        JsonSchema({"enum": []}),
        JsonSchema({1: {2}}),
    ],  # type: ignore[dict-item]
    ids=str,
)
async def test_a_grammar_that_cannot_be_compiled_or_met_is_refused(engine: LocalEngine, grammar: Regex) -> None:
    context = await engine.start("x")
    with pytest.raises(GrammarError):
        await context.generate(grammar=grammar)
    assert (await context.generate(max_tokens=1)).usage.generated == 1


async def test_a_grammar_without_a_token_to_go_on_fails_alone(engine: LocalEngine) -> None:
    context = await engine.start("x")
    with pytest.raises(GrammarError):
        await context.generate(grammar=Lark("start: <|nothing|>"))
    engine.check_integrity()


# ---- messages


async def test_messages_and_raw_text_make_one_conversation(engine: LocalEngine) -> None:
    context = await engine.start([Message("system", "be"), Message("user", "hi")])
    opened = "<|im_start|>system\nbe<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert context.text == opened
    out = await context.generate(grammar=Choice(("hello",)))
    after = await (await out.context.extend(" world")).extend([Message("tool", "4"), Message("user", "so?")])
    added = "<|im_end|>\n<|im_start|>tool\n4<|im_end|>\n<|im_start|>user\nso?<|im_end|>\n<|im_start|>assistant\n"
    assert after.text == opened + "hello world" + added
    assert after.conversation is not None
    assert [message.content for message in after.conversation.messages] == ["be", "hi", "hello world", "4", "so?"]
    plain = await (await engine.start("raw ")).extend([Message("user", "hi")])
    assert plain.text == "raw <|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"


# ---- scores


async def test_scores_are_the_log_probabilities_of_continuations(engine: LocalEngine) -> None:
    context = await engine.start("the cat sat on")
    continuations = [" the mat", "x", "", " the cat sat on the mat"]
    scores = await context.score(continuations)
    assert scores == pytest.approx(await context.score(continuations), abs=1e-9)
    assert scores[2] == 0.0
    out = await context.generate(max_tokens=1)
    best = max([await context.score([engine.tokenizer.text([token])]) for token in range(3, 100)])
    if out.tokens[0] in range(3, 100):
        assert await context.score([out.text]) == pytest.approx(best)
    first, rest = await context.score([" the"]), await (await context.extend(" the")).score([" mat"])
    assert scores[0] == pytest.approx(first[0] + rest[0], abs=1e-9)


# ---- edits


async def test_exact_prune_equals_a_fresh_context(engine: LocalEngine) -> None:
    context = await engine.start("the cat sat on the mat and said hello world to people")
    out = await context.generate(max_tokens=8)
    for start, stop in ((2, 5), (0, 3), (6, 13), (4, out.context.length), (3, 3)):
        pruned = await out.context.prune(start, stop, mode="exact")
        tokens = out.context.tokens[:start] + out.context.tokens[stop:]
        assert pruned.tokens == tokens
        assert pruned.usage.pruned == stop - start == -pruned.usage.live
        fresh = await engine.start("")
        fresh = await engine._append(fresh, tokens, None)
        assert await pruned.score([" cat", "at"]) == pytest.approx(await fresh.score([" cat", "at"]), abs=1e-9)


async def test_shift_prune_costs_nothing_and_equals_exact_at_one_layer(
    engine: LocalEngine, smallest_checkpoint: Path, open_local: Open
) -> None:
    async with open_local(smallest_checkpoint) as shallow:
        context = await shallow.start("the cat sat on the mat and said hello")
        shifted, exact = [await context.prune(2, 5, mode=mode) for mode in ("shift", "exact")]
        assert (shifted.tokens, shifted.position) == (exact.tokens, exact.position)
        assert (shifted.usage.recomputed, exact.usage.recomputed) == (0, len(exact.tokens) - 2)
        assert await (await shifted.extend(" x")).score([" cat"]) == pytest.approx(
            await (await exact.extend(" x")).score([" cat"]), abs=1e-9
        )
        again = await shifted.prune(1, 2, mode="exact")
        fresh = await shallow._append(await shallow.start(""), again.tokens, None)
        assert await again.score([" cat"]) == pytest.approx(await fresh.score([" cat"]), abs=1e-9)
        shallow.check_integrity()


async def test_splice_joins_forks(engine: LocalEngine) -> None:
    parent = await engine.start("the cat")
    forks = [await parent.extend(text) for text in (" sat on", " said hello world", "")]
    encoded = engine.stats().encoded
    joined = await parent.splice(forks, at="parallel", mode="exact")
    assert joined.text == "the cat sat on said hello world"
    assert engine.stats().encoded <= encoded + 3, "only last tokens that were still pending"
    assert joined.position == parent.position + max(fork.length for fork in forks) - parent.length
    sequence = await parent.splice(forks, at="sequence", mode="exact")
    fresh = await engine._append(await engine.start(""), joined.tokens, None)
    assert await sequence.score([" mat"]) == pytest.approx(await fresh.score([" mat"]), abs=1e-9)
    assert (await parent.splice(forks, at="sequence", mode="shift")).position == sequence.position
    with pytest.raises(CapabilityError, match="prune does not know 'quick'; supported: exact, shift"):
        await parent.prune(0, 1, mode="quick")  # type: ignore[arg-type]
    with pytest.raises(ContextError, match="does not fit"):
        await parent.prune(1, 9, mode="shift")

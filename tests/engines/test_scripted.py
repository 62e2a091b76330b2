from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Literal

import anyio
import pytest
from pydantic import BaseModel

import plait
from plait.engines import Capabilities, Choice, JsonSchema, Message, Sampling, open_engine
from plait.engines.scripted import Reply, ScriptedEngine, tokenise
from plait.errors import (
    CapabilityError,
    ContextError,
    ContextLengthError,
    DataError,
    EngineClosedError,
    EngineError,
    FormatError,
    GrammarError,
    NodeError,
    TransientEngineError,
)

pytestmark = pytest.mark.anyio


async def test_replies_come_in_order() -> None:
    engine = ScriptedEngine(["one", "two"])
    context = await engine.start("Count")
    assert [(await context.generate()).text for _ in range(2)] == ["one", "two"]
    assert engine.prompts == ["Count", "Count"]
    with pytest.raises(EngineError, match="no more than 2 replies"):
        await context.generate()


async def test_the_rule_that_matches_last_answers() -> None:
    engine = ScriptedEngine({"Peru": "34 million", re.compile(r"Ch\w+"): ["20 million", "19 million"]})
    peru = await engine.start("How many live in Peru?")
    both = await peru.extend(" And in Chile?")
    assert (await peru.generate()).text == "34 million"
    assert [(await both.generate()).text for _ in range(2)] == ["20 million", "19 million"]
    with pytest.raises(EngineError, match="no rule of the script matches"):
        await (await engine.start("Bolivia")).generate()


async def test_a_function_sees_the_prompt_and_the_count() -> None:
    engine = ScriptedEngine(lambda prompt, index: f"{prompt}{index}")
    context = await engine.start("a")
    assert [(await context.generate()).text for _ in range(2)] == ["a0", "a1"]


async def test_a_stopped_reply_goes_on_after_the_inserted_text() -> None:
    engine = ScriptedEngine(['{"call": "f", "result": , "answer": 3}'])
    first = await (await engine.start("Q")).generate(stop=['"result": '])
    assert (first.text, first.finish, first.stop) == ('{"call": "f", "result": ', "stop", '"result": ')
    second = await (await first.context.extend("3")).generate()
    assert second.text == ', "answer": 3}'
    assert second.context.text == 'Q{"call": "f", "result": 3, "answer": 3}'
    assert engine.asked[1].continued


async def test_a_grammar_is_checked_over_forced_text_too() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    engine = ScriptedEngine(['{"a": }', '{"a": "x"}'], checks_grammar=True)
    context = await engine.start("Q")
    first = await context.generate(stop=['"a": '], grammar=JsonSchema(schema))
    assert first.grammar is not None
    assert not first.grammar.complete
    second = await (await first.context.extend("3")).generate(grammar=first.grammar.force("3"))
    assert second.finish == "grammar"
    assert second.grammar is not None
    assert second.grammar.complete
    with pytest.raises(GrammarError, match=r"\$\.a is 'x', not of type integer"):
        await context.generate(grammar=JsonSchema(schema))


async def test_a_choice_outside_the_options_is_refused() -> None:
    context = await ScriptedEngine(["maybe"], checks_grammar=True).start("Q")
    with pytest.raises(GrammarError, match="not one of yes, no"):
        await context.generate(grammar=Choice(("yes", "no")))


async def test_malformed_output_comes_as_it_is() -> None:
    written = await (await ScriptedEngine(["maybe"]).start("Q")).generate(grammar=Choice(("yes", "no")))
    assert (written.text, written.finish) == ("maybe", "eos")


async def test_max_tokens_cuts_and_the_rest_is_kept() -> None:
    context = await ScriptedEngine(["one two three"]).start("Q")
    first = await context.generate(max_tokens=2)
    assert (first.text, first.finish, first.usage.generated) == ("one two", "length", 2)
    assert (await first.context.generate()).text == " three"


async def test_a_further_message_opens_a_new_turn() -> None:
    context = await ScriptedEngine(["one two", "new"]).start([Message("user", "Q")])
    first = await context.generate(max_tokens=1)
    turn = await first.context.extend([Message("user", "again")])
    assert turn.text == "<|user|>Q\n<|assistant|>one<|user|>again\n<|assistant|>"
    assert (await turn.generate()).text == "new"


async def test_a_fork_leaves_the_parent_usable() -> None:
    context = await ScriptedEngine(["x", "y"]).start("Q")
    left, right = await context.generate(), await context.generate()
    assert (context.text, left.context.text, right.context.text) == ("Q", "Qx", "Qy")


async def test_usage_adds_up() -> None:
    context = await ScriptedEngine(["four words of answer"]).start("two words")
    longer = await context.extend(" and three more")
    out = await longer.generate()
    cut = await out.context.prune(1, 3, mode="exact")
    total = context.usage + longer.usage + out.usage + cut.usage
    assert (total.prompt, total.generated, total.pruned, total.recomputed) == (5, 4, 2, 6)
    assert total.live == cut.length == total.prompt + total.generated - total.pruned
    assert cut.text == "two three morefour words of answer"


async def test_splice_inserts_what_the_others_hold_beyond_the_fork() -> None:
    engine = ScriptedEngine(["same", "same"])
    parent = await engine.start("Q:")
    children = [(await parent.generate()).context for _ in range(2)]
    joined = await parent.splice(children, at="parallel", mode="exact")
    assert joined.text == "Q:samesame"
    with pytest.raises(ContextError, match="another engine"):
        await parent.splice([await ScriptedEngine([]).start("")], at="sequence", mode="exact")


async def test_errors_come_after_the_text_said() -> None:
    engine = ScriptedEngine([Reply("half", error=TransientEngineError("lost"))])
    context = await engine.start("Q")
    said = []

    async def listen() -> None:
        async with context.stream() as stream:
            async for chunk in stream:
                said.append(chunk.text)

    with pytest.raises(TransientEngineError, match="lost"):
        await listen()
    assert said == ["half"]
    engine.check_integrity()


async def test_leaving_a_stream_cancels_it() -> None:
    engine = ScriptedEngine([Reply("one two three", latency=60)] * 2)
    context = await engine.start("Q")
    with anyio.move_on_after(0.01):
        await context.generate()
    engine.check_integrity()
    async with context.stream() as stream:
        pass
    with pytest.raises(EngineError, match="has not ended"):
        _ = stream.result


async def test_capabilities_are_what_the_test_says() -> None:
    engine = ScriptedEngine(["x"], capabilities=Capabilities(window=2))
    context = await engine.start("Q")
    with pytest.raises(CapabilityError, match="can't prune with mode 'exact'; it offers: none"):
        await context.prune(0, 1, mode="exact")
    with pytest.raises(CapabilityError, match="has no 'score'"):
        await context.score(["a"])
    with pytest.raises(ContextLengthError, match="window of 2"):
        await context.extend("a b c")


async def test_the_window_ends_a_generation() -> None:
    context = await ScriptedEngine(["a b c d"], capabilities=Capabilities(window=3)).start("Q")
    assert (await context.generate()).finish == "window"


async def test_score_follows_its_rule() -> None:
    context = await ScriptedEngine([], score=lambda text, more: -float(len(more))).start("Q")
    assert context.engine.capabilities.score
    assert await context.score(["a", "bb"]) == [-1.0, -2.0]


async def test_embed_follows_its_rule() -> None:
    engine = ScriptedEngine([], embed=lambda text, pooling: [len(text), float(pooling == "last")])
    assert engine.capabilities.embed
    assert await (await engine.start("four")).embed(pooling="last") == [4, 1.0]
    with pytest.raises(CapabilityError, match="has no 'embed'"):
        await (await ScriptedEngine([]).start("Q")).embed()


async def test_released_and_closed_are_named_errors() -> None:
    engine = ScriptedEngine(["x"])
    context, other = await engine.start("Q"), await engine.start("Q")
    context.release()
    assert engine.held == 1
    with pytest.raises(ContextError, match="released"):
        await context.generate()
    await engine.aclose()
    assert engine.held == 0
    with pytest.raises(EngineClosedError, match="is closed"):
        await other.generate()


async def test_sampling_is_recorded() -> None:
    engine = ScriptedEngine(["x"])
    await (await engine.start("Q")).generate(sampling=Sampling(seed=7), stop=["."])
    assert engine.asked[0].sampling.seed == 7
    assert engine.asked[0].stop == (".",)


async def test_samples_take_their_replies_in_order() -> None:
    engine = ScriptedEngine(["a b", Reply("c d", latency=0.01), "e f"])
    context = await engine.start("Q")
    found = await context.samples(3, max_tokens=2, sampling=Sampling(1.0, seed=7))
    assert [out.text for out in found] == ["a b", "c d", "e f"]
    assert len({asked.sampling.seed for asked in engine.asked}) == 3
    assert engine.peak_active == 3


async def test_a_sample_that_fails_cancels_the_others() -> None:
    engine = ScriptedEngine([Reply("slow one", latency=60), Reply("x", error=TransientEngineError("lost"))])
    with pytest.raises(TransientEngineError, match="lost"):
        await (await engine.start("Q")).samples(2)
    engine.check_integrity()


async def test_what_needs_token_ids_is_refused() -> None:
    context = await ScriptedEngine(["x"]).start("Q")
    for options in ({"stop": ["a", 3]}, {"sampling": Sampling(logprobs=1)}):
        with pytest.raises(CapabilityError, match="has no token ids or log-probabilities"):
            await context.generate(**options)


async def test_a_script_is_read_from_json(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "script.json"
    path.write_text(json.dumps({"Peru": {"text": "34", "latency": 0.001}, "Chile": ["20", {"error": "lost"}]}))
    async with open_engine(f"scripted:{path}") as engine:
        assert (await (await engine.start("Peru?")).generate()).text == "34"
        chile = await engine.start("Chile?")
        assert (await chile.generate()).text == "20"
        with pytest.raises(TransientEngineError, match="lost"):
            await chile.generate()


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is not JSON"), ("3", "holds a int"), ('[{"txt": "a"}]', "is no reply"), (None, "can't be read")],
)
def test_a_broken_script_is_refused(tmp_path, content: str | None, message: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "script.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=message):
        ScriptedEngine.from_file(path)


def test_tokens_joined_are_the_text() -> None:
    text = '  {"a b": 12.5}\n\n x '
    assert "".join(tokenise(text)) == text


async def test_an_adapter_is_refused() -> None:
    engine = ScriptedEngine(["one"])
    assert not engine.capabilities.adapters
    with pytest.raises(CapabilityError, match=r"takes no adapters \('lora'\); use engine 'local'"):
        await engine.start("Count", adapter="lora")


class City(BaseModel):
    name: str
    size: Literal["small", "large"]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ('{"name":"Lima","si', "is no City: Invalid JSON"),
        ('{"name":"Lima","size":"huge"}', "is no City: Input should be 'small' or 'large'"),
        ('{"name":7,"size":"large"}', "is no City: Input should be a valid string"),
        ("[]", "is no City: Input should be an object"),
        ("", "is no City"),
        ("\ufffd\ufffd", "is no City"),
        ('{"name":"\ud800","size":"large"}', "is no City"),
        ('{"name":"\\ud800","size":"large"}', "is no City"),
        ("[" * 5_000, "is no City"),
    ],
)
async def test_a_graph_says_what_is_wrong_with_malformed_output(written: str, message: str) -> None:
    graph = plait.graph(lambda g: g.think("A city.", returns=City, max_tokens=10_000))
    with pytest.raises(NodeError, match=message) as raised:
        await graph.run(engine=ScriptedEngine([written]))
    assert isinstance(raised.value.__cause__, FormatError)
    with pytest.raises(NodeError, match=r"does not fit its JsonSchema|ud800.* is no City"):
        await graph.run(engine=ScriptedEngine([written], checks_grammar=True))


async def test_a_reply_that_never_ends_is_there_for_timeouts() -> None:
    graph = plait.graph(lambda g: g.think("Go.", timeout=0.02))
    engine = ScriptedEngine([Reply("a b", latency=math.inf)])
    with pytest.raises(NodeError, match=r"longer than its timeout of 0\.02 seconds"):
        await graph.run(engine=engine)
    engine.check_integrity()


async def test_a_script_in_json_says_when_a_busy_engine_may_be_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "script.json"
    path.write_text(json.dumps([{"error": "busy", "retry_after": 5}]))
    with pytest.raises(TransientEngineError, match="busy") as raised:
        await (await ScriptedEngine.from_file(path).start("q")).generate()
    assert raised.value.retry_after == 5.0

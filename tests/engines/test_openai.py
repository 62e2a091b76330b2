"""The openai engine against a server of our own that speaks its protocol."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stub_server import Answer, Status, StubServer

import plait
from plait.engines import Choice, JsonSchema, Message, Regex, Sampling, Teamwork, open_engine
from plait.engines.cassette import CassetteEngine
from plait.engines.openai import OpenAIEngine
from plait.engines.turns import ToolCall, read_calls
from plait.errors import (
    CapabilityError,
    ContextError,
    EngineClosedError,
    EngineError,
    FilteredError,
    GrammarError,
    InputError,
)
from plait.usage import Usage

pytestmark = pytest.mark.anyio
HI = [Message("user", "say it again please")]


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubServer]:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with StubServer() as server:
        yield server


@pytest.fixture
async def engine(stub: StubServer) -> AsyncIterator[OpenAIEngine]:
    async with OpenAIEngine("stub", url=stub.url) as opened:
        yield opened


def opened(stub: StubServer, **options: Any) -> OpenAIEngine:
    return OpenAIEngine("stub", url=stub.url, **options)


# ---- contexts


async def test_it_is_opened_by_name(stub: StubServer) -> None:
    async with open_engine(f"openai:stub@{stub.url}") as engine:
        assert engine.name == f"openai:stub@{stub.url}"
        said = await (await engine.start(HI)).generate()
    assert said.text == "you said say it again please"
    assert said.finish == "eos"
    assert stub.requests[0]["model"] == "stub"


async def test_a_model_may_have_any_name() -> None:
    assert open_engine("openai:@cf/meta/llama").name == "openai:@cf/meta/llama"
    assert open_engine("openai:a@b@http://h:1/v1").name == "openai:a@b@http://h:1/v1"
    assert open_engine("openai:m@http://h:1,http://i:2/").name == "openai:m@http://h:1/v1,http://i:2/v1"
    with pytest.raises(InputError, match="no scheme") as caught:
        open_engine("openai:m@me:sk-secret@localhost:8000")
    assert "sk-secret" not in str(caught.value)


async def test_a_conversation_is_sent_turn_by_turn(stub: StubServer, engine: OpenAIEngine) -> None:
    context = await engine.start([Message("system", "Be brief."), Message("user", "one")])
    first = await context.generate()
    second = await (await first.context.extend([Message("user", "two")])).generate()
    assert stub.paths == ["/v1/chat/completions"] * 2
    assert [(turn["role"], turn["content"]) for turn in stub.requests[1]["messages"]] == [
        ("system", "Be brief."),
        ("user", "one"),
        ("assistant", "you said one"),
        ("user", "two"),
    ]
    assert second.context.text == first.context.text + "\n<|user|>two\n<|assistant|>you said two"
    assert first.context.text == context.text + first.text


async def test_raw_text_is_completed_as_it_is(stub: StubServer, engine: OpenAIEngine) -> None:
    context = await engine.start("once upon")
    said = await context.generate(max_tokens=2)
    again = await (await said.context.extend(" a time")).generate()
    assert stub.paths == ["/v1/completions"] * 2
    assert stub.requests[1]["prompt"] == "once uponyou said a time"
    assert (said.finish, again.finish) == ("length", "eos")
    with pytest.raises(CapabilityError, match="raw text can't take messages"):
        await context.extend(HI)


async def test_raw_text_can_be_a_users_message(stub: StubServer) -> None:
    async with opened(stub, text="user") as engine:
        await (await engine.start("hello")).generate()
    assert stub.requests[0]["messages"] == [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize(
    ("prefill", "fields", "mark"),
    [
        ("continue_final_message", {"continue_final_message": True, "add_generation_prompt": False}, {}),
        ("prefix", {}, {"prefix": True}),
        ("last_message", {}, {}),
    ],
)
async def test_a_turn_is_gone_on_with_as_the_server_knows_it(
    stub: StubServer, prefill: Any, fields: dict[str, Any], mark: dict[str, Any]
) -> None:
    async with opened(stub, prefill=prefill) as engine:
        context = await (await engine.start(HI)).extend("Well, ")
        said = await context.generate()
        assert said.context.text.endswith("<|assistant|>Well, you said Well, ")
    assert stub.requests[0]["messages"][-1] == {"role": "assistant", "content": "Well, ", **mark}
    assert fields.items() <= stub.requests[0].items()


async def test_a_turn_is_not_gone_on_with_where_the_server_can_not(stub: StubServer, engine: OpenAIEngine) -> None:
    said = await (await engine.start(HI)).generate()
    with pytest.raises(CapabilityError, match="prefill="):
        await said.context.generate()
    assert len(stub.requests) == 1


async def test_a_context_is_an_immutable_value(stub: StubServer, engine: OpenAIEngine) -> None:
    base = await engine.start(HI)
    left, right = await base.extend([Message("user", "left")]), await base.extend([Message("user", "right")])
    assert (await left.generate()).text == "you said left"
    assert (await right.generate()).text == "you said right"
    assert (await base.generate()).text == "you said say it again please"


async def test_a_released_context_and_a_closed_engine_are_refused(stub: StubServer) -> None:
    engine = opened(stub)
    context, other = await engine.start(HI), await engine.start(HI)
    context.release()
    with pytest.raises(ContextError, match="released"):
        await context.generate()
    await engine.aclose()
    await engine.aclose()
    with pytest.raises(EngineClosedError):
        await other.generate()
    with pytest.raises(EngineClosedError):
        await engine.start(HI)


# ---- generations


async def test_a_stream_gives_what_generate_gives(stub: StubServer, engine: OpenAIEngine) -> None:
    context = await engine.start(HI)
    async with context.stream() as stream:
        chunks = [chunk async for chunk in stream]
        with pytest.raises(EngineError):
            _ = context.stream().result
    assert "".join(chunk.text for chunk in chunks) == stream.result.text == (await context.generate()).text
    assert sum(chunk.tokens for chunk in chunks) == stream.result.usage.generated == 6


async def test_sampling_is_sent(stub: StubServer, engine: OpenAIEngine) -> None:
    sampling = Sampling(
        temperature=0.5, top_p=0.9, top_k=5, min_p=0.1, seed=3, presence_penalty=1.0, repetition_penalty=1.1,
        logit_bias={7: -1.0},
    )  # fmt: skip
    context = await engine.start(HI)
    await context.generate(sampling=sampling, max_tokens=9)
    await context.generate()
    sent = stub.requests[0]
    assert sent["temperature"] == 0.5
    assert (sent["top_p"], sent["top_k"], sent["min_p"], sent["seed"]) == (0.9, 5, 0.1, 3)
    assert (sent["presence_penalty"], sent["repetition_penalty"], sent["logit_bias"]) == (1.0, 1.1, {"7": -1.0})
    assert sent["max_tokens"] == 9
    assert not stub.requests[1].keys() & {"seed", "top_p", "top_k", "min_p", "logit_bias", "n", "response_format"}


async def test_fields_can_be_left_out_added_and_named(stub: StubServer) -> None:
    options = {"omit": ("temperature", "seed"), "extra": {"reasoning_effort": "low"}, "limit": "max_completion_tokens"}
    async with opened(stub, **options) as engine:
        assert not engine.capabilities.seeds
        await (await engine.start(HI)).generate(sampling=Sampling(temperature=1.0), max_tokens=3)
    sent = stub.requests[0]
    assert (sent["reasoning_effort"], sent["max_completion_tokens"]) == ("low", 3)
    assert not sent.keys() & {"temperature", "seed", "max_tokens"}


async def test_openai_itself_is_asked_for_completion_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    context = await OpenAIEngine("gpt").start(HI)
    assert context.engine.body(context.held, context._asked(5, (), None, Sampling()), 1)["max_completion_tokens"] == 5


@pytest.mark.parametrize("prompt", [HI, "say it again please"])
async def test_a_stop_string_ends_it_and_closes_the_connection(
    stub: StubServer, engine: OpenAIEngine, prompt: Any
) -> None:
    said = await (await engine.start(prompt)).generate(stop=["again", "say it"])
    assert (said.text, said.stop, said.finish) == ("you said say it", "say it", "stop")
    assert said.context.text.endswith("say it")
    assert said.usage.generated == 4


async def test_a_tokens_id_is_no_stop(engine: OpenAIEngine) -> None:
    with pytest.raises(CapabilityError, match="token's id"):
        (await engine.start(HI)).stream(stop=[7])


@pytest.mark.parametrize("prompt", [HI, "say it again please"])
async def test_log_probabilities_are_read(engine: OpenAIEngine, prompt: Any) -> None:
    said = await (await engine.start(prompt)).generate(sampling=Sampling(logprobs=2))
    assert [entry.text for entry in said.logprobs] == ["you", " said", " say", " it", " again", " please"]
    assert [(one.text, one.logprob) for one in said.logprobs[0].best] == [("you", -0.5), ("you1", -2.0)]
    assert said.logprobs[0].token == -1


async def test_thoughts_are_kept_apart(stub: StubServer, engine: OpenAIEngine) -> None:
    stub.next = [Answer("yes", thoughts="let me see")]
    context = await engine.start(HI)
    async with context.stream() as stream:
        chunks = [chunk async for chunk in stream]
    said = stream.result
    assert (said.text, said.reasoning) == ("yes", "let me see")  # type: ignore[attr-defined]
    assert sum(chunk.tokens for chunk in chunks) == said.usage.generated == 4
    assert said.usage.pruned == 3
    assert said.context.length == 5


async def test_what_is_withheld_is_an_error(stub: StubServer, engine: OpenAIEngine) -> None:
    stub.next = [Answer(refusal="I can't."), Answer("so", finish="content_filter"), Answer("so", finish="abort")]
    context = await engine.start(HI)
    with pytest.raises(FilteredError, match="I can't"):
        await context.generate()
    with pytest.raises(FilteredError, match="filter"):
        await context.generate()
    with pytest.raises(plait.errors.ServerFaultError, match="'abort'"):
        await context.generate()


async def test_the_window_ends_it_where_the_server_says_less_than_was_asked(
    stub: StubServer, engine: OpenAIEngine
) -> None:
    stub.next = [Answer("a b", finish="length")]
    assert (await (await engine.start(HI)).generate(max_tokens=9)).finish == "window"


@pytest.mark.parametrize(
    ("reason", "finish"), [("eos", "eos"), ("end_turn", "eos"), ("model_length", "window"), ("max_tokens", "window")]
)
async def test_servers_name_the_end_in_many_ways(
    stub: StubServer, engine: OpenAIEngine, reason: str, finish: str
) -> None:
    stub.next = [Answer("a b", finish=reason)]
    assert (await (await engine.start(HI)).generate()).finish == finish


# ---- grammars

PAIR = {
    "type": "object",
    "properties": {"a": {"type": "integer", "default": 1}, "b": {"type": "string"}},
    "required": ["b"],
}


async def test_json_is_asked_for_by_schema(stub: StubServer, engine: OpenAIEngine) -> None:
    stub.next = [Answer('{"a": 1, "b": "x"}')]
    said = await (await engine.start(HI)).generate(grammar=JsonSchema(PAIR))
    assert (said.text, said.finish) == ('{"a": 1, "b": "x"}', "grammar")
    assert said.grammar is not None
    assert said.grammar.complete
    asked = stub.requests[0]["response_format"]["json_schema"]
    assert asked["strict"]
    assert asked["schema"] == {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "string"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    }


async def test_an_open_object_is_not_asked_for_strictly(stub: StubServer, engine: OpenAIEngine) -> None:
    schema = {"type": "object", "additionalProperties": {"type": "integer"}}
    stub.next = [Answer('{"a":1}')]
    await (await engine.start(HI)).generate(grammar=JsonSchema(schema))
    asked = stub.requests[0]["response_format"]["json_schema"]
    assert (asked["strict"], asked["schema"]) == (False, schema)


@pytest.mark.parametrize(
    ("grammar", "answer", "text"),
    [
        (Choice(("yes", "no")), '{"value": "yes"}', "yes"),
        (JsonSchema({"type": "integer"}), '{"value": 7}', "7"),
        (JsonSchema({"type": "array", "items": {"$ref": "#/$defs/n"}, "$defs": {"n": {"type": "string"}}}),
         '{"value": ["é", "b"]}', '["é","b"]'),
    ],
)  # fmt: skip
async def test_what_is_no_object_comes_in_one(
    stub: StubServer, engine: OpenAIEngine, grammar: Any, answer: str, text: str
) -> None:
    stub.next = [Answer(answer)]
    async with (await engine.start(HI)).stream(grammar=grammar) as stream:
        chunks = [chunk async for chunk in stream]
    assert stream.result.text == text == "".join(chunk.text for chunk in chunks)
    assert stream.result.finish == "grammar"
    assert stream.result.context.text.endswith("<|assistant|>" + text)
    schema = stub.requests[0]["response_format"]["json_schema"]["schema"]
    assert schema["required"] == ["value"]


@pytest.mark.parametrize("answer", ['{"b": 3}', "hello", '{"b": "\x01"}'])
async def test_an_answer_that_does_not_fit_is_an_error(stub: StubServer, engine: OpenAIEngine, answer: str) -> None:
    stub.next = [Answer(answer)]
    with pytest.raises(GrammarError, match="does not fit its JsonSchema"):
        await (await engine.start(HI)).generate(grammar=JsonSchema(PAIR))


async def test_a_cut_answer_is_incomplete(stub: StubServer, engine: OpenAIEngine) -> None:
    stub.next = [Answer('{"a": 1, "b": "x"}')]
    said = await (await engine.start("so")).generate(grammar=JsonSchema(PAIR), max_tokens=2)
    assert said.finish == "length"
    assert said.grammar is not None
    assert not said.grammar.complete
    with pytest.raises(CapabilityError, match="middle of a grammar"):
        said.context.stream(grammar=said.grammar)


async def test_other_grammars_are_refused(stub: StubServer, engine: OpenAIEngine) -> None:
    with pytest.raises(CapabilityError, match="no grammar 'Regex'"):
        (await engine.start(HI)).stream(grammar=Regex("a"))
    async with opened(stub, grammars=()) as bare:
        with pytest.raises(CapabilityError, match="it has: none"):
            (await bare.start(HI)).stream(grammar=Choice(("a",)))


# ---- tools


@plait.tool
def population(country: str) -> int:
    """Number of people who live in a country."""
    return len(country)


async def test_tools_are_offered_called_and_answered(stub: StubServer) -> None:
    stub.next = [Answer("Let me see.\n", calls=[("population", '{"country": "Peru"}'), ("population", '{"country":')])]
    async with opened(stub, tools=[population]) as engine:
        said = await (await engine.start(HI)).generate()
        assert read_calls(said.text) == [
            ToolCall("population", {"country": "Peru"}),
            ToolCall("population", '{"country":'),
        ]
        assert said.calls == read_calls(said.text)  # type: ignore[attr-defined]
        answered = await said.context.extend([Message("tool", "34"), Message("tool", "no JSON")])
        assert (await answered.generate()).text == "you said no JSON"
    offered, sent = stub.requests
    assert offered["tools"][0]["function"]["name"] == "population"
    assert offered["tools"][0]["function"]["parameters"]["properties"]["country"]["type"] == "string"
    assert offered["tool_choice"] == "auto"
    call = sent["messages"][1]
    assert call["content"] == "Let me see.\n"
    assert [one["function"] for one in call["tool_calls"]] == [
        {"name": "population", "arguments": '{"country": "Peru"}'},
        {"name": "population", "arguments": '{"country":'},
    ]
    assert [one["id"] for one in call["tool_calls"]] == [one["tool_call_id"] for one in sent["messages"][2:]]


async def test_an_agent_calls_tools_by_the_servers_own_protocol(stub: StubServer) -> None:
    """The agent takes Hermes' format by itself: it reads what the server gave as calls; its results go back as such."""
    calls = [("population", '{"country": "Peru"}'), ("population", '{"country": "Chile"}')]
    stub.next = [Answer(calls=calls), Answer("Chile has more.")]
    async with opened(stub, tools=[population]) as engine:
        assert await plait.run("agent", "Peru or Chile?", tools=[population], engine=engine) == "Chile has more."
    *_, call, first, second = stub.requests[1]["messages"]
    assert [one["function"]["name"] for one in call["tool_calls"]] == ["population"] * 2
    assert call["content"] is None
    assert [(one["role"], one["content"]) for one in (first, second)] == [("tool", "4"), ("tool", "5")]
    assert [one["tool_call_id"] for one in (first, second)] == [one["id"] for one in call["tool_calls"]]


async def test_a_result_without_a_call_is_refused(engine: OpenAIEngine) -> None:
    context = await engine.start([*HI, Message("tool", "34")])
    with pytest.raises(ContextError, match="answers no call"):
        await context.generate()


async def test_a_call_may_stand_in_place_of_a_typed_answer(stub: StubServer) -> None:
    stub.next = [Answer(calls=[("population", '{"country": "Peru"}')])]
    async with opened(stub, tools=[population]) as engine:
        said = await (await engine.start(HI)).generate(grammar=JsonSchema(PAIR))
    assert (said.finish, len(read_calls(said.text))) == ("eos", 1)


# ---- samples and usage


async def test_samples_are_one_request(stub: StubServer, engine: OpenAIEngine) -> None:
    context = await engine.start(HI)
    made = await context.samples(3, sampling=Sampling(temperature=1.0))
    assert [one.text for one in made] == ["you said say it again please"] * 3
    assert [request["n"] for request in stub.requests] == [3]
    total = sum((one.usage for one in made), Usage())
    assert (total.prompt, total.prefilled, total.cached, total.recomputed, total.generated) == (4, 4, 0, 0, 18)
    assert made[2].context.length == 10


async def test_samples_are_single_requests_where_the_server_lacks_n(stub: StubServer, engine: OpenAIEngine) -> None:
    stub.knows_n = False
    context = await engine.start(HI)
    for _ in range(2):
        assert len(await context.samples(3, sampling=Sampling(temperature=1.0))) == 3
    assert ["n" in request for request in stub.requests] == [True] + [False] * 6
    assert len({request["seed"] for request in stub.requests[1:4]}) == 3
    assert {r["seed"] for r in stub.requests[1:4]} == {r["seed"] for r in stub.requests[4:]}


async def test_a_failing_sample_ends_the_others(stub: StubServer, engine: OpenAIEngine) -> None:
    engine.takes_n = False
    stub.next = [Status(500)] * 3
    with pytest.raises(plait.errors.ServerFaultError):
        await (await engine.start(HI)).samples(3)


async def test_usage_says_what_was_new_cached_and_recomputed(stub: StubServer, engine: OpenAIEngine) -> None:
    context = await engine.start(HI)
    first = await context.generate()
    assert context.length == 4
    assert (first.usage.prompt, first.usage.prefilled, first.usage.cached) == (4, 4, 0)
    again = await context.generate()
    assert (again.usage.prompt, again.usage.cached, again.usage.recomputed) == (0, 3, 1)
    longer = await (await first.context.extend([Message("user", "more words")])).generate()
    assert (longer.usage.prompt, longer.usage.cached, longer.usage.recomputed) == (2, 4, 6)
    for said in (first, longer):
        assert said.usage.live + said.usage.pruned == said.usage.prompt + said.usage.generated
    assert longer.context.length == longer.usage.peak_live == 16


async def test_usage_is_estimated_where_the_server_does_not_count(stub: StubServer) -> None:
    async with opened(stub, omit=("stream_options",)) as engine:
        context = await engine.start(HI)
        said = await context.generate()
    assert (said.usage.prompt, said.usage.generated, said.usage.live) == (5, 6, 11)


@pytest.mark.parametrize(
    "ask",
    [
        lambda engine, context: context.prune(0, 1, mode="exact"),
        lambda engine, context: context.splice([context], at="sequence", mode="exact"),
        lambda engine, context: context.score(["a"]),
        lambda engine, context: context.embed(),
        lambda engine, context: engine.team([], Teamwork(layout="combined")),
        lambda engine, context: engine.start(HI, adapter="folder"),
    ],
)
async def test_what_the_protocol_can_not_do_is_refused(engine: OpenAIEngine, ask: Callable[..., Any]) -> None:
    context = await engine.start(HI)
    with pytest.raises(CapabilityError, match="use engine 'local'"):
        await ask(engine, context)


async def test_a_context_is_recalled_from_its_text(stub: StubServer, engine: OpenAIEngine) -> None:
    context = await engine.start(HI)
    made, state = await context.recall("yes", grammar=Choice(("yes", "no")))
    assert made.text == context.text + "yes"
    assert state is not None
    assert state.complete
    assert stub.requests == []


async def test_a_cassette_answers_in_place_of_the_server(stub: StubServer, tmp_path: Path) -> None:
    async def ask(engine: CassetteEngine) -> list[str]:
        async with engine:
            first = await (await engine.start(HI)).generate()
            again = await (await first.context.extend([Message("user", "and now?")])).generate()
            return [first.text, again.text]

    said = await ask(CassetteEngine.record(opened(stub), tmp_path / "tape.jsonl"))
    assert await ask(CassetteEngine.replay(tmp_path / "tape.jsonl")) == said
    assert len(stub.requests) == 2


async def test_its_models_are_listed(engine: OpenAIEngine) -> None:
    assert await engine.models() == ["stub"]


def test_one_engine_serves_several_event_loops(stub: StubServer, anyio_backend: str) -> None:
    graph = plait.graph(lambda g: g.think("say {x}", x="so"), name="twice")
    engine = opened(stub)
    assert [graph.run_sync(engine=engine) for _ in range(2)] == ["you said say so"] * 2
    assert json.dumps(stub.requests[0]) == json.dumps(stub.requests[1])

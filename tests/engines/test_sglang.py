"""The SGLang engine against a server of our own that speaks its native API."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
import sglang_stub
from hypothesis import given
from hypothesis import strategies as st
from sglang_stub import EOS, NAME, SGLangStub, tokens_of

from plait.engines import Choice, Ebnf, JsonSchema, Lark, Member, Message, Regex, Sampling, Teamwork, open_engine
from plait.engines.base import Grammar, HoldsKeys
from plait.engines.sglang import Counters, SGLangEngine
from plait.engines.sglang import sessions as sessions_module
from plait.engines.sglang.prefixes import LEAST, Prefixes, alike
from plait.engines.sglang.request import Facts, grammar_fields
from plait.errors import (
    CapabilityError,
    CheckpointError,
    ContextLengthError,
    EngineClosedError,
    EngineError,
    GrammarError,
    ServerFaultError,
    ServerLostError,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def stub() -> Iterator[SGLangStub]:
    with SGLangStub() as server:
        yield server


@pytest.fixture(params=["incremental", "cumulative", "sessions"])
async def engine(request: pytest.FixtureRequest, stub: SGLangStub) -> AsyncIterator[SGLangEngine]:
    """In each way in which a server can be talked to."""
    stub.info["incremental_streaming_output"] = request.param != "cumulative"
    async with SGLangEngine.at(stub.url, sessions=request.param == "sessions") as opened:
        yield opened


# ---- generations


async def test_a_generation_is_what_the_server_says_up_to_its_end(stub: SGLangStub, engine: SGLangEngine) -> None:
    context = await engine.start("hi")
    said = await context.generate()
    assert (said.text, said.finish, said.stop) == ("you said hi", "eos", None)
    assert said.tokens == tuple(tokens_of("you said hi"))
    assert said.context.text == "hiyou said hi"
    assert (said.usage.generated, said.usage.prefilled, said.usage.cached) == (11, 2, 0)
    again = await said.context.generate(max_tokens=3)
    assert (again.text, again.finish) == ("you", "length")
    assert stub.sent[-1] == tokens_of("hiyou said hi")
    assert stub.aborted == []


async def test_a_stream_says_the_same_in_parts(engine: SGLangEngine) -> None:
    async with (await engine.start("hi")).stream() as stream:
        chunks = [chunk async for chunk in stream]
    assert "".join(chunk.text for chunk in chunks) == stream.result.text == "you said hi"
    assert sum(chunk.tokens for chunk in chunks) == len(stream.result.tokens)


async def test_it_stops_at_texts_and_tokens(engine: SGLangEngine) -> None:
    context = await engine.start("hi")
    met = await context.generate(stop=["said", "u s"])
    assert (met.text, met.finish, met.stop) == ("you s", "stop", "u s")
    token = await context.generate(stop=[ord("s")])
    assert (token.text, token.finish, token.stop) == ("you s", "stop", ord("s"))


async def test_what_a_sampling_asks_for_is_sent(stub: SGLangStub, engine: SGLangEngine) -> None:
    context = await engine.start("hi")
    await context.generate(sampling=Sampling())
    await context.generate(
        sampling=Sampling(
            temperature=0.5, top_k=4, top_p=0.0, min_p=0.1, seed=7, presence_penalty=0.25, logit_bias={5: -1.5}
        )
    )
    greedy, chosen = (body["sampling_params"] for body in stub.bodies("/generate"))
    assert greedy["temperature"] == 0.0
    assert not {"top_k", "top_p", "min_p", "sampling_seed"} & set(greedy)
    assert chosen["top_p"] > 0
    assert {name: chosen[name] for name in ("top_k", "min_p", "sampling_seed", "presence_penalty", "logit_bias")} == {
        "top_k": 4,
        "min_p": 0.1,
        "sampling_seed": 7,
        "presence_penalty": 0.25,
        "logit_bias": {"5": -1.5},
    }
    with pytest.raises(CapabilityError, match="repetition penalty"):
        await context.generate(sampling=Sampling(repetition_penalty=1.5))


async def test_log_probabilities_are_those_of_the_steps(stub: SGLangStub, engine: SGLangEngine) -> None:
    said = await (await engine.start("hi")).generate(sampling=Sampling(logprobs=2))
    assert [(one.text, one.logprob) for one in said.logprobs[:2]] == [("y", -0.5), ("o", -0.5)]
    assert [one.text for one in said.logprobs[0].best] == ["y", "z"]
    assert len(said.logprobs) == len(said.tokens)
    assert len(stub.bodies("/generate")) == 1


@pytest.mark.parametrize("ask", [{"sampling": Sampling(temperature=0.5, logprobs=2)}, {"grammar": Regex("you.*")}])
async def test_log_probabilities_that_are_not_the_models_own_are_read_once_more(
    stub: SGLangStub, engine: SGLangEngine, ask: dict[str, Any]
) -> None:
    said = await (await engine.start("hi")).generate(**{"sampling": Sampling(logprobs=2), **ask})
    assert {one.logprob for one in said.logprobs} == {-0.25}
    assert len(said.logprobs) == len(said.tokens)
    written, read = stub.bodies("/generate")
    assert "return_logprob" not in written
    assert read["sampling_params"]["max_new_tokens"] == 0
    assert stub.sent[-1] == tokens_of("hiyou said hi")
    assert said.usage.recomputed == len(stub.sent[-1]) - stub.found[-1] == 11


async def test_continuations_are_scored_after_the_context(stub: SGLangStub, engine: SGLangEngine) -> None:
    assert await (await engine.start("hi")).score(["abc", "", "d"]) == [-0.75, 0.0, -0.25]
    assert {body["logprob_start_len"] for body in stub.bodies("/generate")} == {1}


async def test_what_was_cut_is_sent_without_it(stub: SGLangStub, engine: SGLangEngine) -> None:
    said = await (await engine.start("hello")).generate()
    cut = await said.context.prune(1, 4, mode="exact")
    after = await cut.generate(max_tokens=1)
    assert stub.sent[-1] == tokens_of("hoyou said hello")
    usage = after.usage
    assert (usage.cached, usage.recomputed, usage.prefilled) == (1, 14, 1)  # the last token had not been encoded


# ---- grammars


@pytest.mark.parametrize(
    ("grammar", "fields"),
    [
        (Regex("a+"), {"regex": "a+"}),
        (Choice(("a.b", "c|d")), {"regex": r"a\.b|c\|d"}),
        (Ebnf('root ::= "a"'), {"ebnf": 'root ::= "a"'}),
    ],
)
def test_grammars_are_sent_in_the_servers_words(grammar: Grammar, fields: dict[str, str]) -> None:
    assert grammar_fields(grammar) == fields


@given(st.lists(st.text(min_size=1), min_size=1, max_size=4))
def test_a_choice_is_a_regular_expression_of_its_options_alone(options: list[str]) -> None:
    pattern = grammar_fields(Choice(tuple(options)))["regex"]
    assert all(re.fullmatch(pattern, option) for option in options)
    assert re.fullmatch(pattern, "x".join(options) + "y") is None


def test_a_schema_is_sent_with_its_white_space_ruled_out() -> None:
    sent = grammar_fields(JsonSchema({"type": "object"}))["json_schema"]
    assert sent == '{"type": "object", "x-guidance": {"whitespace_flexible": false}}'


async def test_a_grammar_ends_where_it_is_complete(stub: SGLangStub, engine: SGLangEngine) -> None:
    stub.says = lambda prompt: "no" + NAME
    said = await (await engine.start("hi")).generate(grammar=Choice(("yes", "no")))
    assert (said.text, said.finish) == ("no", "grammar")


async def test_a_grammar_that_the_server_can_not_read_is_named(engine: SGLangEngine) -> None:
    context = await engine.start("hi")
    with pytest.raises(GrammarError, match="unclosed group"):
        await context.generate(grammar=Regex("(("))
    with pytest.raises(CapabilityError, match="Lark"):
        await context.generate(grammar=Lark("start: /a/"))


# ---- cancellation and faults


async def test_a_generation_that_is_left_ends_on_the_server(stub: SGLangStub, engine: SGLangEngine) -> None:
    stub.hangs, stub.says = True, lambda prompt: "on and on"
    context = await engine.start("hi")
    async with context.stream() as stream:
        async for _ in stream:
            break
    (asked,) = stub.bodies("/generate")
    assert stub.aborted == [asked["rid"]]
    scope = anyio.CancelScope()
    async with anyio.create_task_group() as group:

        async def generate() -> None:
            with scope:
                await context.generate()

        group.start_soon(generate)
        assert await anyio.to_thread.run_sync(stub.wait_sent, 2)
        scope.cancel()
    assert stub.aborted[1] == stub.bodies("/generate")[1]["rid"]


async def test_closing_the_engine_ends_what_is_under_way(stub: SGLangStub, engine: SGLangEngine) -> None:
    stub.hangs, stub.says = True, lambda prompt: "on and on"
    context = await engine.start("hi")
    async with anyio.create_task_group() as group:

        async def generate() -> None:
            with pytest.raises(EngineClosedError):
                await context.generate()

        group.start_soon(generate)
        assert await anyio.to_thread.run_sync(stub.wait_sent, 1)
        await engine.aclose()
    assert len(stub.aborted) >= 1


async def test_a_request_that_the_server_gives_up_may_be_tried_again(stub: SGLangStub, engine: SGLangEngine) -> None:
    stub.says = lambda prompt: "half"  # it neither ends nor goes on
    context = await engine.start("hi")
    with pytest.raises(ServerFaultError, match="Aborted"):
        await context.generate()


async def test_a_server_that_is_gone_is_named(stub: SGLangStub) -> None:
    engine = SGLangEngine.at(stub.url)
    context = await engine.start("hi")
    stub.__exit__()
    with pytest.raises(ServerLostError, match=re.escape(stub.url)):
        await context.generate()
    await engine.aclose()


# ---- prefixes


def encoded(stub: SGLangStub) -> int:
    """Prompt tokens that the server did not find in its cache, where it finds what has been encoded when asked."""
    return sum(len(sent) - found for sent, found in zip(stub.sent, stub.found, strict=True))


async def test_forks_that_come_at_once_encode_what_they_share_once(stub: SGLangStub) -> None:
    prompt = "a context that is a good deal longer than what is worth waiting for, " * 3
    async with SGLangEngine.at(stub.url) as engine:
        context = await engine.start(prompt)
        await context.samples(8, max_tokens=2, sampling=Sampling(temperature=1.0))
    assert encoded(stub) == len(prompt) + 7


async def test_prompts_that_share_little_do_not_wait() -> None:
    prefixes = Prefixes()
    first = await prefixes.enter(tuple(range(100)), "")
    with anyio.fail_after(60):
        await prefixes.enter((*range(LEAST), 7), "")
        await prefixes.enter(tuple(range(100)), "another adapter")
        await prefixes.enter((), "")
    waits = anyio.Event()

    async def fork() -> None:
        await prefixes.enter(tuple(range(90)), "")
        waits.set()

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(fork)
        await anyio.wait_all_tasks_blocked()
        assert not waits.is_set()
        prefixes.leave(first)
        prefixes.leave(first)
    assert waits.is_set()


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)))
def test_what_prompts_have_in_common_is_counted(tokens: list[int], others: list[int]) -> None:
    count = alike(tuple(tokens), tuple(others))
    assert tokens[:count] == others[:count]
    assert tokens[count : count + 1] != others[count : count + 1] or count == len(tokens) == len(others)


# ---- sessions


async def test_a_session_is_sent_only_what_is_new(stub: SGLangStub) -> None:
    async with SGLangEngine.at(stub.url, sessions=True) as engine:
        context = await engine.start("hello")
        said = await context.generate(max_tokens=3)
        more = await said.context.extend("!")
        await more.generate(max_tokens=1)
        cut = await more.prune(2, 4, mode="exact")
        await cut.generate(max_tokens=1)
        await (await context.extend("?")).generate(max_tokens=1)
    sent = [sglang_stub.text_of(body["input_ids"]) for body in stub.bodies("/generate")]
    assert sent == ["hello", "you!", "oyou!", "?"]
    assert [sglang_stub.text_of(tokens) for tokens in stub.sent] == ["hello", "helloyou!", "heoyou!", "hello?"]
    assert stub.closed == ["s1"]


async def test_a_session_that_the_server_has_lost_is_opened_anew(stub: SGLangStub) -> None:
    async with SGLangEngine.at(stub.url, sessions=True) as engine:
        context = await engine.start("hello")
        await context.generate(max_tokens=1)
        stub.sessions.clear()
        assert (await context.generate(max_tokens=2)).text == "yo"
        assert (await context.generate(max_tokens=3)).text == "you"
    assert stub.opened == 2


async def test_a_session_is_given_up_when_it_holds_many_requests(
    stub: SGLangStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions_module, "KEPT", 2)
    async with SGLangEngine.at(stub.url, sessions=True) as engine:
        context = await engine.start("hello")
        for _ in range(5):
            await context.generate(max_tokens=1)
        assert (stub.opened, stub.closed) == (3, ["s1", "s2"])
    assert stub.closed == ["s1", "s2", "s3"]


async def test_requests_at_once_go_through_one_session(stub: SGLangStub) -> None:
    async with SGLangEngine.at(stub.url, sessions=True) as engine:
        context = await engine.start("hello")
        said = await context.samples(6, max_tokens=3, sampling=Sampling(temperature=1.0))
    assert [one.text for one in said] == ["you"] * 6
    assert stub.opened == 1


async def test_a_first_token_that_may_be_a_bos_is_not_sent_in_front(stub: SGLangStub) -> None:
    async with SGLangEngine.at(stub.url, sessions=True) as engine:
        context = await engine.start("ha")
        await context.generate(max_tokens=1)
        await (await context.extend("h")).generate(max_tokens=1)
    assert [sglang_stub.text_of(body["input_ids"]) for body in stub.bodies("/generate")] == ["ha", "hah"]


# ---- the server


async def test_what_a_server_can_do_is_known_when_it_is_entered(stub: SGLangStub) -> None:
    stub.info |= {"enable_deterministic_inference": True, "grammar_backend": "outlines", "enable_lora": True}
    async with SGLangEngine.at(stub.url) as engine:
        can = engine.capabilities
        assert (can.window, can.seeds, can.adapters) == (1000, True, True)
        assert can.grammars == {"JsonSchema", "Regex", "Choice"}
        assert can.prune == can.splice == {"exact"}
        context = await engine.start("hi")
        with pytest.raises(CapabilityError, match="team"):
            await engine.team([Member(context=context)], Teamwork(layout="combined"))
        with pytest.raises(ContextLengthError):
            await context.extend("x" * 1000)
    assert Facts.read({}) == Facts()


async def test_an_adapter_is_known_by_its_name_or_loaded_from_its_folder(stub: SGLangStub, tmp_path: Path) -> None:
    stub.info["enable_lora"] = True
    stub.adapters["known"] = "/anywhere"
    async with SGLangEngine.at(stub.url) as engine:
        await (await engine.start("hi", adapter="known")).generate()
        await (await engine.start("hi", adapter=str(tmp_path))).generate()
        await (await engine.start("hi", adapter=str(tmp_path))).generate()
    first, second, third = (body["lora_path"] for body in stub.bodies("/generate"))
    assert first == "known"
    assert second == third
    assert stub.adapters[second] == str(tmp_path)
    assert len(stub.bodies("/load_lora_adapter")) == 1


async def test_adapters_are_refused_where_the_server_has_none(engine: SGLangEngine) -> None:
    with pytest.raises(CapabilityError, match="--enable-lora"):
        await engine.start("hi", adapter="x")


async def test_messages_are_rendered_by_the_server(engine: SGLangEngine) -> None:
    context = await engine.start([Message("user", "hi")])
    assert context.text == "[user]hi;[assistant]"
    said = await context.generate(max_tokens=3)
    assert (await said.context.extend([Message("tool", "4")])).text == "[user]hi;[assistant]you;[tool]4;[assistant]"


async def test_counters_are_summed_over_labels(engine: SGLangEngine) -> None:
    found = await engine.counters()
    assert (found.prompt, found.encoded) == (12, 12)
    assert found - found == Counters()


async def test_a_key_goes_to_the_server_and_nowhere_else(stub: SGLangStub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGLANG_KEY", "sk-very-secret")
    async with SGLangEngine.at(stub.url, key="SGLANG_KEY") as engine:
        await engine.start("hi")
        assert stub.keys == {"Bearer sk-very-secret"}
        assert isinstance(engine, HoldsKeys)
        assert engine.keys == {"SGLANG_KEY": "sk-very-secret"}
        assert "secret" not in engine.name


async def test_an_event_that_is_not_of_the_protocol_is_named(stub: SGLangStub, engine: SGLangEngine) -> None:
    def events(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield {"text": 7}

    stub.events = events  # type: ignore[method-assign]
    with pytest.raises(EngineError, match="not of its protocol"):
        await (await engine.start("hi")).generate()


async def test_a_character_that_is_not_whole_at_the_end_is_left_out(stub: SGLangStub, engine: SGLangEngine) -> None:
    def events(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        meta = {"finish_reason": {"type": "stop", "matched": EOS}, "prompt_tokens": 2, "cached_tokens": 0}
        yield {"text": f"a\ufffd{NAME}", "output_ids": [97, 300, EOS], "meta_info": meta}

    stub.events = events  # type: ignore[method-assign]
    said = await (await engine.start("hi")).generate()
    assert (said.text, said.tokens, said.finish) == ("a", (97, 300), "eos")


# ---- servers of one's own


@pytest.fixture
def python(tmp_path: Path) -> str:
    """A Python whose SGLang is the stub."""
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(sglang_stub.__file__)} "$@"\n')
    script.chmod(0o755)
    return str(script)


@pytest.fixture
def checkpoint_folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


async def test_a_server_of_ones_own_lives_as_long_as_its_engine(checkpoint_folder: Path, python: str) -> None:
    async with open_engine(f"sglang:{checkpoint_folder}", python=python, args=["--tp", "1"]) as engine:
        context = await engine.start("hi")
        assert (await context.generate()).text == "you said hi"
        assert isinstance(engine, SGLangEngine)
        url = engine.url
        assert engine.child is not None
    with pytest.raises(ServerLostError):
        await SGLangEngine.at(url).start("hi")


async def test_a_server_that_can_not_start_says_why(checkpoint_folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "broken"
    script.write_text("#!/bin/sh\necho no module named sglang; exit 1\n")
    script.chmod(0o755)
    with pytest.raises(EngineError, match="no module named sglang"):
        async with SGLangEngine.server(checkpoint_folder, python=str(script)):
            pass


def test_names_that_can_not_be_opened_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        open_engine(f"sglang:{tmp_path / 'nothing'}")
    assert open_engine("sglang:http://h:1/").name == "sglang:http://h:1"

"""Telemetry: a run's spans stand as its nodes do, by the conventions, and hold no content unless asked for."""

from __future__ import annotations

from contextlib import suppress

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import plait
from plait.engines.scripted import ScriptedEngine
from plait.errors import NodeError
from plait.orchestrator.telemetry import Telemetry

pytestmark = pytest.mark.anyio
SECRET = "the secret word"


@plait.tool
async def look_up(word: str) -> str:
    """Look a word up."""
    if word == "nothing":
        raise ValueError(SECRET)
    return SECRET


@plait.graph
def ask(g: plait.Builder, word: str) -> str:
    found = g.call(look_up, word=word)
    return g.think("Say {found}", found=found)


async def spans_of(word: str, *, content: bool = False) -> dict[str, ReadableSpan]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    engine = ScriptedEngine([f"I say {SECRET}"])
    with suppress(NodeError):
        await ask.run(word, engine=engine, listeners=[Telemetry(provider=provider, content=content)])
    return {span.name: span for span in exporter.get_finished_spans()}


async def test_spans_follow_the_conventions_and_the_runs_structure() -> None:
    spans = await spans_of("x")
    assert set(spans) == {"invoke_agent ask", "execute_tool look_up", "chat scripted"}
    run, call, chat = spans["invoke_agent ask"], spans["execute_tool look_up"], spans["chat scripted"]
    assert run.context is not None
    for child in (call, chat):
        assert child.parent is not None
        assert child.parent.span_id == run.context.span_id
    assert dict(call.attributes or {})["gen_ai.operation.name"] == "execute_tool"
    assert dict(call.attributes or {})["gen_ai.tool.name"] == "look_up"
    assert dict(chat.attributes or {})["gen_ai.request.model"] == "scripted"
    assert dict(chat.attributes or {})["gen_ai.usage.output_tokens"] == 5
    assert dict(run.attributes or {})["gen_ai.agent.name"] == "ask"


@pytest.mark.parametrize("word", ["a private question", "nothing"])
async def test_content_is_left_out_unless_asked_for(word: str) -> None:
    for span in (await spans_of(word)).values():
        assert SECRET not in span.to_json()
        assert word not in span.to_json()
    shown = "".join(span.to_json() for span in (await spans_of(word, content=True)).values())
    assert SECRET in shown


async def test_names_of_grown_nodes_hold_no_titles_unless_asked_for() -> None:
    async def drive(scope: plait.Scope, word: str) -> str:
        with scope.grow("task", f"find {word}"):
            return word

    @plait.graph
    def grown(g: plait.Builder, word: str) -> str:
        return g.drive(drive, word=word)

    for content, name in ((False, "drive/1"), (True, "drive/1-find-gold")):
        exporter, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        await grown.run("gold", engine=None, listeners=[Telemetry(provider=provider, content=content)])
        assert name in {span.name for span in exporter.get_finished_spans()}


async def test_a_failure_is_an_error_with_its_type() -> None:
    spans = await spans_of("nothing")
    for name in ("invoke_agent ask", "execute_tool look_up"):
        assert not spans[name].status.is_ok
        assert "error.type" in (spans[name].attributes or {})

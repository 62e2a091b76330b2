"""A run as OpenTelemetry spans, by the semantic conventions for generative AI; content is left out unless asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from ..errors import MissingExtraError
from .events import (
    Event,
    NodeCancelled,
    NodeFailed,
    NodeFinished,
    NodeStarted,
    NodeText,
    RunFailed,
    RunFinished,
    RunStarted,
)

if TYPE_CHECKING:
    from opentelemetry.trace import Span, TracerProvider

Ended: TypeAlias = NodeFinished | NodeFailed | NodeCancelled | RunFinished | RunFailed

_OPERATIONS = {"think": "chat", "sample": "chat", "call": "execute_tool"}
"""Kinds of nodes that the conventions know, as they name the operation; the others are plain spans."""


class Telemetry:
    """A listener for one run: `graph.run(…, listeners=[Telemetry()])`.

    The run is a span `invoke_agent GRAPH`, a generation `chat ENGINE`, a tool call `execute_tool TOOL`, every other
    node a span named after its path; each stands below the node that grew it, and the run below the caller's current
    span. With `content` they also carry titles (which hold a call's arguments), texts and results; without, grown nodes
    go by their numbers, because their names are made of titles. Spans go to `provider`, or to the application's.
    Raises MissingExtraError without opentelemetry.
    """

    def __init__(self, *, provider: TracerProvider | None = None, content: bool = False) -> None:
        try:
            from opentelemetry import trace
        except ModuleNotFoundError as error:
            raise MissingExtraError("telemetry", "otel") from error
        self._tracer = trace.get_tracer("plait", tracer_provider=provider)
        self._content = content
        self._spans: dict[str, Span] = {}
        self._texts: dict[str, list[str]] = {}
        self._engine = ""

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._engine = event.engine
                named = {"gen_ai.conversation.id": event.run, "gen_ai.agent.name": event.graph}
                self._open("", f"invoke_agent {event.graph}", "invoke_agent", named, parent=None)
            case NodeStarted():
                self._open_node(event)
            case NodeText() if self._content:
                self._texts.setdefault(event.path, []).append(event.text)
            case NodeFinished() | NodeFailed() | NodeCancelled():
                self._close(event.path, event)
            case RunFinished() | RunFailed():
                self._close("", event)

    def _open_node(self, event: NodeStarted) -> None:
        operation = _OPERATIONS.get(event.kind, "")
        name = event.path if self._content else _numbered(event.path)
        attributes = {"plait.node.path": name, "plait.node.kind": event.kind}
        if operation == "chat":
            name = f"chat {self._engine}"
            attributes["gen_ai.request.model"] = self._engine
        elif operation == "execute_tool":
            tool = event.title.partition("(")[0]
            name = f"execute_tool {tool}"
            attributes["gen_ai.tool.name"] = tool
        if self._content:
            attributes["plait.node.title"] = event.title
        self._open(event.path, name, operation, attributes, parent=self._spans.get(event.parent))

    def _open(self, path: str, name: str, operation: str, attributes: dict[str, str], *, parent: Span | None) -> None:
        from opentelemetry import trace

        if operation:
            attributes |= {"gen_ai.operation.name": operation, "gen_ai.provider.name": "plait"}
        context = trace.set_span_in_context(parent) if parent is not None else None
        kind = trace.SpanKind.CLIENT if operation == "chat" else trace.SpanKind.INTERNAL
        self._spans[path] = self._tracer.start_span(name, context, kind, attributes)

    def _close(self, path: str, event: Ended) -> None:
        from opentelemetry.trace import Status, StatusCode

        span, usage = self._spans.pop(path), event.usage
        span.set_attribute("gen_ai.usage.input_tokens", usage.prompt)
        span.set_attribute("gen_ai.usage.output_tokens", usage.generated)
        for name in ("cached", "recomputed", "calls", "cost"):
            span.set_attribute(f"plait.usage.{name}", getattr(usage, name))
        match event:
            case NodeFailed() | RunFailed():
                span.set_attribute("error.type", event.error)
                span.set_status(Status(StatusCode.ERROR, event.message if self._content else event.error))
            case NodeCancelled():
                span.set_attribute("plait.cancelled", True)
            case NodeFinished() | RunFinished() if self._content:
                span.set_attribute("plait.result", event.summary)
        if texts := self._texts.pop(path, None):
            span.set_attribute("plait.text", "".join(texts))
        span.end()


def _numbered(path: str) -> str:
    """A path whose grown parts, "2-title", are their numbers alone."""
    return "/".join(part.partition("-")[0] if part[:1].isdigit() else part for part in path.split("/"))

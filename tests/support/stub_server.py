"""A server of OpenAI's protocol for tests: it answers by a function of the request, and fails on demand."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

JSON = "application/json"


@dataclass(frozen=True)
class Answer:
    """What the model says: text (a token a word), thoughts before it, and calls as (name, arguments) after it."""

    text: str = ""
    thoughts: str = ""
    calls: Sequence[tuple[str, str]] = ()
    refusal: str = ""
    finish: str = ""


@dataclass(frozen=True)
class Status:
    """An HTTP status instead of an answer."""

    code: int
    body: Any = field(default_factory=lambda: {"error": {"message": "no"}})
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Broken:
    """An answer that goes wrong after `after` events: `how` is one of

    - `dropped`: the connection is reset; `stalled`: nothing more comes; both before the first byte if `after` is 0;
    - `ended`: the transfer ends as if all had been said;
    - `malformed`: an event is no JSON; `odd`: one is JSON, but not of the protocol; `error`: one holds an error.
    """

    how: str
    after: int = 0
    error: Any = None


Reply: TypeAlias = str | Answer | Status | Broken
Rule: TypeAlias = Callable[[dict[str, Any]], Reply]


def echo(body: dict[str, Any]) -> Reply:
    """The last message, or the prompt, said again."""
    last = body["prompt"] if "prompt" in body else body["messages"][-1]["content"]
    return f"you said {last}"


def words(text: str) -> list[str]:
    """Tokens: words, each with the space before it."""
    parts = text.split(" ")
    return [part for part in [parts[0], *(f" {part}" for part in parts[1:])] if part]


class StubServer:
    """Serves in a thread, on a free port of this machine. `requests` are the bodies that came, in order; `left` counts
    the clients that went away before their answer's end, and `wait_left` waits for one."""

    def __init__(self, rule: Rule = echo, *, knows_n: bool = True, caches: bool = True, port: int = 0) -> None:
        self.rule = rule
        self.next: list[Reply] = []
        self.knows_n = knows_n
        self.caches = caches
        self.cost = 0.0
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.left = 0
        self._seen: list[list[str]] = []
        self._changed = threading.Condition()
        self._port = port
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def __enter__(self) -> StubServer:
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Close the port and all connections. Idempotent."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(60)

    def wait_requests(self, count: int) -> bool:
        """Wait until so many requests have come; False if they do not come in a minute."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.requests) >= count, 60)

    def wait_left(self, count: int = 1) -> bool:
        """Wait until so many clients have left."""
        with self._changed:
            return self._changed.wait_for(lambda: self.left >= count, 60)

    # ---- the server

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._open: set[asyncio.StreamWriter] = set()
        server = await asyncio.start_server(self._connect, "127.0.0.1", self._port)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stopping.wait()
        server.close()
        for writer in list(self._open):
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while await self._request(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection goes on."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        method, path, _ = first.split(" ")
        data = await reader.readexactly(int(headers.get("content-length", "0")))
        if path == "/v1/models":
            return await self._send(writer, 200, {"object": "list", "data": [{"id": "stub", "object": "model"}]})
        if method == "GET":
            return await self._send(writer, 404, {"error": {"message": f"there is no {path}"}})
        body = json.loads(data)
        with self._changed:
            reply = self.next.pop(0) if self.next else self.rule(body)
            self.paths.append(path)
            self.headers.append(headers)
            self.requests.append(body)
            self._changed.notify_all()
        if body["model"] == "wrong":
            reply = Status(404, {"error": {"message": "The model 'wrong' does not exist", "code": "model_not_found"}})
        if isinstance(reply, Status):
            return await self._send(writer, reply.code, reply.body, reply.headers)
        if "n" in body and not self.knows_n:
            return await self._send(writer, 400, {"error": {"message": "'n' is not supported", "param": "n"}})
        try:
            return await self._stream(reader, writer, path, body, reply)
        except ConnectionError:  # the client went while it was written to
            return self._note_left()

    async def _send(
        self, writer: asyncio.StreamWriter, code: int, body: Any, headers: Mapping[str, str] | None = None
    ) -> bool:
        text = body if isinstance(body, str) else json.dumps(body)
        kind = "text/html" if isinstance(body, str) else JSON
        extra = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        head = f"HTTP/1.1 {code} X\r\ncontent-type: {kind}\r\ncontent-length: {len(text.encode())}\r\n{extra}\r\n"
        writer.write((head + text).encode())
        await writer.drain()
        return True

    async def _stream(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        path: str,
        body: dict[str, Any],
        reply: str | Answer | Broken,
    ) -> bool:
        broken = reply if isinstance(reply, Broken) else None
        answer = Answer("a b c d e f g h") if broken else reply if isinstance(reply, Answer) else Answer(str(reply))
        events = [json.dumps(event) for event in self._events(path, body, answer)] + ["[DONE]"]
        if broken is not None and not broken.after and broken.how in ("dropped", "stalled"):
            return await self._break(broken, reader, writer)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for number, event in enumerate(events):
            if broken is not None and number == broken.after:
                return await self._break(broken, reader, writer)
            if writer.transport.is_closing() or reader.at_eof():
                return self._note_left()
            await self._event(writer, event)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    async def _event(self, writer: asyncio.StreamWriter, event: str) -> None:
        data = f"data: {event}\n\n".encode()
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await writer.drain()

    async def _break(self, broken: Broken, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        match broken.how:
            case "stalled":
                return await self._gone(reader)
            case "dropped":
                writer.transport.abort()
                return False
            case "malformed":
                await self._event(writer, '{"choices": [')
            case "odd":
                await self._event(writer, '{"choices": [7]}')
            case "error":
                await self._event(writer, json.dumps({"error": broken.error}))
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    async def _gone(self, reader: asyncio.StreamReader) -> bool:
        await reader.read()  # nothing more comes from a client but its end
        return self._note_left()

    def _note_left(self) -> bool:
        with self._changed:
            self.left += 1
            self._changed.notify_all()
        return False

    # ---- what the model says

    def _events(self, path: str, body: dict[str, Any], answer: Answer) -> list[dict[str, Any]]:
        chat = path.endswith("/chat/completions")
        count, limit = body.get("n", 1), body.get("max_tokens") or body.get("max_completion_tokens") or 512
        said = words(answer.text)[:limit]
        finish = answer.finish or ("length" if len(words(answer.text)) > limit else "stop")
        thoughts = words(answer.thoughts)
        top = body.get("top_logprobs") if chat else body.get("logprobs")
        events = []
        for index in range(count):
            parts = [{"reasoning_content": word} for word in thoughts] + [{"content": word} for word in said]
            if answer.refusal:
                parts.append({"refusal": answer.refusal})
            parts += [part for number, call in enumerate(answer.calls) for part in _call_parts(number, *call)]
            choices = [_choice(index, part, chat, top) for part in parts]
            last = "tool_calls" if answer.calls and not answer.finish else finish
            events += [*choices, {**_choice(index, {}, chat, None), "finish_reason": last}]
        sent = words(body["prompt"]) if not chat else [w for m in body["messages"] for w in words(m["content"] or "")]
        usage: dict[str, Any] = {
            "prompt_tokens": len(sent),
            "completion_tokens": (len(said) + len(thoughts)) * count,
            "prompt_tokens_details": {"cached_tokens": self._cached(sent)},
        }
        if self.cost:
            usage["cost"] = self.cost
        if thoughts:
            usage["completion_tokens_details"] = {"reasoning_tokens": len(thoughts) * count}
        shown = [{"object": "chunk", "choices": [choice]} for choice in events]
        return [*shown, {"choices": [], "usage": usage}] if body.get("stream_options") else shown

    def _cached(self, sent: list[str]) -> int:
        """The longest prefix that an earlier request had too, but for the last token: as servers do it."""
        known = max((_common(sent, seen) for seen in self._seen), default=0) if self.caches else 0
        self._seen.append(sent)
        return min(known, max(0, len(sent) - 1))


def _choice(index: int, part: dict[str, Any], chat: bool, top: int | None) -> dict[str, Any]:
    text = part.get("content", "")
    choice: dict[str, Any] = {"index": index, "finish_reason": None}
    choice |= {"delta": part} if chat else {"text": text}
    if top and text:
        best = [(text, -0.5), *((f"{text}{n}", -1.0 - n) for n in range(1, top))]
        likely = [{"token": word, "logprob": value} for word, value in best]
        content = [{"token": text, "logprob": -0.5, "top_logprobs": likely}]
        plain = {"tokens": [text], "token_logprobs": [-0.5], "top_logprobs": [dict(best)]}
        choice["logprobs"] = {"content": content} if chat else plain
    return choice


def _call_parts(number: int, name: str, arguments: str) -> list[dict[str, Any]]:
    """A call in three parts, as servers send it."""
    middle = len(arguments) // 2
    shown = [{"name": name, "arguments": ""}, {"arguments": arguments[:middle]}, {"arguments": arguments[middle:]}]
    return [{"tool_calls": [{"index": number, "function": function}]} for function in shown]


def _common(one: list[str], other: list[str]) -> int:
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))

"""A server of vLLM's routes for tests: a character is a token, and what it says comes from a function.

Run as a program with vLLM's arguments, it serves until it is asked to leave.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

EOS = 1
NAME = "<eos>"
PAGE = 8


def text_of(tokens: list[int]) -> str:
    return "".join(NAME if token == EOS else chr(token) for token in tokens)


def tokens_of(text: str) -> list[int]:
    return [EOS if piece == NAME else ord(piece) for piece in re.findall(f"{NAME}|.", text, re.DOTALL)]


@dataclass
class VllmStub:
    """Serves in threads, on a free port of this machine.

    `says` gives what follows a prompt; `requests` are the completions that were asked for; `faults` are answered first,
    as a status and a body. With `hangs` an answer does not end before its client leaves, which `left` counts.
    """

    says: Callable[[str], str] = lambda prompt: f"you said {prompt}{NAME}"
    tells_cached: bool = True
    gives_ids: bool = True
    loads_adapters: bool = False
    shows_routes: bool = True
    hangs: bool = False
    faults: list[tuple[int, Any]] = field(default_factory=list)
    adapters: dict[str, str] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    sessions: list[str] = field(default_factory=list)
    left: int = 0
    running: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("prompt", "generation", "found"), 0))
    port: int = 0
    _pages: set[tuple[int, ...]] = field(default_factory=set)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __enter__(self) -> VllmStub:
        stub = self

        class Handler(_Handler):
            serving = stub

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait_left(self) -> bool:
        """Wait until a client has left; False if none does in a minute."""
        with self._changed:
            return self._changed.wait_for(lambda: self.left > 0, 60)

    # ---- answers

    def get(self, path: str) -> Any:
        if path == "/v1/models":
            model = {"id": "stub", "parent": None, "root": "/models/stub", "max_model_len": 1000}
            loaded = [{"id": name, "parent": "stub", "root": folder} for name, folder in self.adapters.items()]
            return {"data": [model, *loaded]}
        if path == "/openapi.json":
            paths = ["/v1/completions", *(["/v1/load_lora_adapter"] if self.loads_adapters else [])]
            return {"paths": {path: {} for path in paths}}
        if path == "/metrics":
            return self._metrics()
        return {}

    def post(self, path: str, body: dict[str, Any]) -> Any:
        if path == "/tokenize":
            if "messages" in body:
                turns = "".join(f"<{one['role']}>{one['content']}</>" for one in body["messages"])
                return {"tokens": tokens_of(turns + "<assistant>")}
            return {"tokens": tokens_of(body["prompt"])}
        if path == "/detokenize":
            return {"prompt": text_of(body["tokens"])}
        if path == "/v1/load_lora_adapter":
            self.adapters[body["lora_name"]] = body["lora_path"]
            return "ok"
        prompt = body["prompt"]
        rows = [{str(token): {"logprob": self._logprob(prompt[:end], token)}} for end, token in enumerate(prompt)]
        return {"choices": [{"prompt_logprobs": [None, *rows[1:]]}]}

    def refusal(self, body: dict[str, Any]) -> str:
        """Why a completion is refused; empty where it is not."""
        try:
            re.compile(body.get("structured_outputs", {}).get("regex", ""))
        except re.error as error:
            return f"Grammar error: {error}"
        return ""

    def events(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """What a completion says, a token an event, and its usage."""
        said, finish, reason = self._said(body)
        cached = self._cached(body["prompt"])
        self.counts["prompt"] += len(body["prompt"])
        self.counts["found"] += cached
        for number, token in enumerate(said):
            self.counts["generation"] += 1
            choice: dict[str, Any] = {"index": 0, "text": text_of([token]), "finish_reason": None, "stop_reason": None}
            if self.gives_ids:
                choice["token_ids"] = [token]
            if body.get("logprobs"):
                likely = {f"token_id:{token}": -0.5, f"token_id:{token + 1}": -1.5, f"token_id:{token + 2}": -2.5}
                choice["logprobs"] = {"token_logprobs": [-0.5], "top_logprobs": [likely]}
            if number == len(said) - 1:
                choice |= {"finish_reason": finish, "stop_reason": reason}
            yield {"choices": [choice]}
        details = {"cached_tokens": cached} if self.tells_cached else None
        usage = {"prompt_tokens": len(body["prompt"]), "prompt_tokens_details": details}
        yield {"choices": [], "usage": {**usage, "completion_tokens": len(said)}}

    def _said(self, body: dict[str, Any]) -> tuple[list[int], str, Any]:
        said: list[int] = []
        for token in tokens_of(self.says(text_of(body["prompt"])))[: body["max_tokens"]]:
            said.append(token)
            if token == EOS or token in body["stop_token_ids"]:
                return said, "stop", None if token == EOS else token
            met = [stop for stop in body["stop"] if text_of(said).endswith(stop)]
            if met:
                return said, "stop", met[0]
        return said, "length", None

    def _logprob(self, before: list[int], token: int) -> float:
        """What `events` gives for a token in place of the one that is said."""
        worse = token - tokens_of(self.says(text_of(before)))[0]
        return -0.5 - worse if 0 <= worse < 3 else -9.0

    def _cached(self, prompt: list[int]) -> int:
        pages = [tuple(prompt[:end]) for end in range(PAGE, len(prompt), PAGE)]
        cached = max((len(page) for page in pages if page in self._pages), default=0)
        self._pages.update(pages)
        return cached

    def _metrics(self) -> str:
        label = '{engine="0",model_name="stub"}'
        values = {
            "num_requests_running": self.running,
            "prompt_tokens_total": self.counts["prompt"],
            "generation_tokens_total": self.counts["generation"],
            "prefix_cache_queries_total": self.counts["prompt"],
            "prefix_cache_hits_total": self.counts["found"],
        }
        lines = [f"# TYPE vllm:{name} gauge\nvllm:{name}{label} {value:.1f}" for name, value in values.items()]
        return "\n".join(lines)


class _Handler(BaseHTTPRequestHandler):
    serving: VllmStub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        there = self.path != "/openapi.json" or self.serving.shows_routes
        self._give(200 if there else 404, self.serving.get(self.path))

    def do_POST(self) -> None:
        stub = self.serving
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path != "/v1/completions":
            self._give(200, stub.post(self.path, body))
            return
        with stub._changed:
            stub.requests.append(body)
            stub.keys.append(self.headers.get("authorization", ""))
            stub.sessions.append(self.headers.get("x-session-id", ""))
        if stub.faults:
            self._give(*stub.faults.pop(0))
        elif why := stub.refusal(body):
            self._give(400, {"error": {"message": why, "code": 400}})
        elif body.get("stream"):
            self._stream(body)
        else:
            self._give(200, stub.post(self.path, body))

    def _give(self, status: int, answer: Any) -> None:
        data = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, body: dict[str, Any]) -> None:
        stub = self.serving
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        stub.running += 1
        try:
            for event in stub.events(body):
                self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
                if stub.hangs:
                    self.connection.recv(1)  # returns when the client has left
                    raise ConnectionResetError
            self.wfile.write(b"data: [DONE]\n\n")
        except ConnectionError:
            with stub._changed:
                stub.left += 1
                stub._changed.notify_all()
        finally:
            stub.running -= 1


if __name__ == "__main__":
    with VllmStub(port=int(sys.argv[sys.argv.index("--port") + 1])) as serving:
        serving._thread.join()

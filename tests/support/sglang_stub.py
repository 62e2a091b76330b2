"""A server of SGLang's native API for tests: a character is a token, and what it says comes from a function.

Run as a program, with `--port`, it serves until it is killed.
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
INFO = {"max_req_input_len": 1001, "incremental_streaming_output": True, "grammar_backend": "llguidance"}


def text_of(tokens: list[int], *, special: bool = True) -> str:
    return "".join((NAME if special else "") if token == EOS else chr(token) for token in tokens)


def tokens_of(text: str) -> list[int]:
    return [EOS if piece == NAME else ord(piece) for piece in re.findall(f"{NAME}|.", text, re.DOTALL)]


@dataclass
class SGLangStub:
    """Serves in threads, on a free port of this machine.

    `says` gives what follows a prompt; `requests` are the bodies that came by path, `sent` what they were restored to,
    of which it `found` so many in its cache;
    `hangs` keeps an answer from ending until it is aborted.
    """

    says: Callable[[str], str] = lambda prompt: f"you said {prompt}{NAME}"
    info: dict[str, Any] = field(default_factory=lambda: dict(INFO))
    hangs: bool = False
    adapters: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, Any]] = field(default_factory=list)
    sent: list[list[int]] = field(default_factory=list)
    found: list[int] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    aborted: list[str] = field(default_factory=list)
    sessions: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    closed: list[str] = field(default_factory=list)
    opened: int = 0
    port: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __enter__(self) -> SGLangStub:
        stub = self

        class Handler(_Handler):
            serving = stub

        self._server = _Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        with self._changed:
            self.hangs = False
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def bodies(self, path: str) -> list[Any]:
        return [body for asked, body in self.requests if asked == path]

    def wait_sent(self, count: int) -> bool:
        """Wait until so many generations have come; False if they do not come in a minute."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.sent) >= count, 60)

    # ---- answers

    def answer(self, path: str, body: Any) -> Any:
        match path:
            case "/health":
                return {}
            case "/server_info":
                return self.info
            case "/v1/models":
                adapters = [{"id": name, "parent": "stub"} for name in self.adapters]
                return {"data": [{"id": "stub", "parent": None}, *adapters]}
            case "/v1/tokenize" if "messages" in body:
                turns = "".join(f"[{turn['role']}]{turn['content']};" for turn in body["messages"])
                return {"tokens": tokens_of(turns + "[assistant]")}
            case "/v1/tokenize":
                return {"tokens": tokens_of(body["prompt"])}
            case "/v1/detokenize":
                return {"text": text_of(body["tokens"])}
            case "/abort_request":
                with self._changed:
                    self.aborted.append(body["rid"])
                    self._changed.notify_all()
                return {}
            case "/load_lora_adapter":
                self.adapters[body["lora_name"]] = body["lora_path"]
                return {"success": True}
            case "/open_session":
                self.opened += 1
                self.sessions[f"s{self.opened}"] = {}
                return f"s{self.opened}"
            case "/close_session":
                self.closed.append(body["session_id"])
                return self.sessions.pop(body["session_id"], None)
            case "/metrics":
                return 'sglang:prompt_tokens_total{a="x"} 5.0\nsglang:prompt_tokens_total{a="y"} 7.0\n# a comment\n'
        return None

    def events(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The events of an answer to `/generate`, as the server makes them."""
        params = body["sampling_params"]
        fault = self._restore(body) or _grammar_fault(params)
        if fault:
            yield self._event(body, [], "x", [120], {"type": "abort", "message": fault, "status_code": 400})
            return
        prompt: list[int] = body["input_ids"]
        with self._changed:
            cached = self._cached(prompt)
            self.sent.append(prompt)
            self.found.append(cached)
            self._changed.notify_all()
        if params["max_new_tokens"] == 0:
            yield self._event(body, prompt, "", [], {"type": "length", "length": 0}, cached)
            return
        said: list[int] = []
        for token in tokens_of(self.says(text_of(prompt))):
            said.append(token)
            why = _ended(params, said)
            yield self._event(body, prompt, text_of([token]), said, why, cached)
            if why is not None:
                return
        if self.hangs:
            with self._changed:
                self._changed.wait_for(lambda: not self.hangs or body["rid"] in self.aborted, 60)
        yield self._event(body, prompt, "", said, {"type": "abort", "message": "Aborted", "status_code": None}, cached)

    def _event(
        self,
        body: dict[str, Any],
        prompt: list[int],
        text: str,
        said: list[int],
        why: dict[str, Any] | None,
        cached: int = 0,
    ) -> dict[str, Any]:
        new = said[-1:] if text else []
        shown = new if self.info["incremental_streaming_output"] else said
        meta: dict[str, Any] = {"finish_reason": why, "prompt_tokens": len(prompt), "cached_tokens": cached}
        if body.get("return_logprob"):
            meta |= {"output_token_logprobs": [[-0.5, token, None] for token in shown]}
            meta |= {"output_top_logprobs": [_best(token, body["top_logprobs_num"]) for token in shown]}
            read = prompt[body["logprob_start_len"] :] if "logprob_start_len" in body else []
            meta |= {"input_token_logprobs": [[-0.25 if place else None, t, None] for place, t in enumerate(read)]}
            meta |= {
                "input_top_logprobs": [_best(t, body["top_logprobs_num"]) if p else None for p, t in enumerate(read)]
            }
        return {"text": text if self.info["incremental_streaming_output"] else text_of(said), "output_ids": shown} | {
            "meta_info": meta
        }

    def _restore(self, body: dict[str, Any]) -> str:
        """Put what a session holds before what was sent; what is wrong with it."""
        where = body.get("session_params")
        if where is None:
            return ""
        session = self.sessions.get(where["id"])
        if session is None:
            return f"Invalid request: session id {where['id']} does not exist"
        if "rid" in where:
            if where["rid"] not in session:
                return "Invalid request session id"
            body["input_ids"] = session[where["rid"]][: where["offset"]] + body["input_ids"]
        session[body["rid"]] = list(body["input_ids"])
        return ""

    def _cached(self, prompt: list[int]) -> int:
        common = [_common(prompt, earlier) for earlier in self.sent]
        return min(max(common, default=0), len(prompt) - 1)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        """A client that has left is no fault of the server."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            raise


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    serving: SGLangStub

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._respond(None)

    def do_POST(self) -> None:
        self._respond(json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or "{}"))

    def _respond(self, body: Any) -> None:
        stub = self.serving
        stub.requests.append((self.path, json.loads(json.dumps(body))))
        stub.keys.add(self.headers.get("authorization") or "")
        if self.path == "/generate":
            self._stream(body)
            return
        answer = stub.answer(self.path, body)
        data = (answer if self.path == "/metrics" else json.dumps(answer)).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, body: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            for event in self.serving.events(body):
                self._chunk(f"data: {json.dumps(event)}\n\n")
            self._chunk("data: [DONE]\n\n")
            self.wfile.write(b"0\r\n\r\n")
        except OSError:  # the client has left
            self.close_connection = True

    def _chunk(self, text: str) -> None:
        self.wfile.write(f"{len(text.encode()):x}\r\n{text}\r\n".encode())
        self.wfile.flush()


def _ended(params: dict[str, Any], said: list[int]) -> dict[str, Any] | None:
    matched = [stop for stop in params["stop"] if text_of(said).endswith(stop)]
    if said[-1] == EOS or said[-1] in params["stop_token_ids"]:
        return {"type": "stop", "matched": said[-1]}
    if matched:
        return {"type": "stop", "matched": matched[0]}
    return {"type": "length", "length": len(said)} if len(said) == params["max_new_tokens"] else None


def _grammar_fault(params: dict[str, Any]) -> str:
    return "Failed to compile regex grammar: unclosed group" if params.get("regex") == "((" else ""


def _best(token: int, count: int) -> list[list[Any]]:
    return [[-0.5 - number, token + number, None] for number in range(count)]


def _common(one: list[int], other: list[int]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


if __name__ == "__main__":
    with SGLangStub(port=int(sys.argv[sys.argv.index("--port") + 1])):
        threading.Event().wait()

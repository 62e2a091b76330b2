"""Probes: what is installed, and what a server is."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from plait.engines import kinds as kinds_module
from plait.engines.kinds import KINDS
from plait.engines.probe import VARIABLES, find_engines, probe
from plait.errors import InputError, ServerLostError

MODELS = {"/v1/models": {"data": [{"id": "m"}, {"id": "n"}]}}
SERVERS: dict[str, Mapping[str, Any]] = {
    "vllm": {**MODELS, "/version": {"version": "0.32.0"}},
    "sglang": {**MODELS, "/get_server_info": {"version": "0.5.23", "tokenizer_path": "m"}},
    "openai": MODELS,
}


class Site:
    """Answers GET requests from a table of paths; `keys` are those that came with them."""

    def __init__(self) -> None:
        self.pages: Mapping[str, Any] = {}
        self.keys: list[str | None] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.keys.append(self.headers.get("Authorization"))
                page = site.pages.get(self.path)
                self.send_response(404 if page is None else 200)
                self.end_headers()
                self.wfile.write(page.encode() if isinstance(page, str) else json.dumps(page).encode())

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as http.server has it
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.close()


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/"])
def test_a_server_is_known_by_what_only_it_answers(site: Site, kind: str, path: str) -> None:
    site.pages = SERVERS[kind]
    found = probe(site.url + path)
    assert (found.kind, found.url, found.models) == (kind, site.url, ("m", "n"))
    assert found.engine == (f"openai:m@{site.url}" if kind not in KINDS or kind == "openai" else f"{kind}:{site.url}")


def test_a_server_of_pages_that_are_no_json_is_one_of_openais_protocol_without_models(site: Site) -> None:
    site.pages = {"/v1/models": "<html>", "/version": "[1]", "/get_server_info": "null"}
    assert (probe(site.url).kind, probe(site.url).models) == ("openai", ())


def test_the_key_comes_from_the_environment_alone(site: Site) -> None:
    site.pages = MODELS
    probe(site.url, environment={"PLAIT_API_KEY": "k1", "OPENAI_API_KEY": "k2"})
    assert set(site.keys) == {"Bearer k1"}


def test_where_nothing_answers_the_address_is_named(site: Site) -> None:
    site.close()
    with pytest.raises(ServerLostError, match=f"nothing answers at {site.url}: .*start the server"):
        probe(site.url)


@pytest.mark.parametrize("url", ["ftp://host", "host:8000", "http://"])
def test_what_is_no_servers_address_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="no server's address"):
        probe(url)


def test_each_kind_is_listed_with_its_server(site: Site) -> None:
    site.pages = SERVERS["openai"]
    found = {one.kind.name: one for one in find_engines({VARIABLES["openai"]: site.url + "/v1"})}
    assert list(found) == list(KINDS)
    openai = found["openai"].as_dict()
    assert (openai["reachable"], openai["models"], openai["fault"]) == (True, ["m", "n"], "")
    assert found["local"].as_dict()["reachable"] is None


def test_a_server_that_does_not_answer_is_listed_as_such(site: Site) -> None:
    site.close()
    found = {one.kind.name: one.as_dict() for one in find_engines({VARIABLES["openai"]: site.url})}
    assert found["openai"]["reachable"] is False
    assert "nothing answers" in found["openai"]["fault"]


def test_what_is_missing_is_listed_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds_module, "find_spec", lambda package: None)
    found = {one.kind.name: one.as_dict() for one in find_engines({})}
    assert (found["local"]["installed"], found["local"]["install"]) == (False, "pip install 'plait[local]'")
    assert found["scripted"]["installed"] is True

"""Fetching: only allowed hosts are asked, wherever a page redirects; text comes back, within bounds."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from plait.errors import InputError, ToolError
from plait.tools import Retry
from plait.tools.web import _seconds, fetch

pytestmark = pytest.mark.anyio

PAGE = "<html><head><title>Peru</title><script>var x</script></head><body><p>34 million <b>people</b></p></body></html>"


class Pages(BaseHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        type(self).asked.append(self.headers["host"] + self.path)
        port = self.server.server_address[1]
        if self.path == "/away":
            self._send(302, b"", location=f"http://localhost:{port}/page")
        elif self.path == "/round":
            self._send(302, b"", location="/round")
        elif self.path == "/here":
            self._send(302, b"", location="/page")
        elif self.path == "/image":
            self._send(200, b"\x89PNG", content_type="image/png")
        elif self.path == "/large":
            self._send(200, b"x" * 2_000_000, content_type="text/plain")
        elif self.path == "/page":
            self._send(200, PAGE.encode(), content_type="text/html; charset=utf-8")
        elif self.path.startswith("/busy"):
            again = sum(asked.endswith(self.path) for asked in type(self).asked) > 2 and self.path.endswith("7")
            self._send(200 if again else 503, b"at last", retry_after=self.path.partition("?")[2])
        else:
            self._send(404, b"")

    def _send(
        self, status: int, body: bytes, *, content_type: str = "text/plain", location: str = "", retry_after: str = ""
    ) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        if location:
            self.send_header("location", location)
        if retry_after:
            self.send_header("retry-after", retry_after)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Silent."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


async def test_a_pages_text_is_given_without_its_scripts(site: str) -> None:
    assert await fetch(["127.0.0.1"])(f"{site}/here") == "Peru\n34 million\npeople"
    assert await fetch(["127.0.0.1"], characters=4)(f"{site}/page") == "Peru"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/away", "host 'localhost' is not allowed; allowed: 127.0.0.1"),
        ("/round", "redirects more than 5 times"),
        ("/image", "holds no text but image/png"),
        ("/large", "larger than 1 MB"),
        ("/nothing", "answered with status 404"),
    ],
)
async def test_what_cannot_be_given_is_named(site: str, path: str, message: str) -> None:
    with pytest.raises(ToolError, match=message):
        await fetch(["127.0.0.1"], megabytes=1)(site + path)
    assert not any(asked.startswith("localhost") for asked in Pages.asked)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://example.com/", "host 'example.com' is not allowed"),
        ("https://example.org.evil.com/", "is not allowed"),
        ("https://notexample.org/", "is not allowed"),
        ("https://example.org@evil.com/", "no web address"),
        ("file:///etc/passwd", "no web address"),
        ("example.org", "no web address"),
        ("http://[::1]/", "is not allowed"),
    ],
)
async def test_other_hosts_are_not_asked(url: str, message: str) -> None:
    with pytest.raises(ToolError, match=message):
        await fetch(["*.example.org", "example.org"])(url)


async def test_a_server_that_does_not_answer_is_named() -> None:
    with pytest.raises(ToolError, match="can't be fetched: ConnectError"):
        await fetch(["127.0.0.1:9"])("http://127.0.0.1:9/")


@pytest.mark.parametrize("allow", [[], ["*"], ["*."], ["https://example.org"], ["a*b"]])
def test_an_allow_list_must_name_hosts(allow: list[str]) -> None:
    with pytest.raises(InputError, match="must list hosts"):
        fetch(allow)


async def test_a_server_that_is_busy_is_asked_again_when_it_says(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("plait.tools.retry.anyio.sleep", sleep)
    Pages.asked.clear()
    page = fetch(["127.0.0.1"], retry=Retry(on=(ToolError,), attempts=3, wait=0.0, longest_wait=60.0))
    assert await page(f"{site}/busy?7") == "at last"
    assert waits == [7.0, 7.0]
    waits.clear()
    with pytest.raises(ToolError, match="status 503"):
        await page(f"{site}/busy?soon")
    assert waits == [0.0, 0.0]


@pytest.mark.parametrize(
    ("header", "seconds"), [("", 0), ("7", 7), ("-7", 0), ("x", 0), ("²", 0), ("9" * 30, 999999999)]
)
def test_what_a_server_asks_one_to_wait_is_read(header: str, seconds: float) -> None:
    assert _seconds(header) == seconds


def test_a_date_to_wait_for_is_seconds_from_now() -> None:
    assert 3500 < _seconds(formatdate(time.time() + 3600, usegmt=True)) <= 3600
    assert _seconds("Wed, 21 Oct 2015 07:28:00 GMT") == 0

"""Fetching pages over HTTP, from hosts that the user has named and no others."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from ..errors import InputError, MissingExtraError, ToolError
from .retry import NEVER, Retry
from .tool import Tool, tool

if TYPE_CHECKING:
    from httpx import AsyncClient, Response

REDIRECTS = 5
_HOST = re.compile(r"(\*\.)?([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:]+\])(:\d+)?")
_TEXT = ("text/", "application/json", "application/xml", "application/xhtml+xml")


def fetch(
    allow: Sequence[str],
    *,
    characters: int = 20_000,
    megabytes: float = 5.0,
    timeout: float = 20.0,
    cap: int = 8,
    retry: Retry = NEVER,
) -> Tool[[str], str]:
    """A tool that gives the text of a page, `characters` of it at most.

    `allow` lists hosts: "example.org" alone, or "*.example.org" for all below it; a port is part of the name if it is
    given. A redirect to another host is followed only if that is allowed too. Answers above `megabytes` and those that
    hold no text are refused. `retry` may name ToolError; it then waits as long as a server says in Retry-After. Raises
    InputError for an allow-list that names no host.
    """
    hosts = tuple(host.lower() for host in allow)
    if not hosts or not all(_HOST.fullmatch(host) for host in hosts):
        raise InputError(f"allow={list(allow)} must list hosts, such as 'example.org' or '*.example.org'")
    try:
        import bs4  # noqa: F401
        import httpx  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError("tool 'fetch'", "web") from error

    @tool(name="fetch", cap=cap, timeout=timeout, idempotent=True, retry=retry)
    async def fetch_page(url: str) -> str:
        """Get the text of a web page.

        Args:
            url: The page's address, beginning with https:// or http://.
        """
        import httpx

        async with httpx.AsyncClient(timeout=timeout, trust_env=False) as client:
            try:
                return await _text_at(client, url, hosts, int(megabytes * 1e6), characters)
            except httpx.HTTPError as error:
                raise ToolError(f"{url} can't be fetched: {type(error).__name__} {error}".rstrip()) from error

    return fetch_page


async def _text_at(client: AsyncClient, url: str, hosts: Sequence[str], size: int, characters: int) -> str:
    for _ in range(REDIRECTS + 1):
        _check_allowed(url, hosts)
        async with client.stream("GET", url, follow_redirects=False) as response:
            if response.has_redirect_location:
                url = urljoin(url, response.headers["location"])
                continue
            if response.status_code >= 400:
                said = f"{url} answered with status {response.status_code} {response.reason_phrase}"
                raise ToolError(said, retry_after=_seconds(response.headers.get("retry-after", "")))
            return _readable(response, await _body(response, size))[:characters]
    raise ToolError(f"{url} redirects more than {REDIRECTS} times")


def _check_allowed(url: str, hosts: Sequence[str]) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ToolError(f"{url!r} is no web address; give one such as https://example.org/page")
    host, place = parts.hostname.lower(), parts.netloc.lower()
    for allowed in hosts:
        named = place if ":" in allowed else host
        if named == allowed or (allowed.startswith("*.") and named.endswith(allowed[1:])):
            return
    raise ToolError(f"host '{host}' is not allowed; allowed: {', '.join(hosts)}")


def _seconds(retry_after: str) -> float:
    """What a Retry-After header says, in seconds from now; 0 for none (RFC 9110, section 10.2.3: seconds or a date)."""
    if retry_after.isascii() and retry_after.isdecimal():
        return float(retry_after[:9])
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


async def _body(response: Response, size: int) -> bytes:
    body = bytearray()
    async for data in response.aiter_bytes():
        body += data
        if len(body) > size:
            raise ToolError(f"{response.url} is larger than {size / 1e6:g} MB")
    return bytes(body)


def _readable(response: Response, body: bytes) -> str:
    kind = response.headers.get("content-type", "text/plain").lower()
    if not kind.startswith(_TEXT):
        raise ToolError(f"{response.url} holds no text but {kind}")
    text = body.decode(response.charset_encoding or "utf-8", "replace")
    if "html" not in kind:
        return text
    from bs4 import BeautifulSoup

    page = BeautifulSoup(text, "html.parser")
    for hidden in page(["script", "style", "noscript", "template"]):
        hidden.decompose()
    return "\n".join(line for line in (line.strip() for line in page.get_text("\n").splitlines()) if line)

"""Probes: which kinds of engines are installed, which servers answer, and what a server is."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, TypeAlias
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from ..errors import InputError, ServerLostError
from .kinds import KINDS, Kind
from .remote import Server

Served: TypeAlias = Literal["vllm", "sglang", "openai"]

VARIABLES = {"vllm": "PLAIT_VLLM_URL", "sglang": "PLAIT_SGLANG_URL", "openai": "OPENAI_BASE_URL"}
"""The environment variables that name the servers which `plait engines` looks for."""
_MARKS: tuple[tuple[Served, str, str], ...] = (
    ("sglang", "/get_server_info", "tokenizer_path"),
    ("sglang", "/server_info", "tokenizer_path"),
    ("vllm", "/version", "version"),
)
"""A path that only this kind of server has, and a field of its answer."""


@dataclass(frozen=True, slots=True)
class Answering:
    """A server that answers: what it is, and the models that it offers."""

    url: str
    kind: Served
    version: str
    models: tuple[str, ...]

    @property
    def engine(self) -> str:
        """The name of an engine for it, or `openai:` for a kind that plait can't open here."""
        if self.kind in KINDS and self.kind != "openai":
            return f"{self.kind}:{self.url}"
        return f"openai:{self.models[0] if self.models else 'default'}@{self.url}"


@dataclass(frozen=True, slots=True)
class Found:
    """What is there of one kind: the package's version if it is installed, and its server if it has one."""

    kind: Kind
    version: str
    variable: str = ""
    url: str = ""
    server: Answering | None = None
    fault: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.kind.name,
            "forms": list(self.kind.forms),
            "installed": self.kind.installed,
            "version": self.version,
            "install": "" if self.kind.installed else self.kind.install,
            "variable": self.variable,
            "url": self.url,
            "reachable": self.server is not None if self.url else None,
            "models": list(self.server.models) if self.server is not None else [],
            "fault": self.fault,
        }


def find_engines(environment: Mapping[str, str] = os.environ, *, seconds: float = 5.0) -> list[Found]:
    """All kinds, in the catalogue's order, with the servers that the environment names."""
    return [_found(kind, environment, seconds) for kind in KINDS.values()]


def probe(url: str, *, seconds: float = 10.0, environment: Mapping[str, str] = os.environ) -> Answering:
    """What answers at a URL. Raises InputError for what is none, ServerLostError where nothing answers."""
    server = Server.at("probe", url.rstrip("/").removesuffix("/v1"), environment=environment)
    base, key = server.url, server.key
    listed = _ask(base, "/v1/models", seconds, key)
    models = tuple(str(one.get("id", "")) for one in listed.get("data", ()) if isinstance(one, dict))
    for kind, path, field in _MARKS:
        answer = _ask(base, path, seconds, key)
        if field in answer:
            return Answering(base, kind, str(answer.get("version", "")), models)
    return Answering(base, "openai", "", models)


def _found(kind: Kind, environment: Mapping[str, str], seconds: float) -> Found:
    variable = VARIABLES.get(kind.name, "")
    url = environment.get(variable, "") if variable else ""
    server, fault = None, ""
    if url:
        try:
            server = probe(url, seconds=seconds, environment=environment)
        except (InputError, ServerLostError) as error:
            fault = str(error)
    return Found(kind, _version(kind.package), variable, url, server, fault)


def _version(package: str) -> str:
    try:
        return version(package) if package else version("plait")
    except PackageNotFoundError:
        return ""


def _ask(base: str, path: str, seconds: float, key: str) -> Mapping[str, Any]:
    """The JSON object at a path; empty where the server has none there."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with urlopen(Request(base + path, headers=headers), timeout=seconds) as answer:
            value = json.load(answer)
    except HTTPError as error:
        error.close()
        return {}
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise ServerLostError(f"nothing answers at {base}: {reason}; start the server, or mend the address") from None
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}

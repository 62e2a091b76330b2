"""Architectures in files: Archon's configurations, and chains of components as data (what a search writes)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ..engines.roles import read_roles
from ..errors import DataError, InputError
from ..orchestrator import Graph, Price
from .archon import archon, read_config
from .archon.build import NO_PRICES, ONE_ENGINE
from .techniques import Result, answering, chain_of


def load_architecture(file: Path, engine: str = "", prices: Mapping[str, Price] = NO_PRICES) -> Graph[str]:
    """The graph of a file, for an engine: with "roles:TABLE.json" each model is played as the table says, and with any
    other engine all are that engine. Raises ConfigError, DataError, InputError."""
    return answering(read_architecture(file, roles_of(engine), prices))


def read_prices(file: Path) -> dict[str, Price]:
    """A table of prices of a million tokens, `{"gpt-4o": {"prompt": 2.5, "generated": 10}}`. Raises DataError."""
    try:
        return TypeAdapter(dict[str, Price]).validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise DataError(f"table of prices {file} can't be read: {str(error).splitlines()[0]}") from error


def read_architecture(
    file: Path, roles: Mapping[str, str] = ONE_ENGINE, prices: Mapping[str, Price] = NO_PRICES
) -> Graph[Result]:
    """`{"layers": …}` is Archon's; a list, or `{"name": …, "components": […]}`, is a chain."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        data = None  # read again below, where what is wrong has a place
    if isinstance(data, list):
        return chain_of(data, name=_name(file.stem))
    if isinstance(data, dict) and isinstance(data.get("components"), list):
        unknown = set(data) - {"name", "components"}
        if unknown:
            raise InputError(f"chain {file} has {', '.join(sorted(unknown))}; it takes 'name' and 'components'")
        return chain_of(data["components"], name=_name(data.get("name", file.stem)))
    return archon(read_config(file), roles=roles, prices=prices)


def roles_of(engine: str) -> Mapping[str, str]:
    """Who plays which model on an engine."""
    kind, _, table = engine.partition(":")
    return {name: name for name in read_roles(table)} if kind == "roles" else ONE_ENGINE


def _name(name: Any) -> str:
    return name if isinstance(name, str) and name else "chain"

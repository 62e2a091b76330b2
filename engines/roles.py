"""Several engines as one: each context is of the engine that its start names, so one run has a model for every role."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any, Self

from ..errors import ContextError, DataError, InputError, UnknownNameError
from .base import Capabilities, Context, Engine, Generation, HoldsKeys, Member, Prompt, TeamStream, Teamwork

OTHERS = "*"
"""The role that stands for all names which are not in the table."""


class Roles:
    """`Roles({"writer": small, "judge": large})`: a context begins with `start(prompt, adapter="judge")`.

    The first role is the one of a context that names none. The role "*" takes every name that the table has not. What
    all of the engines can do is what this one can. Raises InputError for an empty table.
    """

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        if not engines:
            raise InputError("a table of roles names no engine; write one at least, such as {'*': engine}")
        self._engines = dict(engines)
        self._distinct = list({id(engine): engine for engine in self._engines.values()}.values())
        self._stack = AsyncExitStack()
        self.name = f"roles({', '.join(f'{role}={engine.name}' for role, engine in self._engines.items())})"
        self.capabilities = common([engine.capabilities for engine in self._distinct])

    @classmethod
    def open(cls, names: Mapping[str, str]) -> Self:
        """Roles by the names of engines; those of one name are one engine. Raises what `open_engine` raises."""
        from .catalog import open_engine

        opened = {name: open_engine(name) for name in dict.fromkeys(names.values())}
        return cls({role: opened[name] for role, name in names.items()})

    @property
    def names(self) -> Sequence[str]:
        """The names of the engines, each once."""
        return [engine.name for engine in self._distinct]

    @property
    def keys(self) -> Mapping[str, str]:
        """The keys of all."""
        return {
            name: key for engine in self._distinct if isinstance(engine, HoldsKeys) for name, key in engine.keys.items()
        }

    def find(self, role: str) -> Engine:
        """The engine of a role. Raises UnknownNameError."""
        if not role:
            return next(iter(self._engines.values()))
        found = self._engines.get(role) or self._engines.get(OTHERS)
        if found is None:
            known = ", ".join(self._engines)
            raise UnknownNameError(f"no engine plays '{role}'; roles: {known}; add it, or '{OTHERS}' for all others")
        return found

    @property
    def engines(self) -> tuple[Engine, ...]:
        """The engines, each once."""
        return tuple(self._distinct)

    async def start(self, prompt: Prompt, *, adapter: str = "") -> Context:
        return await self.find(adapter).start(prompt)

    def stream_team(self, members: Sequence[Member], work: Teamwork) -> TeamStream:
        return self._engine_of(members).stream_team(members, work)

    async def team(self, members: Sequence[Member], work: Teamwork) -> list[Generation]:
        return await self._engine_of(members).team(members, work)

    async def aclose(self) -> None:
        for engine in self._distinct:
            await engine.aclose()

    async def __aenter__(self) -> Self:
        for engine in self._distinct:
            await self._stack.enter_async_context(engine)
        return self

    async def __aexit__(self, *exc: Any) -> None:
        await self._stack.__aexit__(*exc)

    def _engine_of(self, members: Sequence[Member]) -> Engine:
        """The one engine whose contexts the members continue. Raises ContextError."""
        found = {id(member.context.engine): member.context.engine for member in members}
        if len(found) != 1:
            raise ContextError(f"the members of a team play on {len(found)} engines; begin their contexts on one")
        return next(iter(found.values()))


def names_of(engine: Engine) -> Sequence[str]:
    """The engines that an engine is made of, by name: itself, or those of its roles."""
    return engine.names if isinstance(engine, Roles) else [engine.name]


def read_roles(path: str | Path) -> dict[str, str]:
    """A table of roles from a JSON file, `{"judge": "openai:gpt-4o", "*": "local"}`. Raises DataError."""
    try:
        table = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"table of engines {path} can't be read: {error}") from error
    if not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
        raise DataError(f"table of engines {path} must be an object of names of engines, such as {{'*': 'local'}}")
    return table


def playing(engine: Engine, role: str) -> Engine:
    """The engine that runs what begins with a role: one of several, or the engine itself."""
    return engine.find(role) if isinstance(engine, Roles) else engine


def engines_in(engine: Engine) -> tuple[Engine, ...]:
    """The engines that an engine is made of: several, or itself."""
    return engine.engines if isinstance(engine, Roles) else (engine,)


def common(capabilities: Sequence[Capabilities]) -> Capabilities:
    """What all can do: sets meet, switches are on where all are, the window is the narrowest one known."""
    found: dict[str, Any] = {}
    for field in fields(Capabilities):
        values = [getattr(one, field.name) for one in capabilities]
        if isinstance(values[0], frozenset):
            found[field.name] = frozenset.intersection(*values)
        elif isinstance(values[0], bool):
            found[field.name] = all(values)
        else:
            found[field.name] = min((value for value in values if value), default=0)
    return Capabilities(**found)

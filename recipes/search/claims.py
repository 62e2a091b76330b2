"""Claims: who evaluates which candidate of a study, and what came of it. A database's primary key keeps them apart."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ...errors import DataError, InputError, MissingExtraError
from ...orchestrator.journal import started, this_process
from .space import Point, key_of

if TYPE_CHECKING:
    from sqlalchemy import Engine

State: TypeAlias = Literal["claimed", "done", "failed", "excluded", "dropped"]
"""`dropped`: left after a part of the items, others being better; `excluded`: too dear before it was begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A candidate and what came of it. `values` are its objectives by name, `spent` what the engine did for it; `items`
    are how many it was tried on."""

    point: Point
    state: State = "claimed"
    values: Mapping[str, float] = field(default_factory=dict)
    spent: Mapping[str, float] = field(default_factory=dict)
    items: int = 0
    note: str = ""
    trial: int = -1

    @property
    def key(self) -> str:
        return key_of(self.point)


class Claims:
    """The candidates of one study in a database, shared by all of its workers.

    `about` is what the study is of; a study of that name which is of something else is refused. Raises DataError for a
    database that can't be opened.
    """

    def __init__(self, url: str, study: str, about: str) -> None:
        self.study = study
        self._database = _connect(url)
        self._write("INSERT INTO plait_studies VALUES (:study, :about) ON CONFLICT DO NOTHING", about=about)
        ((found,),) = self._read("SELECT about FROM plait_studies WHERE study = :study")
        if found != about:
            raise InputError(
                f"study '{study}' in {url} is of something else ({found}, here {about}); name another study or file"
            )

    def claim(self, point: Point, trial: int) -> bool:
        """Take a candidate; False if somebody has it."""
        return self._write(
            "INSERT INTO plait_candidates VALUES (:study, :key, :point, :owner, 'claimed', :trial, '{}') "
            "ON CONFLICT DO NOTHING",
            key=key_of(point),
            point=json.dumps(point, default=str),
            owner=_me(),
            trial=trial,
        )

    def take_over(self) -> Outcome | None:
        """A candidate whose worker is gone: it is this process's now."""
        for key, owner in self._read(
            "SELECT key, owner FROM plait_candidates WHERE study = :study AND state = 'claimed'"
        ):
            if _is_gone(owner) and self._write(
                "UPDATE plait_candidates SET owner = :me WHERE study = :study AND key = :key AND owner = :owner "
                "AND state = 'claimed'",
                key=key,
                owner=owner,
                me=_me(),
            ):
                return self.find(key)
        return None

    def release(self, key: str) -> None:
        """Give a candidate back that this process has not finished: who asks next has it first."""
        self._write(
            "UPDATE plait_candidates SET owner = :nobody WHERE study = :study AND key = :key AND state = 'claimed'",
            key=key,
            nobody=json.dumps({"host": "", "pid": 0, "started": ""}),
        )

    def finish(self, outcome: Outcome) -> None:
        """Record what came of a candidate that this process has."""
        told = {"values": outcome.values, "spent": outcome.spent, "items": outcome.items, "note": outcome.note}
        self._write(
            "UPDATE plait_candidates SET state = :state, outcome = :told WHERE study = :study AND key = :key",
            key=outcome.key,
            state=outcome.state,
            told=json.dumps(told),
        )

    def score(self, key: str, rung: int, score: float) -> list[float]:
        """Note a candidate's score on a rung; the scores of all that came so far, its own too."""
        self._write(
            "INSERT INTO plait_rungs VALUES (:study, :key, :rung, :score) ON CONFLICT DO NOTHING",
            key=key,
            rung=rung,
            score=score,
        )
        query = "SELECT score FROM plait_rungs WHERE study = :study AND rung = :rung"
        return [found for (found,) in self._read(query, rung=rung)]

    def keys(self) -> set[str]:
        """The candidates that somebody has or had."""
        return {key for (key,) in self._read("SELECT key FROM plait_candidates WHERE study = :study")}

    def find(self, key: str) -> Outcome | None:
        return next((outcome for outcome in self._outcomes("AND key = :key", key=key)), None)

    def outcomes(self) -> list[Outcome]:
        """All candidates in the order in which they were proposed."""
        return list(self._outcomes(""))

    def close(self) -> None:
        self._database.dispose()

    # ---- parts

    def _outcomes(self, where: str, **values: Any) -> Iterator[Outcome]:
        query = f"SELECT point, state, trial, outcome FROM plait_candidates WHERE study = :study {where} ORDER BY trial"
        for point, state, trial, told in self._read(query, **values):
            yield Outcome(point=json.loads(point), state=state, trial=trial, **json.loads(told))

    def _write(self, statement: str, **values: Any) -> bool:
        """Run a statement; whether it changed a row."""
        from sqlalchemy import text

        with self._database.begin() as connection:
            return bool(connection.execute(text(statement), {"study": self.study, **values}).rowcount > 0)

    def _read(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        from sqlalchemy import text

        with self._database.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query), {"study": self.study, **values})]


def read_outcomes(path: Path, study: str = "search") -> list[Outcome]:
    """The candidates of a study in a file, whatever it is of."""
    from sqlalchemy import text

    with _connect(f"sqlite:///{path}").connect() as connection:
        found = connection.execute(
            text("SELECT about FROM plait_studies WHERE study = :study"), {"study": study}
        ).scalar()
    if found is None:
        raise InputError(f"{path} holds no study '{study}'")
    claims = Claims(f"sqlite:///{path}", study, found)
    outcomes = claims.outcomes()
    claims.close()
    return outcomes


_TABLES = """
CREATE TABLE IF NOT EXISTS plait_studies (study VARCHAR(200) PRIMARY KEY, about TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS plait_candidates (
    study VARCHAR(200) NOT NULL, key TEXT NOT NULL, point TEXT NOT NULL, owner TEXT NOT NULL,
    state VARCHAR(20) NOT NULL, trial INTEGER NOT NULL, outcome TEXT NOT NULL, PRIMARY KEY (study, key)
);
CREATE TABLE IF NOT EXISTS plait_rungs (
    study VARCHAR(200) NOT NULL, key TEXT NOT NULL, rung INTEGER NOT NULL, score FLOAT NOT NULL,
    PRIMARY KEY (study, key, rung)
)
"""


def _connect(url: str) -> Engine:
    try:
        from sqlalchemy import create_engine, text
        from sqlalchemy.exc import SQLAlchemyError
        from sqlalchemy.pool import StaticPool
    except ImportError as error:
        raise MissingExtraError("search (packages 'optuna' and 'sqlalchemy')", "search") from error
    options: dict[str, Any] = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
    if url == "sqlite://":
        options["poolclass"] = StaticPool
    try:
        database = create_engine(url, **options)
        if url.startswith("sqlite:///"):
            Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
            with database.connect() as connection:
                connection.execute(text("PRAGMA journal_mode = WAL"))  # for all who open the file: workers don't block
        with database.begin() as connection:
            for statement in _TABLES.split(";"):
                connection.execute(text(statement))
    except (SQLAlchemyError, ImportError, OSError) as error:
        raise DataError(f"the study's database {url} can't be opened: {str(error).splitlines()[0]}") from error
    return database


def _me() -> str:
    return json.dumps({"host": socket.gethostname(), **this_process()}, sort_keys=True)


def _is_gone(owner: str) -> bool:
    """Whether a worker's process has ended. Nobody can tell that of another machine's."""
    found = json.loads(owner)
    host = found["host"]
    return not host or (host == socket.gethostname() and started(found["pid"]) != found["started"])

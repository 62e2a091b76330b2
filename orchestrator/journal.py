"""The journal: the durable record of runs in one SQLite file (DESIGN.md §6). Rows are only ever appended."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ..errors import InputError, JournalError
from .records import NODE, Record, RunRecord
from .values import write_value
from .writer import Writer

if TYPE_CHECKING:
    from .past import Past

SCHEMA = 1
_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE runs (
    run TEXT PRIMARY KEY, at REAL, graph TEXT, definition TEXT, inputs TEXT, engine TEXT, capabilities TEXT,
    seed INTEGER, cache TEXT, parent TEXT, source TEXT
) WITHOUT ROWID;
CREATE TABLE records (
    sequence INTEGER PRIMARY KEY, run TEXT NOT NULL, path TEXT NOT NULL, sample INTEGER NOT NULL, state TEXT NOT NULL,
    kind TEXT, title TEXT, input TEXT, value TEXT, idempotent INTEGER, reuse TEXT, usage TEXT, at REAL
);
CREATE INDEX by_run ON records (run, sequence);
CREATE INDEX by_reuse ON records (reuse) WHERE reuse != '';
"""
_RUN = "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_RECORD = (
    "INSERT INTO records (run, path, sample, state, kind, title, input, value, idempotent, reuse, usage, at) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_COLUMNS = "path, sample, state, kind, title, input, value, idempotent, reuse, usage, at"
SPENT = frozenset({"prompt", "generated", "prefilled", "cached", "recomputed", "calls", "cost"})
"""What of a usage adds up over runs."""
_WAIT_SECONDS = 30.0
"""How long a process waits for another one's commit."""


class Journal:
    """Records runs in a file, `with Journal("runs.db") as journal: graph.run_sync(…, journal=journal)`.

    Several runs and several processes may share it. `resume`, `fork` and `replay` give what a run goes on from, to be
    passed as `journal=`. Raises JournalError for a file that is no journal or of another schema.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.active: set[str] = set()
        """The runs that go on in this process."""
        self._lock = Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._reader = self._connect()
            self._check_schema()
        except (OSError, sqlite3.Error) as error:
            raise JournalError(f"journal {self.path} can't be opened: {error}; name another file") from error
        self._writer = Writer(self._connect, str(self.path))

    def close(self) -> None:
        """Commit what was recorded. Idempotent."""
        self._writer.close()
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- reading

    def runs(self) -> list[RunRecord]:
        """All runs, the latest first."""
        self._writer.flush()
        rows = self._read("SELECT * FROM runs ORDER BY at DESC, run")
        query = f"SELECT run, {_COLUMNS} FROM records WHERE path = '' AND sample = ? ORDER BY sequence"
        latest: dict[str, Record] = {}
        owners: dict[str, str] = {}
        for run, *columns in self._read(query, NODE):
            latest[run] = _read_record(columns)
            if latest[run].state == "begun":
                owners[run] = latest[run].value
        unbegun = Record(path="", sample=NODE, state="begun")  # killed before anything of it was on the disk
        return [_read_run(row, latest.get(row[0], unbegun), owners.get(row[0], "{}")) for row in rows]

    def run(self, run: str) -> RunRecord:
        """The run of this id, or of the only id that begins so. Raises JournalError."""
        found = [known for known in self.runs() if known.run.startswith(run)] if run else []
        exact = [known for known in found if known.run == run]
        if len(exact or found) != 1:
            what = "no run" if not found else f"{len(found)} runs ({', '.join(known.run for known in found)})"
            raise JournalError(f"journal {self.path} has {what} of id '{run}'; `plait runs` lists them")
        return (exact or found)[0]

    def records(self, run: str) -> list[Record]:
        """The latest record of each operation of a run, in the order in which they were first recorded."""
        self._writer.flush()
        latest: dict[tuple[str, int], Record] = {}
        query = f"SELECT {_COLUMNS} FROM records WHERE run = ? AND path != '' ORDER BY sequence"
        for record in map(_read_record, self._read(query, run)):
            known = latest.get((record.path, record.sample))
            if record.state == "void" and known is not None:
                record = replace(known, state="void" if record.idempotent else "begun")
            latest[record.path, record.sample] = record
        return list(latest.values())

    def uncertain(self, run: str) -> list[Record]:
        """Calls that may have happened, of tools that are not idempotent: begun, and no end is known."""
        return [
            record
            for record in self.records(run)
            if record.state == "begun" and record.sample != NODE and not record.idempotent
        ]

    def reusable(self, reuse: str) -> Record | None:
        """The first finished operation under a key of a cache scope."""
        rows = self._read(
            f"SELECT {_COLUMNS} FROM records WHERE reuse = ? AND state = 'done' ORDER BY sequence LIMIT 1", reuse
        )
        return _read_record(rows[0]) if rows else None

    def spent(self, run: str) -> dict[str, float]:
        """What an engine and tools really did for a run: without what it took from other runs of its cache scope."""
        self._writer.flush()
        query = (
            "SELECT kind, value, usage FROM records JOIN runs USING (run) WHERE run = ? AND sample >= 0 "
            "AND state NOT IN ('begun', 'void') "
            "AND (runs.cache = '' OR reuse != '' OR state != 'done' OR kind = 'context')"
        )
        total: dict[str, float] = {}
        for kind, value, usage in self._read(query, run):
            used = json.loads(value)[3] if kind == "context" and value[:1] == "[" else json.loads(usage)
            for name in SPENT & set(used):
                total[name] = total.get(name, 0.0) + used[name]
        return total

    # ---- going on

    def resume(self, run: str) -> Past:
        """Go on with a run that was killed, cancelled or failed: what is recorded is taken from here, not run again."""
        from .past import Past

        found = self.run(run)
        run = found.run
        if run in self.active:
            raise JournalError(f"run {run} is still running; wait for it, or cancel it")
        _check_stopped(found)
        return Past(self, found)

    def fork(self, run: str, *, at: str = "", changes: Mapping[str, Any] | None = None) -> Past:
        """A new run that takes from this one all that is not downstream of a change.

        `at` is the path of a node that runs again, with all that comes after it. `changes` are new values by the name
        of an input or of a node, whose value it then is. Inside a driver, what comes after is what asks otherwise than
        it did: an operation whose inputs are the same is taken from here.
        """
        from .past import Past

        if not at and not changes:
            raise InputError("a fork needs a node to run again, at='NODE', or changes={name: value}")
        return Past(self, self.run(run), fork=True, at=at, changes=dict(changes or {}))

    def replay(self, run: str) -> Past:
        """Run the graph's Python again with every operation answered from here: no engine, no tool, nothing written.

        Raises ReplayError (from the run) where something is asked that is not recorded.
        """
        from .past import Past

        return Past(self, self.run(run), replay=True)

    def resolve(self, run: str, path: str, resolution: str, value: object = None) -> None:
        """Say what became of an uncertain call: `done` with the value it gave, `failed` with a message, or `again`.

        Raises JournalError where there is no such call.
        """
        run = self.run(run).run
        found = [record for record in self.uncertain(run) if record.path == path]
        if not found:
            waiting = ", ".join(record.path for record in self.uncertain(run)) or "none"
            raise JournalError(f"run {run} has no uncertain call '{path}'; uncertain: {waiting}")
        match resolution:
            case "done":
                resolved = replace(found[0], state="done", value=write_value(Any, value) or "")
            case "failed":
                text = json.dumps(["ToolError", str(value or "the call was assumed to have failed")])
                resolved = replace(found[0], state="failed", value=text)
            case "again":
                resolved = replace(found[0], state="void", idempotent=True)
            case _:
                raise InputError(f"resolution '{resolution}' is unknown; use done, failed or again")
        self.put(run, resolved)
        self._writer.flush()

    # ---- writing

    def begin(self, run: RunRecord) -> None:
        """Record a new run."""
        data = (run.inputs, run.engine, run.capabilities, run.seed, run.cache, run.parent, run.source)
        texts = [json.dumps(dict(item)) if isinstance(item, Mapping) else item for item in data]
        self._writer.put(_RUN, (run.run, time.time(), run.graph, run.definition, *texts))

    def put(self, run: str, record: Record) -> None:
        """Record an operation; it's on the disk soon, or when `durable` returns."""
        usage = json.dumps(record.usage) if record.usage else "{}"
        self._writer.put(
            _RECORD,
            (
                run, record.path, record.sample, record.state, record.kind, record.title, record.input, record.value,
                record.idempotent, record.reuse, usage, time.time(),
            ),
        )  # fmt: skip

    async def durable(self) -> None:
        """Wait until all that was recorded is on the disk. Raises JournalError."""
        await self._writer.durable()

    def flush(self) -> None:
        """`durable` for code without an event loop."""
        self._writer.flush()

    # ---- parts

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def _check_schema(self) -> None:
        self._reader.execute("BEGIN IMMEDIATE")
        try:
            tables = {name for (name,) in self._reader.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not tables:
                for statement in filter(str.strip, _TABLES.split(";")):
                    self._reader.execute(statement)
                self._reader.execute("INSERT INTO meta VALUES ('schema', ?)", (SCHEMA,))
                return
            if not {"meta", "runs", "records"} <= tables:
                raise JournalError(f"{self.path} is an SQLite file, but no journal of plait; name another file")
            (version,) = self._reader.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()
            if version != SCHEMA:
                raise JournalError(
                    f"journal {self.path} has schema version {version}; this plait reads {SCHEMA}: name another file, "
                    "or use the plait that wrote it"
                )
        finally:
            self._reader.execute("COMMIT")

    def _read(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._reader.execute(query, values).fetchall()


def this_process() -> dict[str, Any]:
    """What tells this process from all others on this machine."""
    return {"pid": os.getpid(), "started": started(os.getpid())}


def _check_stopped(run: RunRecord) -> None:
    pid = run.owner.get("pid")
    if run.state == "begun" and pid and pid != os.getpid() and started(pid) == run.owner.get("started") != "":
        raise JournalError(f"run {run.run} is still running in process {pid}; wait for it, or end that process")


def started(pid: int) -> str:
    """When a process began, in ticks since the machine did; empty if there is none, or the system does not say."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _read_run(row: Sequence[Any], latest: Record, owner: str) -> RunRecord:
    run, at, graph, definition, inputs, engine, capabilities, seed, cache, parent, source = row
    return RunRecord(
        run=run, at=at, graph=graph, definition=definition, inputs=json.loads(inputs), engine=engine,
        capabilities=json.loads(capabilities), seed=seed, cache=cache, parent=parent, source=json.loads(source),
        owner=json.loads(owner), state=latest.state, value="" if latest.state == "begun" else latest.value,
        usage=latest.usage,
    )  # fmt: skip


def _read_record(row: Sequence[Any]) -> Record:
    path, sample, state, kind, title, input_, value, idempotent, reuse, usage, at = row
    return Record(
        path=path, sample=sample, state=state, kind=kind, title=title, input=input_, value=value,
        idempotent=bool(idempotent), reuse=reuse, usage=json.loads(usage), at=at,
    )  # fmt: skip


__all__ = ["SCHEMA", "Journal", "this_process"]

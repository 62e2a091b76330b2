"""What a run goes on from: an earlier one, as a whole or up to a change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from ..engines.base import Capabilities, Engine
from ..errors import InputError, JournalError
from .compound import graphs_in
from .fingerprint import definition, fingerprint
from .inputs import check_inputs
from .journal import Journal
from .recorded import AbsentEngine
from .recording import Recording
from .records import NODE, Record, RunRecord
from .secret_inputs import secret_inputs
from .values import read_value, write_value

if TYPE_CHECKING:
    from .graph import Graph
    from .redaction import Secrets


@dataclass(frozen=True, slots=True)
class Past:
    """An earlier run, to be passed as `journal=`; made by `Journal.resume`, `fork` and `replay`."""

    journal: Journal
    run: RunRecord
    fork: bool = False
    replay: bool = False
    at: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)

    def engine(self) -> AbsentEngine | None:
        """What stands for the engine in a replay."""
        if not self.run.engine:
            return None
        known: dict[str, Any] = {
            name: frozenset(value) if isinstance(value, list) else value
            for name, value in self.run.capabilities.items()
        }
        return AbsentEngine(self.run.engine, Capabilities(**known))

    def inputs(self, graph: Graph[Any], given: Sequence[object], restore: Any) -> dict[str, Any]:
        """The values that the run began with, and those of changed nodes. Raises JournalError and InputError."""
        if not self.fork and self.run.definition != definition_of(graph):
            raise JournalError(
                f"graph '{graph.name}' is not the one that run {self.run.run} began with; fork the run to have what is "
                "the same in both taken from it"
            )
        names = [node.name for node in graph.inputs]
        continued = sorted(self.changes.keys() & {node.after for node in graph.nodes})
        if continued:
            raise InputError(
                f"'{continued[0]}' can't be given a value: another thought continues its context; fork at it instead"
            )
        wrong = sorted(self.changes.keys() - {node.name for node in graph.nodes})
        if wrong:
            raise InputError(
                f"graph '{graph.name}' has no node '{wrong[0]}' to change; nodes: {', '.join(_names(graph))}"
            )
        values = check_inputs(graph, given or list(self._recorded(graph, restore)))
        values |= check_inputs(graph, [self.changes.get(name, values[name]) for name in names])
        return values | {name: value for name, value in self.changes.items() if name not in names}

    def taken(self, graph: Graph[Any]) -> Taken:
        """What a fork takes from the run."""
        if self.at and self.at.split("/")[0] not in set(_names(graph)):
            raise InputError(
                f"graph '{graph.name}' has no node '{self.at}' to fork at; nodes: {', '.join(_names(graph))}"
            )
        again = set(_after(graph, self.at.split("/"), "")) if self.at else set[str]()
        for name in self.changes:
            again |= set(_descendants(graph, name))
        records = {(record.path, record.sample): record for record in self.journal.records(self.run.run)}
        parts = self.at.split("/") if self.at else []
        return Taken(records, frozenset(again), frozenset("/".join(parts[:end]) for end in range(1, len(parts))))

    def _recorded(self, graph: Graph[Any], restore: Any) -> Iterator[Any]:
        for node in graph.inputs:
            if node.name in self.changes:
                yield self.changes[node.name]
                continue
            text = self.run.inputs.get(node.name)
            if text is None:
                raise JournalError(
                    f"input '{node.name}' of run {self.run.run} is not in its record: it is secret, or has no JSON; "
                    "pass the inputs again"
                )
            yield read_value(node.type, restore(text))


@dataclass(frozen=True, slots=True)
class Taken:
    """The records that a fork may take: none in `again` or below, of `around` only single operations."""

    records: Mapping[tuple[str, int], Record]
    again: frozenset[str]
    around: frozenset[str]

    def find(self, path: str, sample: int) -> Record | None:
        record = self.records.get((path, sample))
        if record is None or record.state not in ("done", "failed", "left", "begun"):
            return None
        if sample == NODE and (record.state != "done" or path in self.around):
            return None
        parts = path.split("/")
        if any("/".join(parts[:end]) in self.again for end in range(1, len(parts) + 1)):
            return None
        return record


def _names(graph: Graph[Any]) -> Iterator[str]:
    return (node.name for node in graph.nodes)


def _descendants(graph: Graph[Any], name: str) -> Iterator[str]:
    """The nodes that wait for a node, directly or not."""
    found = {name}
    grown = True
    while grown:
        grown = False
        for node in graph.nodes:
            if node.name not in found and not found.isdisjoint(node.sources):
                found.add(node.name)
                grown = True
                yield node.name


def _after(graph: Graph[Any], parts: Sequence[str], above: str) -> Iterator[str]:
    """The paths of a node and of all that comes after it, in its graph and in those around it."""
    name, rest = parts[0], parts[1:]
    for after in _descendants(graph, name):
        yield above + after
    yield from [above + "/".join(parts)]
    node = next((node for node in graph.nodes if node.name == name), None)
    for _, inner in graphs_in(node) if node is not None else ():
        known = set(_names(inner))
        for index, part in enumerate(rest):
            if part in known:
                yield from _after(inner, rest[index:], above + "/".join([name, *rest[:index]]) + "/")
                break


def record_run(
    graph: Graph[Any],
    journal: Journal | Past,
    inputs: Mapping[str, Any],
    *,
    engine: Engine | None,
    seed: int,
    cache: str,
    source: Mapping[str, Any],
    secrets: Secrets,
) -> Recording:
    """Begin the record of a run, or go on with that of an earlier one."""
    past = journal if isinstance(journal, Past) else None
    if past is not None and not past.fork:
        return Recording(
            past.journal,
            past.run.run,
            secrets,
            known=past.journal.records(past.run.run),
            only_replay=past.replay,
            cache=past.run.cache,
            same_engine=engine is None or engine.name == past.run.engine,
        )
    book = journal if isinstance(journal, Journal) else journal.journal
    kinds = {node.name: node.type for node in graph.inputs}
    secret = secret_inputs(graph)
    written = {
        name: None if name in secret else write_value(kinds[name], value)
        for name, value in inputs.items()
        if name in kinds
    }
    run = RunRecord(
        run=token_hex(6),
        graph=graph.name,
        definition=definition_of(graph),
        inputs={name: text if text is None else secrets.hide(text) for name, text in written.items()},
        engine=engine.name if engine is not None else "",
        capabilities=_plain(engine.capabilities) if engine is not None else {},
        seed=seed,
        cache=cache,
        parent=past.run.run if past else "",
        source=source,
    )
    book.begin(run)
    taken = past.taken(graph) if past else None
    same = past is None or engine is None or engine.name == past.run.engine
    return Recording(book, run.run, secrets, taken=taken, cache=cache, same_engine=same)


def definition_of(graph: Graph[Any]) -> str:
    """The fingerprint of a graph: its nodes and its result."""
    return fingerprint([definition(node) for node in graph.nodes], graph.result)


def _plain(capabilities: Capabilities) -> dict[str, Any]:
    return {
        name: sorted(value) if isinstance(value, frozenset) else value for name, value in asdict(capabilities).items()
    }

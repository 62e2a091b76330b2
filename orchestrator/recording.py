"""The recording of one run: what its journal knows already, and what is added (DESIGN.md §6, Journal)."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from ..errors import PlaitError, ReplayError
from ..usage import Usage
from .fingerprint import UNKNOWN, deep_fingerprint, fingerprint
from .journal import Journal, this_process
from .records import NODE, Record, State
from .signature import NO_NAMES, return_type

if TYPE_CHECKING:
    from .past import Taken
    from .redaction import Secrets

_OPERATION = ("done", "failed", "left", "begun")
"""States of an operation that answer when it is asked again; of a node as a whole, only `done` does."""


class Recording:
    """Answers operations from the journal and adds those that are new.

    `known` are the run's own records, `taken` those that a fork takes from its parent. With `only_replay` an operation
    that is not known is an error, and nothing is written. `cache` names a scope across runs.
    """

    def __init__(
        self,
        journal: Journal,
        run: str,
        secrets: Secrets,
        *,
        known: list[Record] = [],  # noqa: B006
        taken: Taken | None = None,
        only_replay: bool = False,
        cache: str = "",
        same_engine: bool = True,
    ) -> None:
        self.journal = journal
        self.run = run
        self.secrets = secrets
        self.same_engine = same_engine
        self.uncertain: list[str] = []
        """Paths of the calls that were met and may have happened."""
        self._known = {(record.path, record.sample): record for record in known}
        self._taken = taken
        self._settled = any(record.sample == NODE and record.state == "left" for record in known)
        self.only_replay = only_replay
        self._cache = cache
        self._asked: Counter[str] = Counter()
        self._failed: list[tuple[str, int]] = []
        self._returns: dict[int, Any] = {}

    def begin(self) -> None:
        """The run is on its way in this process."""
        if self._cache:
            self.journal.flush()  # what a run before has put is found by this one
        self.journal.active.add(self.run)
        self._keep_run("begun", json.dumps(this_process()), Usage())

    def end(self, state: State, value: str, usage: Usage) -> None:
        """The run has ended, with a value or an error as text."""
        self.journal.active.discard(self.run)
        self._keep_run(state, value, usage)

    def returns(self, function: Any) -> Any:
        """The type that a function promises."""
        found = self._returns.get(id(function))
        if found is None:
            found = self._returns[id(function)] = return_type(function, NO_NAMES)
        return found

    def reuse(self, *asked: object) -> str:
        """The key under which the same, asked for the n-th time in a run, is found in the run's cache scope; empty
        without a scope, or where equal things can't be told from others."""
        if not self._cache:
            return ""
        key = deep_fingerprint(*asked)
        if key.startswith(UNKNOWN) or any(isinstance(part, str) and part.startswith(UNKNOWN) for part in asked):
            return ""
        self._asked[key] += 1
        return fingerprint(self._cache, key, self._asked[key])

    def find(self, path: str, sample: int, input_: str, reuse: str = "") -> Record | None:
        """What is known of an operation. Raises ReplayError where it was recorded with other inputs."""
        record = self._known.get((path, sample))
        if record is not None and record.state in (("done",) if sample == NODE else _OPERATION):
            if record.input != input_ and not (sample == NODE and self._settled):
                raise ReplayError(
                    f"node '{path}' asks otherwise than run {self.run} recorded: the graph has changed, or the node "
                    "does not do the same when it runs again; fork the run instead"
                )
            if record.input == input_:
                return record
        record = self._from_elsewhere(path, sample, input_, reuse)
        if record is not None:
            self.keep(replace(record, path=path, sample=sample, input=input_, reuse=""))
        elif self.only_replay and sample != NODE:
            raise ReplayError(f"run {self.run} has no record of operation {sample} of node '{path}'")
        return record

    def keep(self, record: Record) -> None:
        """Add a record, unless it is there already."""
        known = self._known.get((record.path, record.sample))
        again = known is not None and known.state == record.state == "done" and known.input == record.input
        if again or self.only_replay:
            return
        value, title = self.secrets.hide(record.value), self.secrets.hide(record.title)
        if value is not record.value or title is not record.title:
            record = replace(record, value=value, title=title)
        self._known[record.path, record.sample] = record
        self.journal.put(self.run, record)

    def read(self, record: Record) -> str:
        """A record's value, with the secrets in it that the environment knows."""
        return self.secrets.restore(record.value)

    async def durable(self) -> None:
        """Wait until what was recorded is on the disk."""
        await self.journal.durable()

    def failing(self, error: BaseException, path: str = "", sample: int = NODE) -> None:
        """Note when an error was first seen, and the operation that failed with it."""
        if not hasattr(error, "plait_since"):
            error.plait_since = len(self._failed)  # type: ignore[attr-defined]
        if path:
            self._failed.append((path, sample))

    def void(self, error: BaseException | None) -> None:
        """Take back the operation whose failure ended the run, and those that failed after it, before the run stood
        still: they are tried again when it is resumed. A call that is not idempotent and failed may have happened all
        the same: it is uncertain then. What failed before was handled, and has to be the same again."""
        since = len(self._failed)
        while error is not None:
            since = min(since, getattr(error, "plait_since", since))
            error = error.__cause__
        for place in self._failed[since:]:
            known = self._known.get(place)
            if known is not None and known.state == "failed":
                self.keep(replace(known, state="void"))

    def _keep_run(self, state: State, value: str, usage: Usage) -> None:
        if not self.only_replay:
            record = Record(path="", sample=NODE, state=state, kind="run", value=value, usage=as_mapping(usage))
            self.journal.put(self.run, replace(record, value=self.secrets.hide(value)))

    def _from_elsewhere(self, path: str, sample: int, input_: str, reuse: str) -> Record | None:
        record = self._taken.find(path, sample) if self._taken is not None else None
        if record is not None and record.input == input_:
            return record
        return self.journal.reusable(reuse) if reuse else None


def write_error(error: PlaitError) -> str:
    """An error as a record's value."""
    return json.dumps([type(error).__name__, str(error)])


def read_error(text: str) -> PlaitError:
    """The error in a record's value: of its class, or of the nearest one above it that is made of a message."""
    name, message = json.loads(text)
    found = getattr(sys.modules[PlaitError.__module__], name, PlaitError)
    for kind in found.__mro__ if issubclass(found, PlaitError) else ():
        with suppress(TypeError):
            return cast(PlaitError, kind(message))
    return PlaitError(message)


def as_mapping(usage: Any) -> Mapping[str, float]:
    """A usage without what is zero."""
    return {name: amount for name, amount in usage.as_dict().items() if amount}

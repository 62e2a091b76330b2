"""Events as JSON lines: one object an event, for tools of one's own and to go on reading where one stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from pydantic_core import to_jsonable_python

from ..errors import DataError
from . import events
from .events import Event
from .wording import summarise

_TYPES = {kind.__name__: kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event)}


class EventFile:
    """A listener that appends a run's events to a file: `with EventFile(path) as file: graph.run(…, listeners=[file])`.

    Each line is `{"event": "NodeStarted", "sequence": 3, …}` and is on disk as soon as the event is.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        # A model can write half of a surrogate pair: JSON's own escape for it is what "backslashreplace" writes.
        self._file = self._path.open("a", encoding="utf-8", errors="backslashreplace", buffering=1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def __call__(self, event: Event) -> None:
        if self._file is not None:
            self._file.write(json.dumps(event_dict(event), ensure_ascii=False) + "\n")


def event_dict(event: Event) -> dict[str, Any]:
    """An event as JSON values; what a driver noted and JSON can't hold is there as text."""
    values = to_jsonable_python(asdict(event), fallback=summarise)
    return {"event": type(event).__name__, **values}


def read_events(path: str | Path, *, after: int = -1) -> Iterator[dict[str, Any]]:
    """The events of a file that come after number `after`, in order; a last line that is not whole yet is left out.

    Raises DataError, naming the line, for what is no event.
    """
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                event = json.loads(line.decode())
                known = event["event"] in _TYPES and isinstance(event["sequence"], int)
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise DataError(f"{path}:{number}: no event: {error}; is this a file of plait's events?") from error
            if not known:
                raise DataError(f"{path}:{number}: unknown event {event['event']!r:.80}; is it another plait's?")
            if event["sequence"] > after:
                yield event

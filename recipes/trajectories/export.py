"""Export: recorded runs as chat data for training, with all that the model did not write masked."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from ...orchestrator import Journal
from ...orchestrator.transcript import Part, Transcript, transcripts


def export(journal: Journal, run: str) -> Iterator[dict[str, Any]]:
    """The conversations of a run, each a line of a training file, in the format that its recipe speaks.

    Messages have a `weight`: 1 for what the model wrote, 0 for what it was given. A result that was inserted while the
    model's turn went on, as in a task tree, is a message of the role `tool` between two of the assistant's; joined, the
    messages of a turn are what the model saw. Raises JournalError for a run that isn't in the journal.
    """
    record = journal.run(run)
    for transcript in transcripts(journal.records(record.run)):
        yield {
            "run": record.run,
            "graph": record.graph,
            "state": record.state,
            "path": transcript.path,
            "messages": messages(transcript),
        }


def messages(transcript: Transcript) -> list[dict[str, Any]]:
    """The parts as chat messages; what the model wrote in one go is one message."""

    def kind(part: Part) -> tuple[str, bool, int]:
        alone = not (part.written or part.role == "tool")
        return part.role, part.written, transcript.parts.index(part) if alone else 0

    return [
        {"role": role, "content": "".join(part.text for part in group), "weight": int(written)}
        for (role, written, _), group in groupby(transcript.parts, key=kind)
    ]

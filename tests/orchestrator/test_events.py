"""The event stream: consumers never block the run and lose nothing but the seams between texts."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from plait.orchestrator.events import Event, EventLog, EventQueue, NodeNote, NodeText

pytestmark = pytest.mark.anyio


def text(sequence: int, path: str = "a") -> NodeText:
    return NodeText(sequence=sequence, at=0.0, path=path, text=f"{sequence} ", tokens=1)


async def test_a_reader_that_is_behind_gets_merged_text() -> None:
    queue = EventQueue()
    count = 5 * EventQueue.MERGE_FROM
    for sequence in range(count):
        queue(text(sequence))
    queue(NodeNote(sequence=count, at=0.0, path="a", name="x", data=None))
    queue(text(count + 1, path="b"))
    queue.close()
    events = [event async for event in queue]
    assert len(events) == EventQueue.MERGE_FROM + 2
    texts = [event for event in events if isinstance(event, NodeText) and event.path == "a"]
    assert "".join(event.text for event in texts) == "".join(f"{sequence} " for sequence in range(count))
    assert sum(event.tokens for event in texts) == count
    assert [event.sequence for event in events] == sorted(event.sequence for event in events)


async def test_a_reader_waits_for_events_and_for_the_end() -> None:
    queue, got = EventQueue(), list[Event]()

    async def read() -> None:
        async for event in queue:
            got.append(event)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(read)
            for sequence in range(3):
                queue(text(sequence))
                await anyio.wait_all_tasks_blocked()
                assert len(got) == sequence + 1
            queue.close()


def test_events_are_made_only_for_listeners() -> None:
    log, seen = EventLog(), list[Any]()
    log.emit(NodeNote, wrong="fields")
    log.listen(seen.append)
    log.emit(NodeNote, path="a", name="x", data=1)
    log.emit(NodeNote, path="a", name="y", data=2)
    assert [(event.sequence, event.name) for event in seen] == [(0, "x"), (1, "y")]

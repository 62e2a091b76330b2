"""A researcher who searches a folder of notes, all at once, and then reads what she found.

A script plays the model, so that this prints the same everywhere; `folder_researcher.py ENGINE FOLDER QUESTION` asks a
model of yours about files of yours.
"""

import sys
import tempfile
from pathlib import Path

import plait
from plait.engines.scripted import ScriptedEngine
from plait.orchestrator import Event, NodeStarted
from plait.recipes.formats import ToolCall, find_format

NOTES = {
    "ferry.md": "# Ferry\n\nThe ferry to Chiloé leaves Pargua at nine, every day but Sunday.\n",
    "bus.md": "# Bus\n\nThe bus from Puerto Montt takes two hours to Pargua; the first one leaves at six.\n",
    "rooms.md": "# Rooms\n\nAnn has a room in Ancud. Call her the day before.\n",
}
QUESTION = "When must I leave Puerto Montt to get the ferry?"


def scripted_model() -> ScriptedEngine:
    """Asks two questions at once, then answers."""
    form = find_format("hermes")
    queries = ["ferry leaves", "bus Puerto Montt"]
    ask = form.say([ToolCall("", "search_files", {"query": query}) for query in queries])
    return ScriptedEngine([ask, form.conclude("At six: the bus takes two hours, and the ferry leaves at nine.")])


def show(event: Event) -> None:
    if isinstance(event, NodeStarted) and event.kind == "call":
        print("asks", event.title)


def main() -> None:
    engine, folder, question = sys.argv[1:] or (scripted_model(), tempfile.mkdtemp(), QUESTION)
    if len(sys.argv) == 1:
        for name, text in NOTES.items():
            Path(folder, name).write_text(text, encoding="utf-8")
    agent = plait.recipes.agent([plait.tools.file_search(folder)], format="hermes")
    print(agent.run_sync(question, engine=engine, listeners=[show]))


if __name__ == "__main__":
    main()

"""An agent that survives a crash: it is killed −9 in the middle of its work, and goes on where it was.

Run it: it starts itself as a process of its own, which is killed while the third letter is on its way, and another that
goes on. What was sent is not sent again, what the model has said is not asked for again, and what may have happened is
reported: somebody has to say what became of it.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import plait
from plait.engines.scripted import ScriptedEngine
from plait.recipes.formats import ToolCall, find_format

FORM = find_format("hermes")
PEOPLE = ["Ann", "Bob", "Cem", "Dan"]


@plait.tool(cap=1)
def send(to: str) -> str:
    """Send an invitation."""
    if to == "Cem" and "again" not in sys.argv:
        print("the power fails", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    print(f"sent to {to}", flush=True)
    return "sent"


def work(folder: Path) -> None:
    """Begin the run, or go on with the one that the journal has."""
    engine = ScriptedEngine([FORM.say([ToolCall("", "send", {"to": name}) for name in PEOPLE]), "All are invited."])
    agent = plait.recipes.agent([send], format="hermes")
    with plait.Journal(folder / "runs.db") as journal:
        if not journal.runs():
            agent.run_sync("Invite them all.", engine=engine, journal=journal)
        run = journal.runs()[0].run
        for record in journal.uncertain(run):
            print("may have happened:", record.title)
            journal.resolve(run, record.path, "again")
        print(agent.run_sync(engine=engine, journal=journal.resume(run)))
    print("asked of the model:", engine.calls, "of 2 times", flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for words in ([], ["again"]):
            done = subprocess.run([sys.executable, __file__, folder, *words], check=False)
            print("ended by signal 9" if done.returncode == -signal.SIGKILL else "ended well", flush=True)


if __name__ == "__main__":
    work(Path(sys.argv[1])) if len(sys.argv) > 1 else main()

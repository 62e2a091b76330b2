"""Two workers who see each other's steps while they write them (Hogwild! Inference).

A script plays both: the engine's K/V, the steps and the moment at which one is asked whether its work is redundant are
real. Give the name of an engine that has teams, such as local:MODEL_DIR, to let a model of yours work.
"""

import sys

import plait
from plait.engines.scripted import ScriptedEngine
from plait.orchestrator import Event, NodeFinished

TASK = "Add the numbers from 1 to 100."
STEPS = [
    "I pair them: 1 with 100, 2 with 99, and so on.\n\nThere are 50 pairs.",
    "Alice pairs them. Each pair makes 101.\n\nSo it is 50 times 101, which is 5050.",
    " 5050}",
]


def show(event: Event) -> None:
    """What each has said, when it is through."""
    if isinstance(event, NodeFinished) and "workers/" in event.path:
        print(event.summary.replace("\n\n", "\n"))


def main() -> None:
    engine = sys.argv[1] if len(sys.argv) > 1 else ScriptedEngine(STEPS)
    team = plait.recipes.hogwild(workers=2)
    print("answer:", team.run_sync(TASK, engine=engine, listeners=[show]))


if __name__ == "__main__":
    main()

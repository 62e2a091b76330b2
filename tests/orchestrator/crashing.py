"""The program of the crash test: a graph of 300 nodes that is killed again and again, and resumed.

`python crashing.py FOLDER` begins the run, or goes on with it, resolves what is uncertain by what the tools have
written, and prints the value.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import anyio

import plait
from plait.engines.scripted import Reply, ScriptedEngine
from plait.orchestrator import Builder, Scope

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else ".")


def note(kind: str, what: object) -> None:
    """Append a line to a file at once: this is the effect that is seen outside."""
    with (FOLDER / f"{kind}.txt").open("a") as file:
        file.write(f"{what}\n")


def noted(kind: str) -> list[str]:
    path = FOLDER / f"{kind}.txt"
    return path.read_text().split() if path.exists() else []


@plait.tool(idempotent=True, cap=4)
async def look(number: int) -> int:
    """May be repeated."""
    await anyio.sleep(0.001)
    note("look", number)
    return number + 1


@plait.tool(idempotent=True)
async def climb(number: int) -> int:
    """One step of a loop; several loops may take the same one."""
    await anyio.sleep(0.001)
    return number + 1


@plait.tool(cap=4)
async def pay(number: int) -> int:
    """Must not be repeated."""
    note("pay", number)
    await anyio.sleep(0.001)
    return number * 2


def add(numbers: list[int]) -> int:
    note("add", sum(numbers))
    return sum(numbers)


def grow(g: Builder, number: int) -> int:
    return g.call(climb, number=number)


def enough(number: int) -> bool:
    return number % 5 == 0


step = plait.graph(name="step")(grow)


async def drive(scope: Scope, start: int) -> int:
    """Grows a node for each thought and call."""
    context = await scope.start(f"count from {start}: ")
    total = 0
    for turn in range(4):
        written = await scope.generate(context, title=f"turn {turn}", stop=[";"])
        outcomes = await scope.settle(
            [(look, {"number": 1000 * start + 10 * turn}), (pay, {"number": 1000 * start + 10 * turn})]
        )
        total += len(written.text) + sum(outcome.value for outcome in outcomes)
        context = await scope.extend(written.context, f"[{total}]")
    return total


@plait.graph
def build(g: Builder, start: int) -> list[int]:
    results: list[Any] = []
    for row in range(12):
        thought: Any = g.think("Row {row} from {start}", row=row, start=start, name=f"thought_{row}")
        again = g.think("Go on", after=thought, name=f"again_{row}")
        size = g.function(lambda a, b: len(a) + len(b), a=thought, b=again, name=f"size_{row}")
        paid = g.call(
            pay, number=g.function(lambda size, row: 100 * row + size, size=size, row=row), name=f"paid_{row}"
        )
        found = g.map(look, [row * 10 + column for column in range(10)], name=f"found_{row}")
        looped = g.loop(step, paid, until=enough, at_most=6, name=f"loop_{row}")
        driven = g.drive(drive, start=paid, name=f"driven_{row}") if row % 3 == 0 else paid
        total = g.function(add, numbers=[paid, looped, driven, g.function(add, numbers=found, name=f"sum_{row}")])
        results.append(total)
    return results


def engine() -> ScriptedEngine:
    rules = {"Row": "one two three", "Go on": "four five", "count": "six; seven; eight; nine; ten;"}
    return ScriptedEngine({key: Reply(text, latency=0.002) for key, text in rules.items()})


def main() -> None:
    with plait.Journal(FOLDER / "journal.db") as journal:
        known = journal.runs()
        for record in journal.uncertain(known[0].run) if known else []:
            number = int(record.title.partition("=")[2].rstrip(")"))
            happened = str(number) in noted("pay")
            note("uncertain", number)
            journal.resolve(known[0].run, record.path, "done" if happened else "again", 2 * number)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        if known:
            value = build.run_sync(engine=engine(), journal=journal.resume(known[0].run))
        else:
            value = build.run_sync(3, engine=engine(), journal=journal)
    sys.stdout.write(json.dumps(value) + "\n")


if __name__ == "__main__":
    main()

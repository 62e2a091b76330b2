"""The tree of a run as its events tell it: what is known of each node, whatever comes in whatever order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ..usage import Usage
from .events import (
    BudgetSpent,
    Event,
    NodeCancelled,
    NodeFailed,
    NodeFinished,
    NodeNote,
    NodeStarted,
    NodeText,
    RunFailed,
    RunFinished,
    RunStarted,
)

State: TypeAlias = Literal["running", "done", "failed", "cancelled"]

TEXT_KEPT = 400
"""Characters of a node's text that are kept: its last ones."""
ITEMS = "items"
"""The note by which a node says how many children it is going to have."""


@dataclass(slots=True, eq=False)
class Branch:
    """One node, or the run itself. Counts are of all that stands below, as far as it is known.

    `began` is in seconds since the run's start; `items` are the children that the node has announced; `states` counts
    its children by their state.
    """

    kind: str
    title: str
    above: Branch | None = None
    began: float = 0.0
    state: State = "running"
    text: str = ""
    note: str = ""
    tokens: int = 0
    calls: int = 0
    cost: float = 0.0
    seconds: float = 0.0
    items: int = 0
    children: list[Branch] = field(default_factory=list)
    states: Counter[State] = field(default_factory=Counter)

    @property
    def ended(self) -> int:
        """How many children have ended."""
        return len(self.children) - self.states["running"]

    @property
    def total(self) -> int:
        """How many children there are to be; 0 where the node has announced none."""
        return max(self.items, len(self.children)) if self.items else 0


class RunTree:
    """Takes events. A node of which nothing was said before (one began to watch late) stands where its path says."""

    def __init__(self) -> None:
        self.run = Branch("run", "")
        self.nodes = 0
        self.ended = 0
        self._branches: dict[str, Branch] = {}

    def take(self, event: Event) -> Branch | None:
        """Take an event in; gives the branch that it speaks of."""
        match event:
            case RunStarted():
                self.run.title = event.graph + (f" on {event.engine}" if event.engine else "")
                return self.run
            case NodeStarted():
                return self._start(event)
            case NodeText():
                branch = self._find(event.path, event.at)
                branch.text = (branch.text + event.text)[-TEXT_KEPT:]
                self._count(branch, event.tokens, 0, 0.0)
                return branch
            case NodeNote():
                return self._note(event)
            case BudgetSpent():
                branch = self._find(event.path, event.at) if event.path else self.run
                branch.note = event.message
                return branch
            case NodeFinished():
                return self._end(event, "done", event.summary)
            case NodeFailed():
                return self._end(event, "failed", event.message)
            case NodeCancelled():
                return self._end(event, "cancelled", "")
            case RunFinished():
                return self._end_run(event, "done", event.summary)
            case RunFailed():
                return self._end_run(event, "cancelled" if event.error == "Cancelled" else "failed", event.message)
        return None

    def _start(self, event: NodeStarted) -> Branch:
        branch = self._branches.get(event.path)
        if branch is None:
            branch = self._add(event.path, self._branches.get(event.parent), event.at)
        branch.kind, branch.title = event.kind, event.title
        return branch

    def _note(self, event: NodeNote) -> Branch:
        branch = self._find(event.path, event.at)
        if event.name == ITEMS and isinstance(event.data, int) and event.data > 0:
            branch.items += event.data
        return branch

    def _end(self, event: NodeFinished | NodeFailed | NodeCancelled, state: State, text: str) -> Branch:
        branch = self._find(event.path, event.at)
        if branch.state == "running":
            self.ended += 1
            if branch.above is not None:
                branch.above.states["running"] -= 1
                branch.above.states[state] += 1
            branch.state = state
        branch.seconds = event.seconds
        branch.text = text or branch.text
        self._settle(branch, event.usage)
        return branch

    def _end_run(self, event: RunFinished | RunFailed, state: State, text: str) -> Branch:
        self.run.state, self.run.text, self.run.seconds = state, text, event.seconds
        self._settle(self.run, event.usage)
        return self.run

    def _find(self, path: str, at: float) -> Branch:
        return self._branches.get(path) or self._add(path, self._branches.get(path.rpartition("/")[0]), at)

    def _add(self, path: str, above: Branch | None, at: float) -> Branch:
        """A branch is hung once, below one that hangs already: there is no way round in a circle."""
        above = above or self.run
        branch = self._branches[path] = Branch("node", path, above, at)
        above.children.append(branch)
        above.states["running"] += 1
        self.nodes += 1
        return branch

    def _settle(self, branch: Branch, usage: Usage) -> None:
        """What a node has used in all takes the place of what was counted of it."""
        self._count(branch, usage.generated - branch.tokens, usage.calls - branch.calls, usage.cost - branch.cost)

    def _count(self, branch: Branch, tokens: int, calls: int, cost: float) -> None:
        """Add to a node and to all that hold it and have not said yet what they used in all."""
        at: Branch | None = branch
        while at is not None:
            if at is branch or at.state == "running":
                at.tokens += tokens
                at.calls += calls
                at.cost += cost
            at = at.above

"""A run's tree in the terminal, fed by events alone: live where there is a terminal, lines where there is none."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from .events import (
    Event,
    NodeCancelled,
    NodeFailed,
    NodeFinished,
    NodeStarted,
    NodeText,
    RunFailed,
    RunFinished,
    RunStarted,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text
    from rich.tree import Tree

TEXT_SHOWN = 100
REFRESHES_PER_SECOND = 12


@dataclass(slots=True)
class Branch:
    """What the display knows of one node."""

    kind: str
    title: str
    state: str = "running"
    text: str = ""
    tokens: int = 0
    seconds: float = 0.0
    children: list[str] = field(default_factory=list)


class Display:
    """Shows events in `with Display() as display: display.show(event)`; all output goes to stderr.

    `enabled=False` shows nothing; `console` is a rich console to write to.
    """

    def __init__(self, *, enabled: bool = True, console: Console | None = None) -> None:
        self._enabled = enabled
        self._console = console
        self._live: Live | None = None
        self._heading = ""
        self._roots: list[str] = []
        self._branches: dict[str, Branch] = {}

    def __enter__(self) -> Self:
        if not self._enabled:
            return self
        from rich.console import Console
        from rich.live import Live

        if self._console is None:
            self._console = Console(file=sys.stderr, highlight=False)
        if self._console.is_terminal:
            self._live = Live(
                console=self._console,
                get_renderable=self.tree,
                refresh_per_second=REFRESHES_PER_SECOND,
                vertical_overflow="ellipsis",
            )
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live is not None:
            self._live.vertical_overflow = "visible"
            self._live.stop()
            self._live = None

    def __call__(self, event: Event) -> None:
        self.show(event)

    def show(self, event: Event) -> None:
        """Take an event into the tree."""
        if not self._enabled:
            return
        self._take(event)
        if self._live is None and self._console is not None:
            line = self._line(event)
            if line:
                self._console.print(line, markup=False, soft_wrap=True)

    def tree(self) -> Tree:
        """The tree as it stands."""
        from rich.text import Text
        from rich.tree import Tree

        tree = Tree(Text(self._heading, style="bold"), guide_style="dim")
        stack = [(tree, path) for path in reversed(self._roots)]
        while stack:
            parent, path = stack.pop()
            branch = self._branches[path]
            node = parent.add(_label(branch))
            stack += [(node, child) for child in reversed(branch.children)]
        return tree

    def _take(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._heading = event.graph + (f" on {event.engine}" if event.engine else "")
            case NodeStarted():
                self._branches[event.path] = Branch(event.kind, event.title)
                above = self._branches[event.parent].children if event.parent in self._branches else self._roots
                above.append(event.path)
            case NodeText():
                branch = self._branches[event.path]
                branch.text = (branch.text + event.text)[-4 * TEXT_SHOWN :]
                branch.tokens += event.tokens
            case NodeFinished():
                self._end(event, "done", event.summary)
            case NodeFailed():
                self._end(event, "failed", event.message)
            case NodeCancelled():
                self._end(event, "cancelled", "")
            case RunFinished() | RunFailed():
                usage = event.usage
                self._heading += f"  {_counts(usage.generated, event.seconds)}"
                if usage.calls:
                    self._heading += f", {usage.calls} call{'s' if usage.calls > 1 else ''}"

    def _end(self, event: NodeFinished | NodeFailed | NodeCancelled, state: str, text: str) -> None:
        branch = self._branches[event.path]
        branch.state, branch.seconds, branch.tokens = state, event.seconds, event.usage.generated
        branch.text = text or branch.text

    def _line(self, event: Event) -> str:
        """What stands for an event where there is no terminal."""
        match event:
            case RunStarted():
                return self._heading
            case NodeFinished() | NodeFailed() | NodeCancelled():
                branch = self._branches[event.path]
                indent = "  " * (1 + event.path.count("/"))
                return indent + _label(branch).plain
            case RunFinished() | RunFailed():
                return self._heading
            case _:
                return ""


_MARKS = {"running": ("…", "yellow"), "done": ("✓", "green"), "failed": ("✗", "red"), "cancelled": ("-", "dim")}


def _label(branch: Branch) -> Text:
    """One line: state, kind, title, the end of its text or its value, and what it took."""
    from rich.text import Text

    mark, style = _MARKS[branch.state]
    label = Text.assemble((f"{mark} ", style), (f"{branch.kind} ", "dim"), (branch.title, "bold"), no_wrap=True)
    shown = " ".join(branch.text.split())
    if shown:
        arrow = " → " if branch.state == "done" else " ✗ " if branch.state == "failed" else " "
        label.append(arrow, style="dim")
        cut = shown[:TEXT_SHOWN] if branch.state != "running" else shown[-TEXT_SHOWN:]
        label.append(cut, style="red" if branch.state == "failed" else "")
    if branch.state != "running" or branch.tokens:
        label.append(f"  {_counts(branch.tokens, branch.seconds)}", style="dim")
    label.overflow = "ellipsis"
    return label


def _counts(tokens: int, seconds: float) -> str:
    parts = [f"{tokens} tokens"] if tokens else []
    if seconds:
        parts.append(f"{seconds:.1f} s" if seconds >= 0.1 else f"{seconds * 1000:.0f} ms")
    return ", ".join(parts)

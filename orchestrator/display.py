"""A run's tree in the terminal, fed by events alone: live where there is a terminal, lines where there is none."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from .events import BudgetSpent, Event, NodeCancelled, NodeFailed, NodeFinished, RunFailed, RunFinished, RunStarted
from .tree import Branch, RunTree, State

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.live import Live
    from rich.tree import Tree

TEXT_SHOWN = 100
"""Characters of a value in a line where there is no terminal."""
CHILDREN_SHOWN = 12
"""Of more children than these only some are shown: failed, running and latest ones."""
REFRESHES_PER_SECOND = 12
BAR = 12


class Display:
    """Shows events in `with Display() as display: display.show(event)`; all output goes to stderr.

    `enabled=False` shows nothing; `console` is a rich console to write to.
    """

    def __init__(self, *, enabled: bool = True, console: Console | None = None) -> None:
        self._enabled = enabled
        self._console = console
        self._live: Live | None = None
        self._tree = RunTree()
        self._began = 0.0

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
                get_renderable=self._fitting,
                refresh_per_second=REFRESHES_PER_SECOND,
                vertical_overflow="ellipsis",
            )
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live is not None:
            self._live.get_renderable = self.tree  # type: ignore[method-assign]
            self._live.vertical_overflow = "visible"
            self._live.stop()
            self._live = None

    def __call__(self, event: Event) -> None:
        self.show(event)

    def show(self, event: Event) -> None:
        """Take an event into the tree."""
        if not self._enabled:
            return
        if self._tree.nodes == 0:
            self._began = time.perf_counter() - event.at
        branch = self._tree.take(event)
        if self._live is None and self._console is not None and branch is not None:
            line = self._line(event, branch)
            if line:
                self._console.print(line, markup=False, soft_wrap=True)

    def tree(self) -> Tree:
        """The tree as it stands."""
        return self._drawn(0.0, folded=False)[0]

    def _fitting(self) -> Tree:
        """The tree, without what is below ended nodes if it would not fit into the window."""
        now = time.perf_counter() - self._began
        tree, lines = self._drawn(now, folded=False)
        height = self._console.height if self._console is not None else lines
        return tree if lines <= height - 1 else self._drawn(now, folded=True)[0]

    def _drawn(self, now: float, *, folded: bool) -> tuple[Tree, int]:
        """The tree and the number of its lines; `folded` without what is below ended nodes. `now` is 0 in a still."""
        from rich.text import Text
        from rich.tree import Tree

        tree, lines = Tree(self._heading(now), guide_style="dim"), 1
        stack = [(tree, self._tree.run)]
        while stack:
            at, branch = stack.pop()
            if folded and branch.above is not None and branch.state != "running":
                continue
            shown, hidden = chosen(list(branch.children))
            if hidden:
                at.add(Text(_summary(hidden), style="dim", no_wrap=True, overflow="ellipsis"))
            stack += reversed([(at.add(label(child, now)), child) for child in shown])
            lines += len(shown) + bool(hidden)
        return tree, lines

    def _heading(self, now: float) -> Label:
        run, nodes, ended = self._tree.run, self._tree.nodes, self._tree.ended
        mark, style = _mark(run.state, now)
        seconds = run.seconds if run.state != "running" else now if nodes else 0.0
        count = f"{nodes:,} node{'s' if nodes != 1 else ''}" if nodes == ended else f"{ended:,} of {nodes:,} nodes"
        parts = [count] * bool(nodes) + counts(run, seconds, calls_from=1)
        arrow = " ! " if run.note else ""
        return Label([(f"{mark} ", style), (clean(run.title), "bold")], arrow, clean(run.note), "yellow", parts, False)

    def _line(self, event: Event, branch: Branch) -> str:
        """What stands for an event where there is no terminal."""
        match event:
            case RunStarted():
                return clean(branch.title)
            case NodeFinished() | NodeFailed() | NodeCancelled():
                return "  " * (1 + event.path.count("/")) + label(branch, 0.0).plain
            case BudgetSpent():
                return f"  ! {clean(branch.note)}"
            case RunFinished() | RunFailed():
                return self._heading(0.0).plain
            case _:
                return ""


@dataclass(frozen=True, slots=True)
class Label:
    """One line: a head, an arrow and text, and counts.

    Where the terminal is narrow the text gives way first (its front if it is `tailed`), then the counts, last ones
    first.
    """

    head: Sequence[tuple[str, str]]
    arrow: str
    text: str
    style: str
    counts: Sequence[str]
    tailed: bool

    @property
    def plain(self) -> str:
        head = "".join(part for part, _ in self.head)
        return head + self.arrow + self.text[:TEXT_SHOWN] + _joined(self.counts)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.cells import cell_len
        from rich.text import Text

        line = Text.assemble(*self.head, no_wrap=True, overflow="ellipsis", end="")
        fitting = range(len(self.counts), -1, -1)
        room = options.max_width - line.cell_len
        counts = next((text for n in fitting if cell_len(text := _joined(self.counts[:n])) <= room), "")
        fitted = _fit(self.text, room - cell_len(counts) - len(self.arrow), tailed=self.tailed)
        if fitted:
            line.append(self.arrow, style="dim").append(fitted, style=self.style)
        line.append(counts, style="dim")
        yield line


def label(branch: Branch, now: float) -> Label:
    """A node's line: state, kind, title, the end of its text or its value, and what it took."""
    running = branch.state == "running"
    mark, style = _mark(branch.state, now)
    title = clean(branch.title)
    kind = clean(branch.kind)
    head = [(f"{mark} ", style), ("" if title.startswith(kind) else f"{kind} ", "dim"), (title, "bold")]
    if branch.total and running:
        done = BAR * branch.ended // branch.total
        head += [(" " + "━" * done, "green"), ("━" * (BAR - done), "dim"), (f" {branch.ended:,}/{branch.total:,}", "")]
    elif branch.total and branch.ended != branch.states["done"]:
        head += [(f" {branch.states['done']:,}/{branch.total:,}", "yellow")]
    text = clean(branch.text)
    seconds = branch.seconds if not running else elapsed if (elapsed := now - branch.began) >= 1 else 0.0
    taken = counts(branch, seconds, calls_from=2)
    if branch.note:
        head.append((f" ! {clean(branch.note)}", "yellow"))
    arrow = {"done": " → ", "failed": " ✗ "}.get(branch.state, " ")
    return Label(head, arrow if text else "", text, "red" if branch.state == "failed" else "", taken, running)


def chosen(children: Sequence[Branch]) -> tuple[list[Branch], list[Branch]]:
    """Those of a node's children that are shown, and those that are not: failed and running ones go first."""
    if len(children) <= CHILDREN_SHOWN:
        return list(children), []
    third = CHILDREN_SHOWN // 3
    failed = [index for index, child in enumerate(children) if child.state == "failed"][:third]
    running = [index for index, child in enumerate(children) if child.state == "running"][:third]
    first = {*failed, *running}
    latest = [index for index in range(len(children) - 1, -1, -1) if index not in first]
    keep = first | set(latest[: CHILDREN_SHOWN - len(first)])
    shown = [child for index, child in enumerate(children) if index in keep]
    return shown, [child for index, child in enumerate(children) if index not in keep]


def counts(branch: Branch, seconds: float, *, calls_from: int) -> list[str]:
    """What a node took: tokens, calls (if there are so many), cost, time."""
    parts = [f"{branch.tokens:,} token{'s' if branch.tokens != 1 else ''}"] if branch.tokens else []
    if branch.calls >= calls_from:
        parts.append(f"{branch.calls:,} call{'s' if branch.calls != 1 else ''}")
    if branch.cost:
        parts.append(f"cost {branch.cost:,.2f}" if branch.cost >= 1 else f"cost {branch.cost:.3g}")
    if seconds:
        parts.append(_seconds(seconds))
    return parts


def clean(text: str) -> str:
    """A text in one line, without what a terminal would obey."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


_MARKS: dict[State, tuple[str, str]] = {
    "running": ("…", "yellow"),
    "done": ("✓", "green"),
    "failed": ("✗", "red"),
    "cancelled": ("-", "dim"),
}
_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


def _mark(state: State, now: float) -> tuple[str, str]:
    """A mark that turns while the node runs and the tree is live."""
    mark, style = _MARKS[state]
    turning = state == "running" and 0 < now < math.inf
    return (_FRAMES[int(now % 60 * REFRESHES_PER_SECOND) % len(_FRAMES)] if turning else mark), style


def _joined(counts: Sequence[str]) -> str:
    return f"  {', '.join(counts)}" if counts else ""


def _summary(hidden: Iterable[Branch]) -> str:
    states = Counter(child.state for child in hidden)
    return f"… {states.total():,} more: " + ", ".join(f"{count:,} {state}" for state, count in states.items())


def _seconds(seconds: float) -> str:
    if seconds < 0.1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60 or not math.isfinite(seconds):
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def _fit(text: str, cells: int, *, tailed: bool) -> str:
    """As much of a text as there is room for: its beginning, or its end, with the cut marked."""
    from rich.cells import cell_len

    if cell_len(text) <= cells:
        return text
    kept: list[str] = []
    room = cells - 1
    for letter in reversed(text) if tailed else text:
        room -= cell_len(letter)
        if room < 0:
            break
        kept.append(letter)
    if not kept:
        return ""
    return "…" + "".join(reversed(kept)) if tailed else "".join(kept) + "…"

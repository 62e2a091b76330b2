"""What a search has found: tables and a picture of the Pareto front, as PNG and as HTML."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ...errors import MissingExtraError
from ..evaluation.results import markdown
from .claims import Outcome
from .search import HeldOut


def dev_table(outcomes: Sequence[Outcome], most: int = 12) -> str:
    """The best candidates on the dev items, by quality, then tokens; the others are counted by what became of them."""
    done = [outcome for outcome in outcomes if outcome.state == "done"]
    done.sort(key=lambda one: (-one.values["quality"], one.values["tokens"]))
    rows = [
        [
            shown(outcome), f"{outcome.values['quality']:.1%}", f"{outcome.values['tokens']:.0f}",
            f"{outcome.values['critical_path']:.0f}", f"{outcome.values['cost']:.6g}",
            f"{outcome.spent.get('prompt', 0) + outcome.spent.get('generated', 0):.0f}", outcome.note,
        ]
        for outcome in done[:most]
    ]  # fmt: skip
    counts = {state: sum(one.state == state for one in outcomes) for state in ("done", "dropped", "excluded", "failed")}
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    head = ["candidate", "dev score", "tokens", "critical path", "cost", "tokens spent", "note"]
    return f"{markdown(head, rows)}\n{len(outcomes)} candidates: {told or 'none'}"


def held_out_table(found: Sequence[HeldOut]) -> str:
    """Candidates on the held-out items, with intervals."""
    rows = [
        [shown(one.outcome), str(one.quality), f"{one.tokens:.0f}", f"{one.critical_path:.0f}", f"{one.cost:.6g}"]
        for one in found
    ]
    return markdown(["candidate", "held-out score", "tokens", "critical path", "cost"], rows)


def shown(outcome: Outcome) -> str:
    """A candidate in a line."""
    return " ".join(f"{name}={value}" for name, value in outcome.point.items())


def draw_front(
    outcomes: Sequence[Outcome], front: Sequence[Outcome], folder: Path, *, across: str = "tokens"
) -> list[Path]:
    """The candidates by quality and by what they use, the front as a line: pareto.png and pareto.html."""
    return [
        _draw_png(outcomes, front, folder / "pareto.png", across),
        _draw_html(outcomes, front, folder / "pareto.html", across),
    ]


def _draw_png(outcomes: Sequence[Outcome], front: Sequence[Outcome], path: Path, across: str) -> Path:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("pictures (package 'matplotlib')", "search") from error
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    done = [outcome for outcome in outcomes if outcome.state == "done"]
    axes.scatter(*_ends(done, across), color="#9aa5b1", s=18, label="candidates")
    axes.plot(
        *_ends(_rising(front, across), across),
        color="#0b6e99",
        marker="o",
        drawstyle="steps-post",
        label="Pareto front",
    )
    axes.set_xlabel(across.replace("_", " ") + " an item")
    axes.set_ylabel("score on the dev items")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    return path


def _draw_html(outcomes: Sequence[Outcome], front: Sequence[Outcome], path: Path, across: str) -> Path:
    try:
        from plotly import graph_objects, io
    except ImportError as error:
        raise MissingExtraError("pictures (package 'plotly')", "search") from error
    done = [outcome for outcome in outcomes if outcome.state == "done"]
    rising = _rising(front, across)
    figure = graph_objects.Figure()
    for name, some, mode in (("candidates", done, "markers"), ("Pareto front", rising, "lines+markers")):
        x, y = _ends(some, across)
        texts = [json.dumps(outcome.point, default=str) for outcome in some]
        figure.add_trace(graph_objects.Scatter(x=x, y=y, text=texts, mode=mode, name=name))
    figure.update_layout(xaxis_title=f"{across.replace('_', ' ')} an item", yaxis_title="score on the dev items")
    path.write_text(io.to_html(figure, include_plotlyjs=True), encoding="utf-8")
    return path


def _ends(outcomes: Sequence[Outcome], across: str) -> tuple[list[float], list[float]]:
    return [outcome.values[across] for outcome in outcomes], [outcome.values["quality"] for outcome in outcomes]


def _rising(front: Sequence[Outcome], across: str) -> list[Outcome]:
    """Of a front those that no cheaper one equals in quality, by what they use."""
    kept: list[Outcome] = []
    for outcome in sorted(front, key=lambda one: (one.values[across], -one.values["quality"])):
        if not kept or outcome.values["quality"] > kept[-1].values["quality"]:
            kept.append(outcome)
    return kept

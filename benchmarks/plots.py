"""Pictures of the engine's tables, as PNG."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from plait.benchmarks.table import Table

Row = dict[str, Any]


def draw(tables: Mapping[str, Table], folder: Path) -> list[Path]:
    """Draw what there is a picture for into `folder`; the files."""
    import matplotlib as mpl

    mpl.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, picture in PICTURES.items():
        if name in tables:
            drawn.append(folder / f"{name}.png")
            figure = picture(tables[name].as_dict()["rows"])
            figure.savefig(drawn[-1], dpi=120, bbox_inches="tight")
    return drawn


def _countdown(rows: list[Row]) -> Any:
    figure, panels = _panels(2)
    for panel, column in zip(panels, ("tokens generated", "longest chain"), strict=True):
        for search, of_search in _by(rows, "search").items():
            points = sorted((row[column], float(row["right"].rstrip("%"))) for row in of_search)
            panel.plot(*zip(*points, strict=True), marker="o", label=search)
        panel.set(xlabel=f"{column}, mean of a task", ylabel="right, %", ylim=(0, 100))
        panel.legend()
    figure.suptitle("Countdown, three numbers: one thread beside spawn and join, by budget")
    return figure


def _teams(rows: list[Row]) -> Any:
    models = _by(rows, "model")
    figure, panels = _panels(len(models))
    for panel, (model, of_model) in zip(panels, models.items(), strict=True):
        for way, of_way in _by(of_model, "way").items():
            threads, rates = [row["threads"] for row in of_way], [row["tok/s"] for row in of_way]
            panel.errorbar(threads, rates, [row["± spread"] / 2 for row in of_way], marker="o", capsize=3, label=way)
        panel.set(title=model, xlabel="threads", ylabel="tokens/s", xticks=threads)
        panel.set_ylim(bottom=0)
        panel.legend()
    return figure


def _tim(rows: list[Row]) -> Any:
    families = _by(rows, "tasks")
    figure, panels = _panels(len(families))
    for panel, (family, of_family) in zip(panels, families.items(), strict=True):
        for row in of_family:
            panel.scatter(row["peak"], float(row["right"].rstrip("%")), s=60, label=row["pruning"])
        panel.set(title=family, xlabel="most tokens held at a time, mean", ylabel="right, %", ylim=(0, 105))
        panel.legend()
    return figure


PICTURES: dict[str, Callable[[list[Row]], Any]] = {"countdown": _countdown, "teams": _teams, "tim": _tim}


def _panels(count: int) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6 * count, 4.2))
    panels = figure.subplots(1, count, squeeze=False)[0]
    return figure, list(panels)


def _by(rows: list[Row], column: str) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[column], []).append(row)
    return groups

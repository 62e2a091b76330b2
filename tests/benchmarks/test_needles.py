"""Threads through haystacks: with pruning they are followed where the window would not hold what was read."""

from __future__ import annotations

from pathlib import Path

import pytest

from plait.benchmarks import needles


@pytest.mark.anyio
async def test_pruning_follows_threads_that_the_window_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needles, "WINDOW", 1_600)
    table = await needles.measure(lengths=(1_000, 8_000), tasks=1)
    rows = {(row["kind"], row["haystack"]): row for row in table.as_dict()["rows"]}
    assert len(rows) == 6
    assert all(row["pruned"] == "100%" for row in rows.values())
    assert all(row["peak"] <= needles.LIVE for row in rows.values())
    for kind in ("single", "multi", "branched"):
        assert rows[kind, 1_000]["in the prompt"] == "100%"
        assert rows[kind, 8_000]["in the prompt"] == "0%"
    assert rows["multi", 8_000]["no pruning"] == rows["branched", 8_000]["no pruning"] == "0%"


@pytest.mark.anyio
async def test_any_engine_may_be_measured(tmp_path: Path) -> None:
    """A model that makes no sense scores nothing, and the runs end."""
    (tmp_path / "script.json").write_text('{"The value of": "no idea"}')
    table = await needles.measure(f"scripted:{tmp_path / 'script.json'}", lengths=(500,), tasks=1)
    assert [row["pruned"] for row in table.as_dict()["rows"]] == ["0%"] * 3

"""The benchmark of `shift`: no departure at the first layer, some below, and docs that show what was measured."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from plait.benchmarks.shift_departure import FINISHED, SHARES, SKILLS, finished, measure
from plait.engines.local import LocalEngine

ROOT = Path(__file__).parent.parent.parent


def test_shift_departs_below_the_first_layer_and_more_with_each() -> None:
    shift, depth = measure(traces=2)
    *anywhere, last = shift.rows
    assert [row[:2] for row in anywhere] == [(f"{s:.0%}", n) for s in SHARES for n in (*SKILLS.values(), "all")]
    assert last[1] == FINISHED
    for row in shift.rows:
        tokens, mean, middle, high, same, _ = (float(cell) for cell in row[2:])
        assert tokens > 20
        assert 0 <= middle <= high
        assert mean > 0
        assert 50 < same <= 100
    columns = list(zip(*depth.rows, strict=True))[1:]
    for layers in columns:
        first, *below = (float(cell) for cell in layers)
        assert first < 1e-6, "keys and values of the first layer are a token's own"
        assert below[0] > 1e-2
        assert below == sorted(below)


def test_a_finished_list_is_cut_where_its_brackets_are() -> None:
    tokenizer = Tokenizer.from_file(str(LocalEngine.EMBEDDED / "tokenizer.json"))
    for trace, cut in finished(tokenizer, 5):
        before, gone, after = (
            tokenizer.decode(part, skip_special_tokens=False)
            for part in (trace[: cut.start], trace[cut.start : cut.stop], trace[cut.stop : cut.held])
        )
        assert before.endswith('"subtasks":[')
        assert gone.startswith('{"thought":"')
        assert after.startswith('"}],"conclusion":"')
        assert after.count('"subtasks":[') == 1


def test_the_page_on_shift_shows_the_committed_table() -> None:
    table = (ROOT / "benchmarks/results/shift-cpu.md").read_text().split("```")[1]
    assert table in (ROOT / "docs/shift.md").read_text()
    assert all(f"{share:.0%} pruned" in table for share in SHARES)

"""The page on agents is true: its examples print what it says, and so do the programs that it shows."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "agents.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", PAGE, re.DOTALL)
PROGRAMS = {
    name: (program, printed)
    for name, program, printed in re.findall(
        r"`examples/(\w+)\.py`:\n\n```py\n(.*?)```\n\n```\n(.*?)```", PAGE, re.DOTALL
    )
}


def test_the_examples_print_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for program, expected in EXAMPLES:
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile(program, "example", "exec"), names)
        assert printed.getvalue() == expected
    assert len(EXAMPLES) == PAGE.count("```python") == 3


def test_the_page_shows_every_program() -> None:
    assert sorted(PROGRAMS) == sorted(path.stem for path in (ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_as_the_page_shows_it_and_prints_what_it_says(name: str, tmp_path: Path) -> None:
    path = ROOT / "examples" / f"{name}.py"
    program, printed = PROGRAMS[name]
    assert path.read_text(encoding="utf-8") == program
    assert program.count("\n") < 60
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == printed

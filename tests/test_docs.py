"""The pages are true: their examples run one after the other and print what the page says."""

from __future__ import annotations

import ast
import asyncio
import io
import re
from contextlib import redirect_stdout
from pathlib import Path
from types import CodeType, FunctionType

import pytest

DOCS = Path(__file__).parent.parent / "docs"


async def run(example: str, names: dict[str, object]) -> str:
    """What an example prints; `await` may stand anywhere in it, as in `python -m asyncio`."""
    code: CodeType = compile(example, "example.py", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    printed = io.StringIO()
    with redirect_stdout(printed):
        waiting = FunctionType(code, names)()
        if waiting is not None:
            await waiting
    return printed.getvalue()


@pytest.mark.parametrize("page", ["engine", "engines", "orchestrator", "tools"])
def test_the_examples_print_what_the_page_says(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```\n(?:\n```\n(.*?)```)?", text, re.DOTALL)

    async def all_of_them() -> list[str]:
        names: dict[str, object] = {"__name__": "__main__"}
        return [await run(example, names) for example, _ in examples]

    assert examples
    monkeypatch.chdir(tmp_path)
    assert asyncio.run(all_of_them()) == [printed for _, printed in examples]

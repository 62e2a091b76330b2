"""The engine's page is true: its examples run one after the other and print what the page says."""

from __future__ import annotations

import ast
import asyncio
import io
import re
from contextlib import redirect_stdout
from pathlib import Path
from types import CodeType, FunctionType

PAGE = Path(__file__).parent.parent / "docs" / "engine.md"
EXAMPLES = re.findall(r"```python\n(.*?)```\n(?:\n```\n(.*?)```)?", PAGE.read_text(encoding="utf-8"), re.DOTALL)


async def run(example: str, names: dict[str, object]) -> str:
    """What an example prints; `await` may stand anywhere in it, as in `python -m asyncio`."""
    code: CodeType = compile(example, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    printed = io.StringIO()
    with redirect_stdout(printed):
        waiting = FunctionType(code, names)()
        if waiting is not None:
            await waiting
    return printed.getvalue()


def test_the_examples_print_what_the_page_says() -> None:
    async def all_of_them() -> list[str]:
        names: dict[str, object] = {"__name__": "__main__"}
        return [await run(example, names) for example, _ in EXAMPLES]

    assert asyncio.run(all_of_them()) == [printed for _, printed in EXAMPLES]

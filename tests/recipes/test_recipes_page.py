"""The page on recipes is true: its examples run and print what they should, and no recipe is left out."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

from plait.recipes import RECIPES

PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", PAGE, re.DOTALL)


def test_every_recipe_has_its_place() -> None:
    assert len(EXAMPLES) == PAGE.count("```python") == 10
    assert [name for name in RECIPES if name not in PAGE] == []


@pytest.mark.parametrize("index", range(len(EXAMPLES)))
def test_an_example_prints_what_the_page_says(index: int) -> None:
    program, expected = EXAMPLES[index]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(program, f"example {index}", "exec"), {})
    assert printed.getvalue() == expected

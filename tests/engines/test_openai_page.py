"""docs/openai.md is true: its examples print what it says, and its table of faults is the one that is tested."""

from __future__ import annotations

import asyncio
import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from stub_server import Answer, StubServer

from plait import errors
from plait.engines.openai import OPENAI
from plait.engines.remote import KEYS, OTHER_KEY

TESTS = Path(__file__).parent.parent
PAGE = (TESTS.parent / "docs" / "openai.md").read_text(encoding="utf-8")


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answer(body: dict[str, Any]) -> str | Answer:
    last = body["messages"][-1]
    if last["role"] == "tool":
        return "34 million"
    if "How many" in last["content"]:
        return Answer(calls=[("population", '{"country": "Peru"}')])
    return "Lima" if "capital" in last["content"] else "Peru"


def test_the_examples_print_what_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    docs = load(TESTS / "test_docs.py")
    examples = re.findall(r"```python\n(.*?)```\n(?:\n```\n(.*?)```)?", PAGE, re.DOTALL)
    names: dict[str, object] = {"__name__": "__main__"}

    async def all_of_them() -> list[str]:
        return [await docs.run(example, names) for example, _ in examples]

    with StubServer(answer, caches=False) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        assert asyncio.run(all_of_them()) == [printed for _, printed in examples]


def test_the_page_names_every_variable_of_a_key() -> None:
    assert OPENAI.split("/")[2] in KEYS
    for variable in [*KEYS.values(), OTHER_KEY]:
        assert variable in PAGE or variable.removesuffix("API_KEY") in PAGE


def test_the_table_says_of_each_error_whether_it_passes() -> None:
    rows = re.findall(r"^\| (.+?) \| (.*?([A-Z]\w+Error).*?) \| (yes|no) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 19
    for fault, _, name, passes in rows:
        kind = getattr(errors, name)
        assert issubclass(kind, errors.TransientEngineError) is (passes == "yes"), fault

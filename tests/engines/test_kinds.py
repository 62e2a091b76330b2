"""Kinds of engines: what is known of one by its name alone is true of it, and refuses graphs before it is opened."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import plait
from plait.engines import Capabilities, Engine, open_engine
from plait.engines import catalog as catalog_module
from plait.engines.kinds import KINDS, able, capability_table, kind_of
from plait.errors import GraphError, UnknownNameError
from plait.orchestrator import Builder, Graph, Scope, compile_graph

DOCS = Path(__file__).parents[2] / "docs" / "engines.md"
NEEDS = ("score", "embed", "adapters", "prune:exact", "splice:shift", "team:combined", "grammar:Regex", "logprobs")


def named(kind: str) -> str:
    return kind if KINDS[kind].alone else f"{kind}:there"


def needing(need: str) -> Graph[str]:
    async def drive(scope: Scope) -> str:
        return "x"

    def write(g: Builder) -> str:
        return g.drive(drive, needs=[need], name="driver")

    return plait.graph(write, name="needing")


def test_the_page_holds_the_table_that_the_command_prints() -> None:
    found = re.search(r"<!-- plait engines table -->\n(.*?)\n<!-- end -->", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    assert found[1] == capability_table(), "run `plait engines table` and put what it prints into docs/engines.md"


def test_every_form_of_a_name_is_on_the_page() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert [form for kind in KINDS.values() for form in kind.forms if f"`{form}`" not in text] == []


def test_the_table_shows_every_capability_but_the_window() -> None:
    rows = {line.split("|")[1].strip().replace(" ", "_") for line in capability_table().splitlines()[2:]}
    assert rows == set(Capabilities.__dataclass_fields__) - {"window"}


@pytest.mark.parametrize("need", NEEDS)
@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"roles"}))
def test_a_graph_is_refused_by_the_kinds_name_alone_where_none_of_it_can(
    kind: str, need: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(name: str, **options: Any) -> Engine:
        raise AssertionError(f"{name} was opened")

    monkeypatch.setattr("plait.orchestrator.run.open_engine", opened)
    graph, name = needing(need), named(kind)
    if need in KINDS[kind].offers.offered:
        assert compile_graph(graph, name).engine == name
        assert kind in able(need)
        return
    message = (
        rf"needing.*'driver' \(.*needs '{need}', which engine '{name}' can't do; .*that can: {', '.join(able(need))}$"
    )
    with pytest.raises(GraphError, match=message):
        compile_graph(graph, name)
    thinking = plait.graph(lambda g: [g.subgraph(graph), g.think("x")], name="around")
    with pytest.raises(GraphError, match=message):
        thinking.run_sync(engine=name)


def test_a_table_of_engines_can_do_what_all_in_it_can(tmp_path: Path) -> None:
    table = tmp_path / "roles.json"
    table.write_text(json.dumps({"judge": "openai:model", "*": "local"}))
    with pytest.raises(GraphError, match=r"'score', which engine 'roles:.*that can: local, transformers, vllm"):
        compile_graph(needing("score"), f"roles:{table}")
    assert compile_graph(needing("grammar:Choice"), f"roles:{table}").engine == f"roles:{table}"


def test_a_need_that_no_engine_has_names_none() -> None:
    with pytest.raises(GraphError, match="engines that can: none"):
        compile_graph(needing("team:sideways"), "local")


@pytest.mark.parametrize("name", ["", "nope", "transformers", "scripted:", "openai:", "nope:there"])
def test_what_names_no_engine_is_refused(name: str) -> None:
    for find in (kind_of, open_engine):
        with pytest.raises(UnknownNameError, match=r"unknown engine .* known: local, local:MODEL_DIR, "):
            find(name)


def test_a_key_in_a_name_is_not_shown() -> None:
    with pytest.raises(UnknownNameError) as caught:
        kind_of("http://me:secret@host/v1")
    assert "secret" not in str(caught.value)


OPENED: dict[str, Callable[[Path], str]] = {
    "local": lambda path: "local",
    "scripted": lambda path: f"scripted:{path}",
    "openai": lambda path: "openai:model@http://127.0.0.1:1",
    "vllm": lambda path: "vllm:http://127.0.0.1:1",
    "sglang": lambda path: "sglang:http://127.0.0.1:1",
}
"""Kinds that can be opened without a server or a checkpoint."""


@pytest.mark.parametrize("kind", OPENED)
def test_an_open_engine_offers_no_more_than_its_kind(kind: str, tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text("[]")
    engine = open_engine(OPENED[kind](script))
    assert set(engine.capabilities.offered) - {"window"} <= set(KINDS[kind].offers.offered)


def test_each_kind_can_be_opened_by_the_catalogue() -> None:
    source = Path(str(catalog_module.__file__)).read_text(encoding="utf-8")
    assert all(re.search(rf"\b_?{kind}\b|_open_{kind}", source) for kind in KINDS)

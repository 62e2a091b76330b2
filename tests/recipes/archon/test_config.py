"""Archon's configurations: what is published is read, what is wrong has a place."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.errors import ConfigError, DataError
from plait.recipes.archon import Config, check_file, read_config, violations
from plait.recipes.archon.positions import read_located

COMMON = {"model": "m", "model_type": "Together_API", "temperature": 0.7, "max_tokens": 64}


def component(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, **COMMON, **fields}


def config(*layers: list[str] | Any) -> Config:
    written = [[component(kind) for kind in layer] for layer in layers]
    return read_config(json.dumps({"name": "test", "layers": written}))


def test_current_and_older_layers_are_read_alike() -> None:
    entry = component("generator", samples=2)
    current = read_config(json.dumps({"name": "x", "layers": [[entry, entry]]}))
    older = read_config(json.dumps({"name": "x", "layers": [{"branches": 2, "models": [entry]}]}))
    assert current == older
    assert [one.samples for one in current.layers[0]] == [2, 2]


def test_what_is_tolerated_is_told() -> None:
    entries = [
        component("generator", top_k=1, checkpoint="", samples=None),
        component("fuser", length_contorl=True, ranker_config={"x": 1}),
    ]
    del entries[1]["temperature"]
    read = read_config(json.dumps({"name": "x", "layers": [[entry] for entry in entries], "comment": 1}))
    assert read.warnings == (
        "fields of the configuration that say nothing here: comment",
        "fields of a generator that say nothing here: checkpoint, top_k",
        "fields of a fuser that say nothing here: length_contorl, ranker_config",
        "a fuser without 'temperature': 0.7 is taken",
    )


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ('{"layers": [\n  [1 2]]}', 2, 6, "no JSON: Expecting ',' delimiter"),
        ("", 1, 1, "no JSON"),
        ("[" * 100_000, 1, 1, "no JSON that can be read"),
        ("[]", 1, 1, "an object with 'layers', not a list"),
        ('{"name": "x"}', 1, 1, "'layers' must be a list"),
        ('{"layers":\n []}', 2, 2, "'layers' must be a list"),
        ('{"layers": [\n {"type": "generator", "model": "m"}]}', 2, 2, "the layers are flat"),
        ('{"layers": [\n []]}', 2, 2, "one component at least"),
        ('{"layers": [[\n 3]]}', 2, 2, "a component is an object, not a number"),
        ('{"layers": [[{\n"type": "fusr", "model": "m"}]]}', 2, 9, "did you mean 'fuser'"),
        ('{"layers": [[{"type": "fuser",\n "model": 3}]]}', 2, 11, "a fuser needs 'model'"),
        ('{"layers": [[{"type": "fuser", "model": "m",\n "samples": 0}]]}', 2, 13, "'samples' is 0"),
        ('{"layers": [[{"type": "fuser", "model": "m",\n "temperature": NaN}]]}', 2, 17, "'temperature' is nan"),
        (
            '{"layers": [[{"type": "ranker", "model": "m",\n "use_critiques": "yes"}]]}',
            2,
            19,
            "it must be true or false",
        ),
        ('{"layers": [{"branches": "2",\n "models": []}]}', 1, 26, "'branches' is '2'"),
        ('{"layers": [{"type": "generator"}], "name": "}"}', 1, 13, "the layers are flat"),
    ],
)
def test_what_is_malformed_has_a_line_and_a_column(text: str, line: int, column: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        read_config(text)
    assert (caught.value.line, caught.value.column) == (line, column)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(VALUES, st.sampled_from([None, 0, 3]), st.booleans())
def test_every_value_stands_where_its_place_says(value: Any, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    located = read_located(text)
    for place, offset in located.offsets.items():
        found = value
        for step in place:
            found = found[step]
        assert json.JSONDecoder().raw_decode(text, offset)[0] == found


@given(st.text())
def test_any_text_is_read_or_refused_with_a_place(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_config(text)
    assert caught.value.line >= 1 <= caught.value.column


@given(st.dictionaries(st.sampled_from(["name", "layers", "custom"]), VALUES | st.lists(st.lists(VALUES, min_size=1))))
def test_any_json_is_read_or_refused(value: Any) -> None:
    with suppress(ConfigError):
        read_config(json.dumps(value))


# ---- the rules


@pytest.mark.parametrize(
    "layers",
    [
        (["generator"],),
        (["generator"] * 3, ["critic"], ["ranker"], ["fuser"] * 2, ["fuser"]),
        (["generator"], ["critic"], ["fuser"], ["verifier"]),
        (["generator"], ["unit_test_generator"], ["unit_test_evaluator"]),
    ],
)
def test_architectures_of_the_paper_break_no_rule(layers: tuple[list[str], ...]) -> None:
    assert violations(config(*layers)) == []


@pytest.mark.parametrize(
    ("layers", "broken"),
    [
        ((["fuser"],), ["layer 1 holds fuser; the first layer holds generators, and nothing else"]),
        ((["generator"], ["generator"]), ["layer 2 holds a generator; generators stand in the first layer only"]),
        ((["generator"], ["critic"]), ["layer 2 holds a critic, but no ranker or fuser follows it"]),
        ((["generator"], ["ranker"] * 2), ["layer 2 holds 2 components of type ranker; one stands alone in its layer"]),
        (
            (["generator"], ["ranker", "fuser"]),
            ["layer 2 holds ranker, fuser; a layer holds components of one type"],
        ),
        (
            (["generator"], ["unit_test_generator"], ["fuser"]),
            ["layer 2 holds a unit test generator; its evaluator must follow it directly"],
        ),
        (
            (["generator"], ["unit_test_evaluator"]),
            ["layer 2 holds a unit test evaluator; its generator must stand directly before it"],
        ),
    ],
)
def test_each_rule_that_is_broken_is_a_sentence(layers: tuple[list[str], ...], broken: list[str]) -> None:
    assert violations(config(*layers)) == broken


# ---- the check of a file


def checked(tmp_path: Path, data: Any) -> dict[str, Any]:
    file = tmp_path / "one.json"
    file.write_text(data if isinstance(data, str) else json.dumps(data))
    return {name: value for name, value in check_file(file).as_dict().items() if name != "file"}


def test_a_check_counts_the_calls_of_a_full_run(tmp_path: Path) -> None:
    layers = [
        [component("generator", samples=3), component("generator")],
        [component("critic", samples=5)],
        [component("ranker", top_k=3)],
        [component("unit_test_generator", unit_test_cap=4)],
        [component("unit_test_evaluator", top_k=2, first_pass=True, remove_unit_tests_from_prompt=True)],
        [component("verifier", first_k=1)],
        [component("fuser", samples=2), component("fuser")],
    ]
    said = checked(tmp_path, {"name": "all", "layers": layers})
    assert (said["ok"], said["calls"], said["candidates"]) == (True, 4 + 1 + 1 + 1 + 3 + 2 * 2 + 3, 3)
    assert said["tokens"] == 64 * (4 + 1 + 1 + 1 + 3 + 2 + 3) + 2 * 64
    assert (said["models"], said["warnings"], said["violations"]) == (["m"], [], [])


def test_a_check_tells_what_does_nothing(tmp_path: Path) -> None:
    said = checked(tmp_path, {"name": "x", "layers": [[component("fuser")], [component("generator")]]})
    assert said["warnings"] == ["layer 1 holds fuser before there are candidates: nothing is done there"]
    assert (said["calls"], said["candidates"]) == (1, 1)


def test_a_check_tells_faults_with_their_place(tmp_path: Path) -> None:
    said = checked(tmp_path, '{"layers": [[\n{"type": "x"}]]}')
    assert (said["ok"], said["line"], said["column"]) == (False, 2, 10)
    assert check_file(tmp_path / "missing.json").error.startswith("configuration")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(DataError, match="can't be read"):
        read_config(tmp_path / "bytes.json")


def test_a_component_of_ones_own_needs_the_file_to_say_so(tmp_path: Path) -> None:
    layers = [[component("generator")], [{"type": "mine", "anything": 1}]]
    assert checked(tmp_path, {"name": "x", "layers": layers})["ok"] is False
    said = checked(tmp_path, {"name": "x", "layers": layers, "custom": True})
    assert "'mine' is a component of your own: give it to archon(components=…)" in said["warnings"]

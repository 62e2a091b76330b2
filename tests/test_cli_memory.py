"""`plait memory`: import, list, show, select, export and undo, as a user types them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from plait.cli import app

FILE = """
a:
  concepts:
    - {concept: hole, kind: structure, description: an empty space}
    - {concept: hole, cues: [a gap]}
    - {concept: song, kind: music}
    - {concept: mentioned}
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "m.db"


def plait(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["memory", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_file_is_imported_shown_selected_exported_and_undone(tmp_path: Path, store: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(FILE)
    data = json.loads(plait("import", file, "--store", store, "--json"))
    assert (data["imported"], data["merged"], data["rejected"]) == (1, 1, 2)
    assert [(entry["file"], entry["line"]) for entry in data["rejections"]] == [(str(file), 6), (str(file), 7)]
    assert "kind 'music'" in data["rejections"][0]["reason"]

    assert [row["name"] for row in json.loads(plait("list", "--store", store, "--json"))["concepts"]] == ["hole"]
    assert "structure  hole" in plait("list", "--store", store)
    assert json.loads(plait("show", "hole", "--store", store, "--json"))["cues"] == ["a gap"]
    assert "found in: a" in plait("show", "hole", "--store", store)
    assert "- concept: hole" in plait("select", "spaces that are empty", "--store", store)
    assert plait("select", "unrelated", "--store", store) == "nothing fits\n"

    for name in ("out.json", "out.yaml"):
        plait("export", tmp_path / name, "--store", store)
        plait("import", tmp_path / name, "--store", tmp_path / f"{name}.db")
        assert plait("export", "--store", tmp_path / f"{name}.db") == plait("export", "--store", store)

    assert json.loads(plait("undo", "--store", store, "--json"))["counts"] == {}
    assert plait("list", "--store", store) == "nothing yet\n"

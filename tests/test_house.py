"""The house: layout, import direction, lazy imports and packaging (DESIGN.md §2)."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "kernels": {"kernels"},
    "engines": {"engines", "kernels"},
    "orchestrator": {"orchestrator", "engines", "tools"},
    "memory": {"memory", "engines", "orchestrator"},
    "tools": {"tools"},
    "recipes": {"recipes", "orchestrator", "memory", "tools", "engines"},
}
EVERYWHERE = {"errors", "usage"}


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imported_folders(path: Path) -> set[str]:
    """Top-level names of the package that a module imports, relative or absolute."""
    depth = len(path.relative_to(ROOT).parts)
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            found |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            found.add(path.relative_to(ROOT).parts[0])
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "plait":
            found.add((node.module or "").split(".")[1] if "." in (node.module or "") else "plait")
        elif isinstance(node, ast.Import):
            found |= {"plait" for alias in node.names if alias.name.split(".")[0] == "plait"}
    return found


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_imports_run_one_way(folder: str) -> None:
    for path in modules(folder):
        wrong = imported_folders(path) - MAY_IMPORT[folder] - EVERYWHERE
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


def test_import_of_plait_is_light() -> None:
    code = "import sys, plait; print(sorted({'torch', 'numpy', 'pydantic', 'networkx', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_imports_no_torch() -> None:
    code = (
        "import sys\nfrom plait.cli import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


def test_every_public_name_is_there() -> None:
    import plait

    for name in plait.__all__:
        assert getattr(plait, name) is not None


def test_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    """Every module and data file of the package is in the wheel; tests and examples are not."""
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT],
        capture_output=True,
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("plait/")}
    packaged = [*MAY_IMPORT, "benchmarks"]
    expected = {f"plait/{path.relative_to(ROOT)}" for folder in packaged for path in modules(folder)}
    expected |= {"plait/__init__.py", "plait/cli.py", "plait/errors.py", "plait/usage.py", "plait/py.typed"}
    assert expected <= names
    assert not [name for name in names if name.split("/")[1] in {"tests", "examples", "docs"}]
    data = ("engines/local/embedded/model.safetensors", "tools/data/countries.csv", "recipes/prompts/tim.jinja")
    for name in data:
        assert f"plait/{name}" in names

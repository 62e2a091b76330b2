"""The pytest plugin: a scripted engine for a test, and a cassette that records a real one or answers in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .cassette import CassetteEngine
    from .scripted import ScriptedEngine


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("plait").addoption(
        "--plait-record",
        metavar="ENGINE",
        default="",
        help="record the cassettes of the tests that run, asking this engine, such as local or local:MODEL_DIR",
    )


@pytest.fixture
def plait_engine() -> Iterator[Callable[..., ScriptedEngine]]:
    """Makes scripted engines: `engine = plait_engine(["first reply", …])`. After the test nothing may be in flight."""
    from .scripted import ScriptedEngine

    made: list[ScriptedEngine] = []

    def make(rules: Any, **options: Any) -> ScriptedEngine:
        made.append(ScriptedEngine(rules, **options))
        return made[-1]

    yield make
    for engine in made:
        engine.check_integrity()


@pytest.fixture
def plait_cassette(request: pytest.FixtureRequest) -> Iterator[CassetteEngine]:
    """An engine that answers from `cassettes/MODULE/TEST.jsonl` beside the test; `--plait-record ENGINE` makes it."""
    import anyio

    from .cassette import CassetteEngine
    from .catalog import open_engine

    name = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in request.node.name)
    path = Path(request.path).parent / "cassettes" / Path(request.path).stem / f"{name}.jsonl"
    recorded = request.config.getoption("--plait-record")
    if not recorded and not path.is_file():
        pytest.fail(f"there is no cassette {path}; record it with pytest --plait-record ENGINE", pytrace=False)
    engine = CassetteEngine.record(open_engine(recorded), path) if recorded else CassetteEngine.replay(path)
    yield engine
    anyio.run(engine.aclose)

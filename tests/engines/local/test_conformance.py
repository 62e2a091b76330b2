"""The local engine passes the conformance suite, with a trained model, random ones, and one of transformers."""

from __future__ import annotations

from pathlib import Path

import pytest

from plait.engines.conformance import CHECKS, Report, check_engine
from plait.engines.local import LocalEngine

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def refused(report: Report) -> set[str]:
    return {result.name for result in report.results if result.outcome == "refused"}


async def test_the_embedded_model_passes_every_check() -> None:
    report = await check_engine(LocalEngine.open(kv_tokens=16_384))
    assert report.ok, report.describe()
    assert report.counts() == {"passed": len(CHECKS)}


@pytest.mark.parametrize("made", ["checkpoint", "llama_checkpoint"])
async def test_random_models_pass_every_check(made: str, request: pytest.FixtureRequest) -> None:
    report = await check_engine(LocalEngine.open(request.getfixturevalue(made), kv_tokens=16_384))
    assert report.ok, report.describe()
    assert refused(report) <= {"messages", "usage over turns"}


async def test_a_model_of_transformers_passes(checkpoint: Path) -> None:
    pytest.importorskip("transformers")
    report = await check_engine(LocalEngine.open(checkpoint, backend="transformers", kv_tokens=16_384))
    assert report.ok, report.describe()
    assert refused(report) <= {"embed", "adapter"}

"""Fixtures and settings for all tests."""

from __future__ import annotations

import pytest
from hypothesis import settings

# No test judges a wall time: machines are shared.
settings.register_profile("plait", deadline=None)
settings.load_profile("plait")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)

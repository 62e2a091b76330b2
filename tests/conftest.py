"""Fixtures and settings for all tests."""

from __future__ import annotations

import signal

import pytest
from hypothesis import HealthCheck, settings

# No test judges a wall time: machines are shared.
settings.register_profile("plait", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("plait")

# A shell that starts the tests in the background has them, and so the processes they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)

"""Archon: inference-time architectures as layers of components, from their published configurations (2024)."""

from __future__ import annotations

from .build import archon
from .check import Report, check_file, expect
from .config import Component, Config, read_config
from .rules import violations

__all__ = ["Component", "Config", "Report", "archon", "check_file", "expect", "read_config", "violations"]

"""Records: what the journal holds of runs and of their operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

State: TypeAlias = Literal["begun", "done", "failed", "left", "cancelled", "void"]
"""How far an operation has come. `left`: a generation that its reader left early. `void`: as if it had not been."""

NODE = -1
"""The sample index of a node as a whole; its operations count from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is known of one operation of a node, or of the node itself (`sample` = NODE).

    `input` is the fingerprint of all that it depends on, `value` what came of it as text (empty where none could be
    kept), `idempotent` whether a call may be made again, `reuse` its key in a cache scope, `usage` what it has cost.
    """

    path: str
    sample: int
    state: State
    kind: str = ""
    title: str = ""
    input: str = ""
    value: str = ""
    idempotent: bool = True
    reuse: str = ""
    usage: Mapping[str, float] = field(default_factory=dict)
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """What a run began with, and how it stands.

    `inputs` are values as text by name (None: not kept). `source` says how the command line made the graph, `owner`
    which process runs it. `state` is that of the latest record about the run as a whole.
    """

    run: str
    graph: str
    definition: str
    inputs: Mapping[str, str | None]
    engine: str
    capabilities: Mapping[str, Any]
    seed: int
    cache: str = ""
    parent: str = ""
    source: Mapping[str, Any] = field(default_factory=dict)
    owner: Mapping[str, Any] = field(default_factory=dict)
    at: float = 0.0
    state: State = "begun"
    value: str = ""
    usage: Mapping[str, float] = field(default_factory=dict)

"""Inference-time techniques: stages from a result to a result, and the chains of them that have names."""

from __future__ import annotations

from .answers import answer_of, same_form
from .chain import answering, chain
from .components import COMPONENTS, chain_of, component
from .critique import Critique
from .expected import Expected
from .fuse import Fuse
from .generate import Generate
from .named import (
    adaptive_consistency,
    best_of_n,
    checked,
    critique_and_fuse,
    ensemble,
    hedged,
    ranked,
    self_consistency,
    self_refine,
    unit_tested,
    verified,
    weighted_consistency,
)
from .rank import Compare, Rank
from .refine import Refine
from .result import Candidate, Result
from .score import Certainty, Checked, Judge, Reward, Scorer
from .stage import Stage
from .unit_tests import ExecuteTests, JudgeTests, WriteTests
from .verify import Verify
from .vote import AdaptiveVote, Vote

__all__ = [
    "COMPONENTS",
    "AdaptiveVote",
    "Candidate",
    "Certainty",
    "Checked",
    "Compare",
    "Critique",
    "ExecuteTests",
    "Expected",
    "Fuse",
    "Generate",
    "Judge",
    "JudgeTests",
    "Rank",
    "Refine",
    "Result",
    "Reward",
    "Scorer",
    "Stage",
    "Verify",
    "Vote",
    "WriteTests",
    "adaptive_consistency",
    "answer_of",
    "answering",
    "best_of_n",
    "chain",
    "chain_of",
    "checked",
    "component",
    "critique_and_fuse",
    "ensemble",
    "hedged",
    "ranked",
    "same_form",
    "self_consistency",
    "self_refine",
    "unit_tested",
    "verified",
    "weighted_consistency",
]

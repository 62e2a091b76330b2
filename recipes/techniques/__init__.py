"""Inference-time techniques: stages from a result to a result, and the chains of them that have names."""

from __future__ import annotations

from .answers import answer_of, same_form
from .chain import answering, chain
from .components import COMPONENTS, chain_of, component
from .critique import Critique
from .debate import Debate
from .expected import Expected
from .fuse import Fuse
from .generate import Generate
from .named import (
    a_star,
    ab_mcts,
    adaptive_consistency,
    agreement,
    beam,
    best_of_n,
    checked,
    checklist,
    critique_and_fuse,
    debate,
    ensemble,
    hedged,
    mcts,
    mixture_of_agents,
    particle_filter,
    ranked,
    searched,
    self_consistency,
    self_refine,
    spec_reason,
    step_greedy,
    tree_of_thoughts,
    unit_tested,
    verified,
    weighted_consistency,
)
from .rank import Compare, Rank
from .refine import Refine
from .result import Candidate, Result
from .retrieval import Drag, IterDrag
from .score import Certainty, Checked, Judge, Reward, Scorer
from .searches import AdaptiveBranching, AStar, Beam, MonteCarlo, Particles, TreeOfThoughts
from .selection import Agreement, Checklist
from .spec_reason import SpecReason
from .stage import Stage
from .tree import Thought, Tree
from .tree_search import TreeSearch
from .unit_tests import ExecuteTests, JudgeTests, WriteTests
from .verify import Verify
from .vote import AdaptiveVote, Vote

__all__ = [
    "AStar",
    "AdaptiveBranching",
    "AdaptiveVote",
    "Agreement",
    "Beam",
    "COMPONENTS",
    "Candidate",
    "Certainty",
    "Checked",
    "Checklist",
    "Compare",
    "Critique",
    "Debate",
    "Drag",
    "ExecuteTests",
    "Expected",
    "Fuse",
    "Generate",
    "IterDrag",
    "Judge",
    "JudgeTests",
    "MonteCarlo",
    "Particles",
    "Rank",
    "Refine",
    "Result",
    "Reward",
    "Scorer",
    "SpecReason",
    "Stage",
    "Thought",
    "Tree",
    "TreeOfThoughts",
    "TreeSearch",
    "Verify",
    "Vote",
    "WriteTests",
    "a_star",
    "ab_mcts",
    "adaptive_consistency",
    "agreement",
    "answer_of",
    "answering",
    "beam",
    "best_of_n",
    "chain",
    "chain_of",
    "checked",
    "checklist",
    "component",
    "critique_and_fuse",
    "debate",
    "ensemble",
    "hedged",
    "mcts",
    "mixture_of_agents",
    "particle_filter",
    "ranked",
    "same_form",
    "searched",
    "self_consistency",
    "self_refine",
    "spec_reason",
    "step_greedy",
    "tree_of_thoughts",
    "unit_tested",
    "verified",
    "weighted_consistency",
]

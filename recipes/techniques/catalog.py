"""Techniques that need nothing but a task, by name: what `plait run` and `plait recipes` offer of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from ...orchestrator import Graph
from . import named
from .chain import answering
from .result import Result


def _answering(make: Callable[..., Graph[Result]]) -> Callable[..., Graph[str]]:
    """A technique that gives its answer alone. It calls no tools."""

    @wraps(make)
    def made(tools: object, **settings: Any) -> Graph[str]:
        return answering(make(**settings))

    return made


TECHNIQUES: tuple[tuple[str, str, str, Callable[..., Graph[str]]], ...] = (
    ("self_consistency", "the answer that most samples reach", "Wang et al., 2022", _answering(named.self_consistency)),
    (
        "adaptive_consistency",
        "samples until the majority is clear",
        "Aggarwal et al., 2023",
        _answering(named.adaptive_consistency),
    ),
    ("weighted_consistency", "votes by score", "Li et al., 2022", _answering(named.weighted_consistency)),
    ("best_of_n", "the sample of the greatest score", "Cobbe et al., 2021", _answering(named.best_of_n)),
    ("hedged", "samples and a greedy one, then the best", "Khairi et al., 2025", _answering(named.hedged)),
    ("ranked", "the sample that is ranked first", "Archon, 2024", _answering(named.ranked)),
    ("critique_and_fuse", "critiques, then one answer from all", "Archon, 2024", _answering(named.critique_and_fuse)),
    ("verified", "the first sample held to be right", "Archon, 2024", _answering(named.verified)),
    ("unit_tested", "the sample that passes most tests", "Archon, 2024", _answering(named.unit_tested)),
    ("self_refine", "feedback, and the answer anew", "Madaan et al., 2023", _answering(named.self_refine)),
    ("checklist", "the sample that a checklist selects", "CHOPS, 2025", _answering(named.checklist)),
    ("agreement", "the sample that agrees best with evidence", "X-MBR, 2025", _answering(named.agreement)),
    (
        "mixture_of_agents",
        "answers from all answers, layer by layer",
        "Mixture-of-Agents, 2024",
        _answering(named.mixture_of_agents),
    ),
    ("debate", "agents that read each other, then a vote", "Du et al., 2023", _answering(named.debate)),
    ("step_greedy", "at each step the best of a few", "Bag of Tricks, 2025", _answering(named.step_greedy)),
    ("beam", "the best beginnings go on", "Snell et al., 2024", _answering(named.beam)),
    (
        "tree_of_thoughts",
        "thoughts judged by level or in depth",
        "Yao et al., 2023",
        _answering(named.tree_of_thoughts),
    ),
    ("a_star", "A* with a process reward", "A* decoding, 2025", _answering(named.a_star)),
    ("mcts", "Monte Carlo tree search with PUCT", "Silver et al., 2017", _answering(named.mcts)),
    ("particle_filter", "beginnings drawn anew by their worth", "Puri et al., 2025", _answering(named.particle_filter)),
    ("ab_mcts", "new answers or improved ones", "Inoue et al., 2025", _answering(named.ab_mcts)),
    ("spec_reason", "a small model's steps, where accepted", "SpecReason, 2025", _answering(named.spec_reason)),
)
"""Name, summary, source, and how to make the graph."""

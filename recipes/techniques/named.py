"""Techniques by their usual names: chains of a few stages, each a graph from a task to a result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ...orchestrator import Graph
from ..settings import at_least
from .chain import chain
from .critique import Critique
from .debate import Debate
from .fuse import Fuse
from .generate import Generate
from .rank import Compare, Rank
from .refine import Refine
from .result import Result
from .score import By, ByStep, Certainty, Check, Checked, Judge, Reward
from .searches import AdaptiveBranching, AStar, Beam, MonteCarlo, Particles, TreeOfThoughts
from .selection import Agreement, Checklist
from .spec_reason import SpecReason
from .stage import Stage
from .tree_search import TreeSearch
from .unit_tests import ExecuteTests, JudgeTests, WriteTests
from .verify import Verify
from .vote import AdaptiveVote, Vote


def ensemble(*, models: Sequence[str] = ("",), samples: int = 5, temperature: float = 0.7) -> Graph[Result]:
    """So many answers of every model; the first one is the answer."""
    return chain([Generate(models=models, samples=samples, temperature=temperature)], name="ensemble")


def self_consistency(*, samples: int = 8, temperature: float = 0.7, answer: str = "", model: str = "") -> Graph[Result]:
    """The answer that most samples reach (Wang et al., arXiv:2203.11171)."""
    sampled = Generate(samples=samples, temperature=temperature, model=model)
    return chain([sampled, Vote(answer=answer)], name="self_consistency")


def weighted_consistency(
    *, samples: int = 8, temperature: float = 0.7, answer: str = "", by: By = "judge", model: str = "", judge: str = ""
) -> Graph[Result]:
    """The same, each sample counted by its score (Li et al., arXiv:2206.02336)."""
    sampled = Generate(samples=samples, temperature=temperature, model=model)
    return chain([sampled, scorer(by, judge), Vote(answer=answer, weighted=True)], name="weighted_consistency")


def adaptive_consistency(
    *,
    samples: int = 40,
    batch: int = 5,
    sure: float = 0.95,
    temperature: float = 0.7,
    answer: str = "",
    model: str = "",
) -> Graph[Result]:
    """Samples until the majority is clear (Aggarwal et al., arXiv:2305.11860)."""
    vote = AdaptiveVote(samples=samples, batch=batch, sure=sure, temperature=temperature, answer=answer, model=model)
    return chain([vote], name="adaptive_consistency")


def best_of_n(
    *, samples: int = 8, temperature: float = 0.7, by: By = "judge", model: str = "", judge: str = ""
) -> Graph[Result]:
    """The sample of the greatest score: by a judge, a reward model, or the model's certainty."""
    sampled = Generate(samples=samples, temperature=temperature, model=model)
    return chain([sampled, scorer(by, judge)], name="best_of_n")


def checked(check: Check, *, samples: int = 8, temperature: float = 0.7, model: str = "") -> Graph[Result]:
    """Best of n by a function of task and text."""
    sampled = Generate(samples=samples, temperature=temperature, model=model)
    return chain([sampled, Checked(check=check)], name="checked")


def ranked(
    *,
    samples: int = 8,
    temperature: float = 0.7,
    how: Literal["list", "pairs"] = "list",
    model: str = "",
    judge: str = "",
) -> Graph[Result]:
    """The sample that a judge of all of them, or of each pair, puts first."""
    rank: Stage = Rank(model=judge) if how == "list" else Compare(model=judge)
    return chain([Generate(samples=samples, temperature=temperature, model=model), rank], name="ranked")


def critique_and_fuse(*, samples: int = 5, temperature: float = 0.7, model: str = "", judge: str = "") -> Graph[Result]:
    """Samples, a critique of each, and an answer from all of them (Archon, arXiv:2409.15254)."""
    sampled = Generate(samples=samples, temperature=temperature, model=model)
    return chain([sampled, Critique(model=judge), Fuse(model=judge)], name="critique_and_fuse")


def verified(*, samples: int = 5, temperature: float = 0.7, model: str = "", judge: str = "") -> Graph[Result]:
    """The first sample that a verifier holds to be right."""
    sampled = Generate(samples=samples, temperature=temperature, model=model)
    return chain([sampled, Verify(model=judge)], name="verified")


def unit_tested(
    *, samples: int = 5, temperature: float = 0.7, cap: int = 5, code: bool = False, model: str = "", judge: str = ""
) -> Graph[Result]:
    """The sample that passes most unit tests: statements that a judge checks, or code that the sandbox runs."""
    sampled = Generate(samples=samples, temperature=temperature, model=model)
    run: Stage = ExecuteTests() if code else JudgeTests(model=judge)
    return chain([sampled, WriteTests(cap=cap, code=code, model=judge), run], name="unit_tested")


def self_refine(*, rounds: int = 2, temperature: float = 0.0, model: str = "") -> Graph[Result]:
    """One answer, with feedback and anew (Madaan et al., arXiv:2303.17651)."""
    return chain(
        [Generate(temperature=temperature, model=model), Refine(rounds=rounds, model=model)], name="self_refine"
    )


def hedged(
    *, samples: int = 4, temperature: float = 0.5, by: By = "judge", model: str = "", judge: str = ""
) -> Graph[Result]:
    """Samples at one moderate temperature and one greedy answer, then the best (Khairi et al., arXiv:2506.20544)."""
    sampled = Generate(samples=samples, greedy=True, temperature=temperature, model=model)
    return chain([sampled, scorer(by, judge)], name="hedged")


def checklist(*, samples: int = 5, temperature: float = 0.7, model: str = "", judge: str = "") -> Graph[Result]:
    """The sample that a checklist written for the task selects: CHOPS (Khairi et al., arXiv:2506.20544)."""
    sampled = Generate(samples=samples, temperature=temperature, model=model)
    return chain([sampled, Checklist(model=judge)], name="checklist")


def agreement(
    *,
    samples: int = 5,
    temperature: float = 0.7,
    languages: Sequence[str] = ("French", "Spanish"),
    model: str = "",
    judge: str = "",
) -> Graph[Result]:
    """The sample that agrees best with the others and with evidence: X-MBR (Khairi et al., arXiv:2506.20544)."""
    sampled = Generate(samples=samples, temperature=temperature, model=model)
    return chain([sampled, Agreement(languages=languages, model=judge)], name="agreement")


def mixture_of_agents(
    *, models: Sequence[str] = ("", "", ""), layers: int = 2, temperature: float = 0.7, judge: str = ""
) -> Graph[Result]:
    """Models that answer, then answer anew from all answers, layer by layer; one writes the last (arXiv:2406.04692)."""
    at_least(1, layers=layers)
    stages: list[Stage] = [Generate(models=models, temperature=temperature)]
    stages += [Fuse(models=models, temperature=temperature) for _ in range(layers - 1)]
    return chain([*stages, Fuse(model=judge)], name="mixture_of_agents")


def debate(
    *, agents: int = 3, rounds: int = 2, temperature: float = 0.7, answer: str = "", model: str = ""
) -> Graph[Result]:
    """Agents that read each other and answer again; the majority's last answer (Du et al., arXiv:2305.14325)."""
    debated = Debate(agents=agents, rounds=rounds, temperature=temperature, model=model)
    return chain([debated, Vote(answer=answer)], name="debate")


def searched(stage: TreeSearch, *, name: str = "") -> Graph[Result]:
    """A search over the steps of an answer, such as `searched(Beam(beams=2))`."""
    return chain([stage], name=name or stage.kind)


def beam(
    *,
    beams: int = 3,
    width: int = 3,
    depth: int = 8,
    expansions: int = 32,
    temperature: float = 0.7,
    value: ByStep = "judge",
    model: str = "",
    judge: str = "",
) -> Graph[Result]:
    """The best beginnings of an answer go on side by side, a step at a time (Snell et al., arXiv:2408.03314)."""
    return searched(
        Beam(
            beams=beams,
            width=width,
            depth=depth,
            expansions=expansions,
            temperature=temperature,
            value=value,
            model=model,
            judge=judge,
        )
    )


def step_greedy(
    *,
    width: int = 4,
    depth: int = 8,
    expansions: int = 32,
    temperature: float = 0.7,
    value: ByStep = "judge",
    model: str = "",
    judge: str = "",
) -> Graph[Result]:
    """At each step the best of a few goes on."""
    return searched(
        Beam(
            beams=1,
            width=width,
            depth=depth,
            expansions=expansions,
            temperature=temperature,
            value=value,
            model=model,
            judge=judge,
        ),
        name="step_greedy",
    )


def tree_of_thoughts(
    *,
    first: Literal["breadth", "depth"] = "breadth",
    keep: int = 3,
    width: int = 3,
    depth: int = 8,
    expansions: int = 32,
    temperature: float = 0.7,
    value: ByStep = "judge",
    model: str = "",
    judge: str = "",
) -> Graph[Result]:
    """Steps judged level by level, or gone down into and back (Yao et al., arXiv:2305.10601)."""
    return searched(
        TreeOfThoughts(
            first=first,
            keep=keep,
            width=width,
            depth=depth,
            expansions=expansions,
            temperature=temperature,
            value=value,
            model=model,
            judge=judge,
        )
    )


def a_star(
    *,
    width: int = 3,
    depth: int = 8,
    expansions: int = 32,
    temperature: float = 0.7,
    value: ByStep = "judge",
    model: str = "",
    judge: str = "",
) -> Graph[Result]:
    """A* over the beginnings of answers, with a process reward."""
    return searched(
        AStar(
            width=width,
            depth=depth,
            expansions=expansions,
            temperature=temperature,
            value=value,
            model=model,
            judge=judge,
        )
    )


def mcts(
    *,
    width: int = 3,
    explore: float = 1.4,
    depth: int = 8,
    expansions: int = 32,
    temperature: float = 0.7,
    value: ByStep = "judge",
    model: str = "",
    judge: str = "",
) -> Graph[Result]:
    """Monte Carlo tree search with PUCT over the steps of an answer."""
    return searched(
        MonteCarlo(
            width=width,
            explore=explore,
            depth=depth,
            expansions=expansions,
            temperature=temperature,
            value=value,
            model=model,
            judge=judge,
        )
    )


def particle_filter(
    *,
    particles: int = 4,
    depth: int = 8,
    expansions: int = 32,
    temperature: float = 0.7,
    value: ByStep = "judge",
    model: str = "",
    judge: str = "",
) -> Graph[Result]:
    """Particle filtering over the steps of answers (Puri et al., arXiv:2502.01618)."""
    return searched(
        Particles(
            particles=particles,
            depth=depth,
            expansions=expansions,
            temperature=temperature,
            value=value,
            model=model,
            judge=judge,
        ),
        name="particle_filter",
    )


def ab_mcts(
    *,
    expansions: int = 12,
    temperature: float = 0.7,
    value: ByStep = "judge",
    model: str = "",
    judge: str = "",
) -> Graph[Result]:
    """Whole answers, new ones or improved ones, as their scores say (Inoue et al., arXiv:2503.04412)."""
    return searched(
        AdaptiveBranching(
            expansions=expansions,
            temperature=temperature,
            value=value,
            model=model,
            judge=judge,
        )
    )


def spec_reason(
    *, drafter: str = "", accept: int = 7, steps: int = 32, temperature: float = 0.0, model: str = ""
) -> Graph[Result]:
    """A small model's steps where the large one accepts them (Pan et al., arXiv:2504.07891)."""
    stage = SpecReason(drafter=drafter, accept=accept, steps=steps, temperature=temperature, model=model)
    return chain([stage], name="spec_reason")


def scorer(by: By, model: str = "", keep: int = 0) -> Stage:
    """The stage that scores by a name."""
    kinds: dict[str, type[Judge] | type[Reward] | type[Certainty]] = {
        "judge": Judge,
        "reward": Reward,
        "certainty": Certainty,
    }
    return kinds[by](model=model, keep=keep)

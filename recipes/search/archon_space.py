"""Archon's published space of architectures, its rules written out (Saad-Falcon et al., arXiv:2409.15254, §3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .space import Choice, Point, Rule, Space, Whole

PUBLISHED = 9_576
"""The valid architectures that the paper counts."""
MOST_GENERATIONS = 24
"""Initial generations that fit into the fusers' context. It is not in the paper; it is what makes 9,576 a whole number
of generator and sample pairs (38 · 252)."""
VERIFIER, UNIT_TESTS, NONE = "verifier", "unit tests", "none"


def archon_space(
    models: Sequence[str] = ("model",), *, most_generations: int = MOST_GENERATIONS, max_tokens: int = 512
) -> Space:
    """One to ten generators with one to five samples each, one to four layers of fusers of which the last has one, the
    others two to ten, a critic and a ranker before each of them or not, and a verifier, unit tests or nothing last.

    The generators are the first of `models`, in order and again from the start; the first plays all other roles.
    """

    def architecture(point: Point) -> dict[str, Any]:
        return layers_of(point, models, max_tokens)

    return Space(
        "archon",
        [
            Whole("generators", 1, 10),
            Whole("samples", 1, 5),
            Whole("fusion_layers", 1, 4),
            Whole("fusers", 2, 10, 2, when={"fusion_layers": (2, 3, 4)}),
            Choice("ranked", (False, True)),
            Choice("last", (NONE, VERIFIER, UNIT_TESTS)),
        ],
        architecture,
        [
            Rule(
                f"at most {most_generations} initial generations (generators times samples)",
                lambda point: point["generators"] * point["samples"] <= most_generations,
            )
        ],
    )


def layers_of(point: Point, models: Sequence[str], max_tokens: int) -> dict[str, Any]:
    """Archon's configuration of a point."""
    main = models[0]

    def component(kind: str, model: str = main, **values: Any) -> dict[str, Any]:
        return {"type": kind, "model": model, "temperature": 0.7, "max_tokens": max_tokens, **values}

    generators = [models[index % len(models)] for index in range(point["generators"])]
    layers = [[component("generator", model, samples=point["samples"]) for model in generators]]
    for number in range(1, point["fusion_layers"] + 1):
        if point["ranked"]:
            layers += [[component("critic")], [component("ranker", use_critiques=True)]]
        count = point["fusers"] if number < point["fusion_layers"] else 1
        layers.append([component("fuser") for _ in range(count)])
    if point["last"] == VERIFIER:
        layers.append([component("verifier")])
    if point["last"] == UNIT_TESTS:
        layers += [[component("unit_test_generator")], [component("unit_test_evaluator")]]
    return {"name": "archon", "layers": layers}


@dataclass(frozen=True, slots=True)
class Reading:
    """A way to read the paper's axes, and the architectures that it allows."""

    text: str
    count: int


def readings() -> list[Reading]:
    """How many architectures there are as the axes may be read; the first is `archon_space`, counted one by one."""
    pairs = [(g, s) for g in range(1, 11) for s in range(1, 6)]
    fitting = sum(generators * samples <= MOST_GENERATIONS for generators, samples in pairs)
    layers = range(1, 5)
    one_switch = sum(2 * (5 if count > 1 else 1) for count in layers)
    switches = sum(2**count * (5 if count > 1 else 1) for count in layers)
    own_counts = sum(2 * 5 ** (count - 1) for count in layers)
    all_own = sum(2**count * 5 ** (count - 1) for count in layers)
    shown = f"at most {MOST_GENERATIONS} initial generations"
    return [
        Reading(
            f"{shown}; one count of fusers, one switch for critics (shipped)", sum(1 for _ in archon_space().points())
        ),
        Reading("no bound on generations; one count, one switch", len(pairs) * one_switch * 3),
        Reading(f"{shown}; one count, a switch for each layer", fitting * switches * 3),
        Reading(f"{shown}; a count for each layer, one switch", fitting * own_counts * 3),
        Reading(f"{shown}; a count and a switch for each layer", fitting * all_own * 3),
        Reading(f"the paper: {fitting} pairs of generators and samples times {PUBLISHED / fitting:g}", PUBLISHED),
    ]

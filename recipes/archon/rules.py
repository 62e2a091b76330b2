"""The paper's rules for an architecture (Archon, §3.2): strict ones for search; published files break some of them."""

from __future__ import annotations

from collections.abc import Iterator

from .config import Config

ALONE = ("ranker", "critic", "verifier", "unit_test_generator", "unit_test_evaluator")
"""Components that stand alone in their layer."""


def violations(config: Config) -> list[str]:
    """What the architecture breaks, a sentence each; empty for one that a search may try."""
    return list(_violations([[component.type for component in layer] for layer in config.layers]))


def _violations(layers: list[list[str]]) -> Iterator[str]:
    if set(layers[0]) != {"generator"}:
        yield f"layer 1 holds {_shown(layers[0])}; the first layer holds generators, and nothing else"
    for place, types in enumerate(layers):
        number, after = place + 1, layers[place + 1] if place + 1 < len(layers) else []
        if len(set(types)) > 1:
            yield f"layer {number} holds {_shown(types)}; a layer holds components of one type"
        if place and "generator" in types:
            yield f"layer {number} holds a generator; generators stand in the first layer only"
        for kind in ALONE:
            if kind in types and len(types) > 1 and len(set(types)) == 1:
                yield f"layer {number} holds {len(types)} components of type {kind}; one stands alone in its layer"
        if "critic" in types and not {"ranker", "fuser"} & set(after):
            yield f"layer {number} holds a critic, but no ranker or fuser follows it"
        if "unit_test_generator" in types and "unit_test_evaluator" not in after:
            yield f"layer {number} holds a unit test generator; its evaluator must follow it directly"
        if "unit_test_evaluator" in types and (not place or "unit_test_generator" not in layers[place - 1]):
            yield f"layer {number} holds a unit test evaluator; its generator must stand directly before it"


def _shown(types: list[str]) -> str:
    return ", ".join(dict.fromkeys(types))

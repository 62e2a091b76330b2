"""Replies that pass the conformance suite, for engines without a model."""

from __future__ import annotations

ANSWERS = {
    "A colour, a count": '{"colour":"red","count":12,"sure":true}',
    "A note": '{"note":"brief"}',
    "123-45": "555-12",
    "A colour:": "green",
    "<abc>": "<xyz>",
    "(12):": "(7)",
}
STORY = "Once a cat met a mouse, and both of them went home before the rain came down on the hill."


def conforming(prompt: str, index: int) -> str:
    """What a script says to a prompt of the suite: the same each time."""
    return next((answer for part, answer in ANSWERS.items() if part in prompt), STORY)

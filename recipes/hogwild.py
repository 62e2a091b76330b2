"""Hogwild! Inference: workers who see each other's steps while they write them solve a task together (2025)."""

from __future__ import annotations

from typing import Literal, TypeAlias

from ..engines import Member, Sampling, Teamwork
from ..orchestrator import Builder, Graph, Scope, graph
from .prompt import conversation
from .settings import at_least
from .teams import boxed, names_of

HogwildLayout: TypeAlias = Literal["contiguous", "interleaved", "combined"]

CHECK = "Quick check: am I doing redundant work? (yes/no): "


def hogwild(
    *,
    workers: int = 2,
    max_tokens: int = 1024,
    layout: HogwildLayout = "combined",
    check_every: int = 256,
    temperature: float = 0.6,
    top_p: float = 0.95,
    instructions: str = "",
) -> Graph[str]:
    """A graph in which `workers` solve a task side by side, each up to `max_tokens` (arXiv:2504.06261).

    Workers see the tokens that the others write in the same step. A step of thought ends with a blank line after the
    end of a sentence; it then stands in the common history, and the next one is opened with the worker's name. After
    every `check_every` tokens of all (0: never), the next to begin a step is asked whether its work is redundant. A
    worker stops where it begins to state the answer and stays visible to the others; when all have ended, the first
    one, who sees everything, is made to state it. `instructions` stand in place of the prompt that explains this.

    The originals also keep workers from writing `#`, end-of-sequence and end-of-thinking tokens; here such a token ends
    its worker.
    """
    at_least(1, workers=workers, max_tokens=max_tokens)
    names = names_of(workers)
    work = teamwork(layout, check_every)
    sampling = Sampling(temperature=temperature, top_p=top_p)

    async def collaborate(scope: Scope, task: str) -> str:
        shared = await scope.start(conversation("hogwild", task, instructions, names=names))
        members = [
            Member(context=shared, name=name, max_tokens=max_tokens, stop=["\\boxed{"], sampling=sampling)
            for name in names
        ]
        written = await scope.team(members, work, title=f"{workers} workers")
        return await boxed(scope, written[0].context)

    @graph(name="hogwild")
    def build(g: Builder, task: str) -> str:
        return g.drive(collaborate, task=task, needs=[f"team:{layout}"])

    return build


def teamwork(layout: HogwildLayout, check_every: int) -> Teamwork:
    """How workers see each other; only the combined layout has parts to put headers on."""
    combined = layout == "combined"
    return Teamwork(
        layout=layout,
        same_step=True,
        step_end="\n\n",
        step_after=".?!:)]}*\"'",
        step_header="**{name} [{step}]:** ",
        past_header="\n\n### Past steps\n\n" if combined else "",
        others_header="### Work in progress (others)\n\n" if combined else "",
        own_header="\n\n<...>\n\n### Work in progress (own)\n\n" if combined else "",
        check=CHECK if check_every else "",
        check_every=check_every,
    )

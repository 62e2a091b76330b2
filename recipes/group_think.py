"""Group Think: thinkers who see each other's lines token by token share out the work on a task (2025)."""

from __future__ import annotations

from ..engines import Member, Sampling, Teamwork
from ..orchestrator import Builder, Graph, Scope, graph
from .prompt import conversation
from .settings import at_least
from .teams import boxed, names_of

HEADER_ROOM = 16
"""Positions of a slot for the line's opening, beside what is generated."""


def group_think(
    *,
    thinkers: int = 4,
    max_tokens: int = 256,
    temperature: float = 0.6,
    top_p: float = 0.95,
    instructions: str = "",
) -> Graph[str]:
    """A graph in which `thinkers` think about a task side by side, each up to `max_tokens` (arXiv:2505.11107).

    A thinker's next token sees what all others wrote up to the step before. Each has a slot of positions after the task
    and stays in it. A thinker stops where it begins to state the answer; when all have ended, the first one, who sees
    all lines, is made to state it. `instructions` stand in place of the prompt that explains this.
    """
    at_least(1, thinkers=thinkers, max_tokens=max_tokens)
    names = names_of(thinkers)
    work = teamwork(max_tokens)
    sampling = Sampling(temperature=temperature, top_p=top_p)

    async def think(scope: Scope, task: str) -> str:
        shared = await scope.start(conversation("group_think", task, instructions, names=names))
        members = [
            Member(context=shared, name=name, max_tokens=max_tokens, stop=["\\boxed{"], sampling=sampling)
            for name in names
        ]
        written = await scope.team(members, work, title=f"{thinkers} thinkers")
        return await boxed(scope, written[0].context)

    @graph(name="group_think")
    def build(g: Builder, task: str) -> str:
        return g.drive(think, task=task, needs=["team:tokenwise"])

    return build


def teamwork(max_tokens: int) -> Teamwork:
    """How thinkers see each other: a slot each, and the others' tokens of the steps before."""
    return Teamwork(layout="tokenwise", same_step=False, step_header="\n**{name}:** ", slot=max_tokens + HEADER_ROOM)

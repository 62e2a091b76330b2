"""Annotation: a model says which calls of a trajectory need which others (Divide-Then-Aggregate, 2025)."""

from __future__ import annotations

from ...engines import GREEDY, Message, Regex, Sampling
from ...errors import DataError, FormatError
from ...orchestrator import Builder, Graph, Scope, graph
from ..prompt import conversation
from ..settings import at_least
from .call_graph import CallGraph
from .trajectory import Trajectory

EDGES = Regex(r"[0-9]+->[0-9]+(, ?[0-9]+->[0-9]+)*")
AGAIN = Sampling(temperature=0.7)


def annotate(*, retries: int = 2, max_tokens: int = 512) -> Graph[str]:
    """A graph that gives the edge string of a trajectory (as JSON text, see `Trajectory.as_json`).

    Edges that make no graph (a cycle, a second sink, no such number) are refused: the model is told why, and asked
    again at most `retries` times. Raises FormatError after that.
    """
    at_least(0, retries=retries)
    at_least(1, max_tokens=max_tokens)

    async def ask(scope: Scope, trajectory: str) -> str:
        done = Trajectory.read_json(trajectory)
        context = await scope.start(conversation("dta_edges", f"Task: {done.task}\n{done.text()}"))
        why = ""
        for again in range(retries + 1):
            sampling, grammar = (AGAIN if again else GREEDY), scope.supported(EDGES)
            written = await scope.generate(
                context, title=f"try {again + 1}", max_tokens=max_tokens, grammar=grammar, sampling=sampling
            )
            try:
                return CallGraph.parse(written.text.strip(), len(done.steps) + 1).text
            except DataError as error:
                why = str(error)
            context = await scope.extend(written.context, [Message("user", f"{why}. Write the edges again.")])
        raise FormatError(f"no graph of the calls came in {retries + 1} tries: {why}")

    @graph(name="annotate")
    def build(g: Builder, trajectory: str) -> str:
        return g.drive(ask, trajectory=trajectory)

    return build

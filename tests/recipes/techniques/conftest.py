"""A scripted proposer and judges of whom the best answer is known, for the tests of techniques."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from plait.engines.scripted import Reply, ScriptedEngine
from plait.orchestrator import Graph
from plait.recipes.techniques import Result

PARTS = {
    "Judge an answer": "judge",
    "Rank ": "rank",
    "Which of two": "compare",
    "Criticise": "critique",
    "Write the best answer": "fuse",
    "Check an answer": "verify",
    "By your reasoning": "verdict",
    "Write at most": "write_tests",
    "Does an answer": "judge_tests",
    "Improve an answer": "refine",
    "Say what is still": "feedback",
    "Now write the improved": "rewrite",
}
"""What the prompts of judges begin with; all others propose."""


@dataclass
class World:
    """A scripted engine that proposes `drafts` in turn and answers judges by functions of the prompt."""

    drafts: list[str]
    says: Mapping[str, Callable[[str], str]] = field(default_factory=dict)
    latency: float = 0.0
    asked: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.engine = ScriptedEngine(self.reply, score=self.score)

    def reply(self, prompt: str, number: int) -> Reply:
        part = self.part(prompt)
        self.asked[part] += 1
        said = self.says[part](prompt) if part in self.says else self.drafts[self.asked[part] - 1]
        return Reply(said, latency=self.latency)

    def score(self, prompt: str, continuation: str) -> float:
        self.asked["score"] += 1
        return self.says["score"](prompt + continuation) == "good" or -1.0

    @staticmethod
    def part(prompt: str) -> str:
        """Who is asked, by the last message."""
        last = prompt.rpartition("<|user|>")[2]
        return next((part for words, part in PARTS.items() if last.startswith(words)), "propose")

    async def run(self, graph: Graph[Result], task: str = "the task", **options: Any) -> Result:
        self.asked.clear()
        return await graph.run(task, engine=self.engine, **options)


@pytest.fixture
def propose() -> type[World]:
    """`propose(drafts, says)`."""
    return World


@pytest.fixture
def anyio_backend() -> str:
    """Trio starts tasks in any order, on purpose; here drafts are told apart by their turn."""
    return "asyncio"

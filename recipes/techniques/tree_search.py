"""Tree search: one driver for all algorithms; it grows the thoughts that they ask for on forks of one context."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from ...engines import Context, Grammar, GrammarState, Message, Stop
from ...orchestrator import Scope
from ..prompt import source
from ..settings import at_least
from .answers import answer_of
from .expected import Expected
from .generate import opening
from .result import Candidate, Result
from .score import ByStep, Check, Checked, Judge, Reward, Scorer
from .stage import Stage
from .tree import ROOT, Thought, Tree


@dataclass(frozen=True, slots=True)
class Grown:
    """A new step: its text, the context that ends with it, and whether the answer ends there."""

    text: str
    context: Context
    grammar: GrammarState | None
    finished: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeSearch(Stage):
    """A search over the steps of an answer. An algorithm is two methods on a tree that is data: `ask` and `tell`.

    A step ends at `step`, or with the answer; an answer is one that ends by itself, holds a match of `answer`, or has
    `depth` steps. Each expansion draws `width` steps at `temperature` from the thought's own context, which nothing is
    added to: no token is encoded twice. `value` says who judges partial answers (`judge` is that model's role), unless
    `check` is given. At most `expansions` are made. Finished answers are the candidates, the best first; where there
    are none, the best unfinished one is.
    """

    width: int = 3
    depth: int = 8
    expansions: int = 32
    step: Sequence[Stop] = ("\n\n",)
    answer: str = ""
    temperature: float = 0.7
    max_tokens: int = 256
    grammar: Grammar | None = None
    value: ByStep = "judge"
    judge: str = ""
    check: Check | None = None

    def __post_init__(self) -> None:
        at_least(1, width=self.width, depth=self.depth, expansions=self.expansions, max_tokens=self.max_tokens)

    @abstractmethod
    def ask(self, tree: Tree) -> list[int]:
        """The thoughts to expand next, side by side; one that stands there twice is expanded twice. Empty: the end."""

    @abstractmethod
    def tell(self, tree: Tree, grown: Sequence[Thought]) -> None:
        """Take note of thoughts that were grown, each with its value."""

    @property
    def steps(self) -> int:
        """How many steps an expansion draws."""
        return self.width

    async def work(self, scope: Scope, given: Result) -> Result:
        tree = Tree(scope.seed)
        contexts: dict[int, tuple[Context, Grammar | GrammarState | None]] = {
            ROOT: (await scope.start(opening(given, self.prompt), adapter=self.model), self._grammar(scope))
        }
        while asked := self.ask(tree)[: self.expansions - tree.expansions]:
            tree.expansions += len(asked)
            children = [
                (f"expand {index}", partial(self._expand, given=given, tree=tree, index=index, at=contexts[index]))
                for index in asked
            ]
            told = []
            for index, grown in zip(asked, await scope.gather(children, kind="expand"), strict=True):
                for step, value in grown:
                    thought = tree.add(index, step.text, value, finished=step.finished)
                    contexts[thought.index] = (step.context, step.grammar)
                    told.append(thought)
            self.tell(tree, told)
            scope.offer(self._result(given, tree))
        for context, _ in contexts.values():
            context.release()
        scope.emit("thoughts", len(tree.thoughts) - 1)
        return self._result(given, tree)

    def foresee(self, given: Expected) -> Expected:
        """All expansions, each step judged by one call."""
        steps = self.expansions * self.steps
        asked = given.ask(given.task + Expected.of_text(self.prompt), 0, 1, samples=0)
        grown = asked.ask(0, self.max_tokens, self.expansions, samples=self.steps)
        prompt, tokens = self.scorer.expect(replace(grown, length=self.max_tokens * self.depth))
        judged = grown.ask(prompt, tokens, steps if tokens else 0)
        return judged.holding(steps, self.max_tokens * self.depth)

    @property
    def scorer(self) -> Scorer:
        """Who judges partial answers."""
        if self.check is not None:
            return Checked(check=self.check)
        if self.value == "reward":
            return Reward(model=self.judge)
        return Judge(model=self.judge, prompt=source("techniques/process"))

    def _grammar(self, scope: Scope) -> Grammar | None:
        return scope.supported(self.grammar) if self.grammar else None

    async def _expand(
        self,
        scope: Scope,
        *,
        given: Result,
        tree: Tree,
        index: int,
        at: tuple[Context, Grammar | GrammarState | None],
    ) -> list[tuple[Grown, float]]:
        """New steps after a thought, side by side, each with its value."""
        context, grammar = at
        if index != ROOT and (said := self.between(tree, index)):
            context, grammar = await scope.extend(context, [Message("user", said)]), self._grammar(scope)
        job = partial(self._step, given=given, before=self.before(tree, index), context=context, grammar=grammar)
        children = [
            (f"step {number}", partial(job, depth=tree[index].depth + 1)) for number in range(1, self.steps + 1)
        ]
        grown = await scope.gather(children, kind="step")
        if context is not at[0]:
            context.release()
        return grown

    def between(self, tree: Tree, index: int) -> str:
        """What is said before a thought is gone on from; nothing, unless a search has whole answers for steps."""
        return ""

    async def _step(
        self,
        scope: Scope,
        *,
        given: Result,
        before: str,
        context: Context,
        grammar: Grammar | GrammarState | None,
        depth: int,
    ) -> tuple[Grown, float]:
        written = await scope.generate(
            context, max_tokens=self.max_tokens, stop=self.step, grammar=grammar, sampling=self.sampling
        )
        text = before + written.text
        ends = written.finish in ("eos", "grammar", "window") or (self.answer and answer_of(text, self.answer) != "")
        grown = Grown(written.text, written.context, written.grammar, bool(ends) or depth >= self.depth)
        return grown, worth(self.scorer, await self.scorer.score(scope, given, text))

    def _result(self, given: Result, tree: Tree) -> Result:
        """Finished answers, the best first; those left unfinished are rejected."""
        done = self.rank(tree, tree.finished)
        open_ = self.rank(tree, [index for index in tree.leaves if index != ROOT])
        chosen, left = (done, open_) if done else (open_[:1], open_[1:])
        return replace(
            given,
            candidates=tuple(self._candidate(tree, index) for index in chosen),
            rejected=(*given.rejected, *(self._candidate(tree, index) for index in left)),
        )

    def _candidate(self, tree: Tree, index: int) -> Candidate:
        return Candidate(self.text(tree, index), score=tree[index].value, model=self.model)

    def rank(self, tree: Tree, indices: Sequence[int]) -> list[int]:
        """Thoughts from the best to the worst."""
        return tree.best_first(indices)

    def text(self, tree: Tree, index: int) -> str:
        """The answer that a thought stands for."""
        return tree.text(index)

    def before(self, tree: Tree, index: int) -> str:
        """What a new step after a thought is read with."""
        return tree.text(index)


def worth(scorer: Scorer, score: float) -> float:
    """A score on the scale from 0 to 1: a judge's out of ten, a reward's log-odds as a probability, a check's as it is.

    A check's beyond the scale is held to it.
    """
    if isinstance(scorer, Judge):
        return score / 10.0
    if isinstance(scorer, Reward):
        return 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, score))))
    return max(0.0, min(1.0, score))

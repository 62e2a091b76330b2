"""Selection with more than the candidates: by a checklist (CHOPS), and by agreement with evidence (X-MBR) (2025)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import ClassVar

from ...orchestrator import Scope
from ..prompt import render
from ..settings import at_least
from .expected import Expected
from .rank import shown
from .reading import read_ranking, read_score
from .result import Result
from .score import HIGH, LOW, kept
from .stage import Stage, answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Checklist(Stage):
    """CHOPS (Khairi et al., arXiv:2506.20544): one call writes a checklist from the task, one selects by it.

    The selected candidate stands first; what else the call ranks follows.
    """

    kind: ClassVar[str] = "checklist"

    keep: int = 0

    async def work(self, scope: Scope, given: Result) -> Result:
        if len(given.candidates) < 2:
            return given
        listed = await self.reply(scope, given, self.say(given), title="checklist")
        text = render("techniques/select", task=given.task, checklist=listed, candidates=shown(given, critiques=False))
        count = len(given.candidates)
        places = read_ranking(await self.reply(scope, given, text, title="select"), count)
        ranks = {place: float(count - rank) for rank, place in enumerate(places, 1)}
        return given.scored([ranks[place] for place in range(count)]).keep(places, self.keep)

    def foresee(self, given: Expected) -> Expected:
        asks = int(given.candidates > 1)
        listed = given.ask(self.length + given.task, self.max_tokens, asks)
        asked = listed.ask(given.shown + self.max_tokens, self.max_tokens, asks)
        return replace(asked, candidates=kept(given.candidates, self.keep))


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement(Stage):
    """X-MBR (Khairi et al., arXiv:2506.20544): the candidate that agrees best with all samples (minimum Bayes risk).

    Beside the other candidates there is evidence: a sample in each of `languages`, which can't be selected. A judge
    says how far each candidate agrees with each of these, all side by side; a score is the mean, from 0 to 10.
    """

    kind: ClassVar[str] = "agreement"

    languages: Sequence[str] = ("French", "Spanish")
    keep: int = 0
    evidence_temperature: float = 0.7

    def __post_init__(self) -> None:
        at_least(0, languages=len(self.languages))

    async def work(self, scope: Scope, given: Result) -> Result:
        samples = [(language, partial(self._sample, given=given, language=language)) for language in self.languages]
        evidence = await scope.gather(samples, kind="evidence")
        texts = [candidate.text for candidate in given.candidates]
        pairs = [
            (place, other)
            for place, other in product(range(len(texts)), range(len(texts) + len(evidence)))
            if place != other
        ]
        against = [*texts, *evidence]
        judges = [
            (f"{place + 1} with {other + 1}", partial(self._agree, given=given, one=texts[place], other=against[other]))
            for place, other in pairs
        ]
        agreed = dict(zip(pairs, await scope.gather(judges, kind="pair"), strict=True))
        means = [
            sum(score for (one, _), score in agreed.items() if one == place) / max(1, len(against) - 1)
            for place in range(len(texts))
        ]
        return given.scored(means).best_first(scope.seed, self.keep)

    def foresee(self, given: Expected) -> Expected:
        sampled = given.ask(given.task, self.max_tokens, len(self.languages))
        pairs = given.candidates * (given.candidates - 1 + len(self.languages))
        asked = sampled.ask(self.length + given.task + 2 * given.length, self.max_tokens, pairs)
        return replace(asked, candidates=kept(given.candidates, self.keep))

    async def _sample(self, scope: Scope, *, given: Result, language: str) -> str:
        text = render("techniques/evidence", task=given.task, language=language)
        drawn = replace(self, temperature=self.evidence_temperature)
        return await answer(scope, self.asking(given, text), drawn)

    async def _agree(self, scope: Scope, *, given: Result, one: str, other: str) -> float:
        said = await self.reply(scope, given, self.say(given, one=one, other=other))
        return read_score(said, LOW, HIGH) or 0.0

"""The conversation of a model with its tools, turn by turn, in any format: the one driver of agents."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

from ..engines import GREEDY, Context, Generation, Grammar, Message, Prompt, Sampling
from ..errors import CutError, FormatError
from ..orchestrator import Scope
from ..tools import ToolBox
from .calls import Calls, calls_of
from .formats import Answer, Format, GiveUp, Ids, Move, ToolCall
from .readers import Readers

AGAIN = Sampling(temperature=0.7)
"""How text that broke the format is written anew: greedily it would break again."""
OBSERVATION = 1024
"""Tokens of a result that the model is shown (DTA-Llama cuts observations at 1,024)."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a conversation may come to: turns, tokens of a turn and of a result, how often a broken turn is written
    again, how often all begins anew, and how many calls each beginning may make (0: as many as it likes)."""

    turns: int
    tokens: int
    observation: int = OBSERVATION
    retries: int = 0
    restarts: int = 0
    calls: int = 0


async def solve(
    scope: Scope, task: str, form: Format, box: ToolBox, bounds: Bounds, readers: Readers | None = None
) -> str:
    """The answer. `readers` read what the calls of their tool find. Raises FormatError where there is none."""
    for number in range(1 + bounds.restarts * form.restarts):
        with scope.grow("attempt", f"attempt {number + 1}") if form.restarts else nullcontext(scope) as trial:
            end = await converse(trial, task, form, box, bounds, readers and replace(readers))
        if end is None:
            raise FormatError(f"no answer within max_{form.turn}s={bounds.turns}")
        if isinstance(end, Answer):
            return end.text
    raise FormatError(f"gave up {bounds.restarts + 1} times (max_restarts={bounds.restarts})")


async def converse(
    scope: Scope, task: str, form: Format, box: ToolBox, bounds: Bounds, readers: Readers | None = None
) -> Answer | GiveUp | None:
    """How one conversation has ended; None where it hasn't, and the format can't force an answer.

    A call is made as soon as its text is complete, while the turn goes on, and results are written back together, in
    the calls' order. An answer is forced after the last turn, and after one that has asked for more calls than are
    allowed. Raises FormatError for a turn that breaks the format, and CutError for one that is cut.
    """
    context = await scope.start(form.opening(task, box))
    async with calls_of(
        box, repeats=form.repeats, observation=bounds.observation, most=bounds.calls, readers=readers
    ) as calls:
        talk = _Talk(scope, form, _grammar(scope, form, box), calls, bounds)
        for number in range(1, bounds.turns + 1):
            if readers is not None:
                readers.context = context
            written, end = await talk.turn(context, f"{form.turn} {number}")
            results = await calls.results(scope)
            if end is not None:
                return end
            context = await scope.extend(written.context, _clean(form.write(results)))
            if calls.spent and form.force:
                break
        return await talk.forced(context)


def _grammar(scope: Scope, form: Format, box: ToolBox) -> Grammar | None:
    """The format's grammar, if it has one and the engine can hold to it."""
    grammar = form.grammar(box)
    return scope.supported(grammar) if grammar is not None else None


@dataclass(slots=True)
class _Talk:
    """What stays the same over a conversation's turns."""

    scope: Scope
    form: Format
    grammar: Grammar | None
    calls: Calls
    bounds: Bounds

    async def turn(self, context: Context, title: str) -> tuple[Generation, Answer | GiveUp | None]:
        """One turn, and whether it ends the conversation. Its calls have begun. A turn that breaks the format is
        written again."""
        for left in range(self.bounds.retries, -1, -1):
            try:
                return await self._write(context, title, GREEDY if left == self.bounds.retries else AGAIN)
            except FormatError as error:
                if not left or isinstance(error, CutError):
                    raise FormatError(f"{title}: {error}") from error
                self.calls.rewind()
                self.scope.emit("mended", f"{title}: {error}; it is written again")
        raise AssertionError  # the last try returns or raises

    async def forced(self, context: Context) -> Answer | GiveUp | None:
        """The answer that the format forces, as far as it can."""
        force = self.form.force
        if not force:
            return None
        parser = self.form.parser(Ids())
        context = await self.scope.extend(context, force)
        if isinstance(force, str):
            parser.feed(force)
        written = await self.scope.generate(
            context,
            title="forced answer",
            max_tokens=self.bounds.tokens,
            stop=[*self.form.stop, *self.form.force_stop],
        )
        why = f"no answer within {self.bounds.turns} turns, and none when it was asked for"
        try:
            moves = [*parser.feed(written.text), *parser.end()]
        except FormatError as error:
            raise FormatError(f"{why}: {error}") from error
        ends = [move for move in moves if isinstance(move, Answer)]
        if not ends:
            raise FormatError(why)
        return ends[0]

    async def _write(
        self, context: Context, title: str, sampling: Sampling
    ) -> tuple[Generation, Answer | GiveUp | None]:
        parser = self.form.parser(Ids())
        end: Answer | GiveUp | None = None
        stream = self.scope.stream(
            context,
            title=title,
            max_tokens=self.bounds.tokens,
            stop=self.form.stop,
            grammar=self.grammar,
            sampling=sampling,
        )
        async with stream:
            async for chunk in stream:
                end = end or self._take(parser.feed(chunk.text))
        if end is None and stream.result.finish in ("length", "window"):
            raise CutError(f"the turn was cut ({stream.result.finish}); raise max_tokens={self.bounds.tokens}?")
        end = end or self._take(parser.end())
        return stream.result, end

    def _take(self, moves: Sequence[Move]) -> Answer | GiveUp | None:
        """Begin the calls; the first move that ends the conversation."""
        for move in moves:
            if isinstance(move, ToolCall):
                self.calls.begin(self.scope, move)
        return next((move for move in moves if not isinstance(move, ToolCall)), None)


def _clean(prompt: Prompt) -> Prompt:
    """Without halves of surrogates, which a model can write in JSON but no tokenizer takes."""
    if isinstance(prompt, str):
        return prompt.encode("utf-8", "replace").decode()
    return [Message(message.role, message.content.encode("utf-8", "replace").decode()) for message in prompt]
